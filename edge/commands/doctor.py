"""`edge doctor`."""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import click

# Package -> (what it is for, the line that installs it). Asked by name only: nothing is imported.
PACKAGES = {
    "numpy": ("everything", "pip install edge-colearn"),
    "onnxruntime": ("predict, verify, bench on a CPU", "pip install 'edge-colearn[cpu]'"),
    "tensorrt": (
        "engines on NVIDIA boards",
        "on Jetson it comes with JetPack; else pip install 'edge-colearn[tensorrt]'",
    ),
    "torch": ("train, compress", "pip install 'edge-colearn[train]'"),
    "nncf": ("compress", "pip install 'edge-colearn[compress]'"),
    "onnx": ("compress, layers in inspect", "pip install 'edge-colearn[compress]'"),
    "jsonschema": ("card schemas in verify", "pip install 'edge-colearn[card]'"),
}
# Instructions that decide how fast INT8 is, and the float baseline: x86, then ARM.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(as_json: bool) -> None:
    """Show what is installed, which processor and board this is, and the line that installs what is missing.

    \b
    Example:
      edge doctor
    """
    facts = examine()
    click.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))


def examine(root: Path = Path("/")) -> dict[str, Any]:
    """Facts about this machine; `root` is where proc and etc are."""
    from edge import __version__
    from edge.deploy.devices import jetpack_of, l4t_release

    cpu = _read(root / "proc/cpuinfo")
    l4t = l4t_release(root)
    jetpack = jetpack_of(l4t) if l4t else None
    versions = {name: _version(name) for name in PACKAGES}
    flags = set((_value(cpu, "flags") or _value(cpu, "Features") or "").split())
    return {
        "edge": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "cpu": _value(cpu, "model name") or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "board": _read(root / "proc/device-tree/model").rstrip("\0\n") or None,
        "l4t": l4t,
        "jetpack": jetpack.version if jetpack else None,
        "missing": [
            {"package": name, "for": PACKAGES[name][0], "install": PACKAGES[name][1]}
            for name, version in versions.items()
            if version is None
        ],
    }


def as_text(facts: dict[str, Any]) -> str:
    """The report for people."""
    board = facts["board"] or "none"
    if facts["l4t"]:
        board += f", L4T {facts['l4t']} (JetPack {facts['jetpack'] or 'unknown'})"
    lines = [
        f"edge     {facts['edge']}, Python {facts['python']}",
        f"cpu      {facts['cpu']}: {' '.join(facts['flags']) or 'no flag that we know'}",
        f"board    {board}",
        "packages " + ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version),
    ]
    lines += [f"missing  {entry['package']} ({entry['for']}): {entry['install']}" for entry in facts["missing"]]
    return "\n".join(lines if facts["missing"] else [*lines, "nothing is missing"])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _version("onnxruntime-gpu") if package == "onnxruntime" else None  # the same import under another name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _value(text: str, key: str) -> str | None:
    """The first `key : value` of /proc/cpuinfo."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
