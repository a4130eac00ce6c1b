"""The device runtime on aarch64 (emulated): does a bundle say the same there as on this x86-64 machine?

    python -m edge.benchmarks.aarch64 FOLDER --bundle BUNDLE --data RUN/test --out benchmarks/results/aarch64.json

FOLDER is what benchmarks/aarch64.sh makes. The wheels are those that `edge pack --wheels` collects, installed for
there from the pack alone; then `edge doctor`, `verify`, `predict` and `bench` run there as a user runs them. INT8 is
compared by the integers that every quantizer gives (at most one step apart), predictions by the bounds of `verify`.
Emulated times say nothing about hardware: `edge bench` must run, its times are not kept.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.deploy.bundle import Bundle, open_bundle
from edge.deploy.pack import write_pack
from edge.deploy.verify import agree
from edge.deploy.wheels import Device
from edge.errors import GateError, InputError
from edge.files import write_json

DEVICE = Device("3.11", "manylinux_2_28_aarch64")  # Debian bookworm's Python; its glibc is 2.36


def main() -> None:
    """Install, run, compare, write; GateError if anything differs by more than a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", type=Path, action="append", required=True)
    parser.add_argument("--data", type=Path, help="test data as `edge bench` takes it; else golden inputs")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = run(arguments.folder, arguments.bundle, arguments.data)
    if arguments.out:
        write_json(arguments.out, found)
    print(json.dumps(found, indent=2))
    check(found)


def run(folder: Path, bundles: list[Path], data: Path | None = None) -> dict[str, Any]:
    """Install the runtime into the emulated system `folder` and run each bundle here and there."""
    python, emulator = folder / "python", folder / "qemu/usr/bin/qemu-aarch64"
    if not python.exists():
        raise InputError(f"{folder} is no emulated system; benchmarks/aarch64.sh {folder} makes it")
    install(folder, bundles[0])
    about = json.loads(_run([python, "-P", "-m", "edge"], "doctor", "--json"))
    here = {name: metadata.version(name) for name in ("numpy", "onnxruntime")}
    return {
        "schema": "edge.aarch64/1",
        "emulator": _run([emulator], "--version").splitlines()[0],
        "machine": _run([python], "-c", "import platform as p; print(p.machine(), *p.libc_ver())").strip(),
        "there": {"python": about["python"], "packages": {k: v for k, v in about["packages"].items() if v}},
        "here": {"machine": platform.machine(), "python": platform.python_version(), "packages": here},
        "times": "emulated, and not recorded",
        "bundles": [compare(python, open_bundle(path), data) for path in bundles],
    }


def install(folder: Path, bundle: Path) -> None:
    """Install edge with ONNX Runtime from a pack's wheels, with no index to fall back on.

    pip runs here, for the other platform: under emulation it takes minutes.
    """
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        pack = Path(temporary) / "pack"
        write_pack(pack, bundle, device=DEVICE)
        for_device = ["--python-version", DEVICE.python, "--implementation", "cp", "--only-binary=:all:"]
        for name in DEVICE.platforms:
            for_device += ["--platform", name]
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
            "--no-index", "--find-links", pack / "wheels", *for_device, "--target", site, "edge-colearn[cpu]",
        ]  # fmt: skip
        _run(command)


def compare(python: Path, bundle: Bundle, data: Path | None) -> dict[str, Any]:
    """`verify`, `predict` and `bench` of one bundle over there, and how far its outputs are from those here."""
    found: dict[str, Any] = {"bundle": bundle.folder.name}
    checks = json.loads(_run([python, "-P", "-m", "edge"], "verify", bundle.folder, "--json"))["checks"]
    found["verify"] = {check["name"]: check["passed"] for check in checks}
    with tempfile.TemporaryDirectory() as temporary:
        samples = Path(temporary) / "samples.npz"
        values: dict[str, Any] = {bundle.modality.name: _inputs(bundle, data)}
        np.savez(samples, **values)
        found["predict"] = {}
        for precision in ("fp32", "int8"):
            programs: list[list[Any]] = [[python, "-P", "-m", "edge"], [sys.executable, "-m", "edge"]]
            outs = Path(temporary) / f"there.{precision}.npz", Path(temporary) / f"here.{precision}.npz"
            for program, out in zip(programs, outs, strict=True):
                _run(program, "predict", bundle.folder, samples, "--precision", precision, "-o", out)
            found["predict"][precision] = _difference(bundle, precision, *outs)
        found["int8_codes"] = codes(python, bundle.graph_for("int8"), samples, Path(temporary))
    options = [*(["--data", data] if data else []), "--batch", "1", "--scenario", "", "--seconds", "0.1", "--json"]
    report = json.loads(_run([python, "-P", "-m", "edge"], "bench", bundle.folder, *options))
    found["bench"] = [{key: row[key] for key in ("precision", "engine", "metric")} for row in report["results"]]
    return found


# Run there and here: graph, samples and where the values of the graph's outputs go.
_OUTPUTS = """
import sys, numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
with np.load(sys.argv[2]) as samples:
    values = session.run(None, {session.get_inputs()[0].name: samples[samples.files[0]].astype(np.float32)})
np.savez(sys.argv[3], **{f"output{i}": value for i, value in enumerate(values)})
"""


def codes(python: Path, graph: Path, samples: Path, folder: Path) -> dict[str, Any]:
    """The integers that every quantizer of the graph gives, there against here, in steps of the quantizer.

    The head is a float layer, so that the prediction has no step of its own: the codes are what INT8 can differ in.
    """
    import onnx

    model = onnx.load(graph)
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    zero_types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    del model.graph.output[:]
    for node in quantizers:
        model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], zero_types[node.input[2]], None))
    opened, there, here = folder / "codes.onnx", folder / "codes.there.npz", folder / "codes.here.npz"
    onnx.save(model, str(opened))
    _run([python, "-c", _OUTPUTS], opened, samples, there)
    _run([sys.executable, "-c", _OUTPUTS], opened, samples, here)
    with np.load(there) as ours, np.load(here) as theirs:
        steps = [np.abs(ours[name].astype(int) - theirs[name].astype(int)) for name in ours.files]
    values = int(sum(step.size for step in steps))
    different = int(sum(np.count_nonzero(step) for step in steps))
    largest = int(max(step.max() for step in steps))
    return {"quantizers": len(steps), "values": values, "different": different, "largest_steps": largest}


def check(found: dict[str, Any]) -> None:
    """Raise GateError unless outputs agree: INT8 codes within one step, predictions within `edge verify`'s bounds."""
    failed = []
    for entry in found["bundles"]:
        name, largest = entry["bundle"], entry["int8_codes"]["largest_steps"]
        failed += [f"{name}: INT8 codes differ by {largest} steps"] if largest > 1 else []
        failed += [f"{name}: {key} {row['detail']}" for key, row in entry["predict"].items() if not row["agrees"]]
        failed += [f"{name}: verify {key}" for key, passed in entry["verify"].items() if passed is False]
        failed += [] if {row["precision"] for row in entry["bench"]} == {"fp32", "int8"} else [f"{name}: bench"]
    if failed:
        raise GateError("aarch64 and x86-64 differ: " + "; ".join(failed))


def _difference(bundle: Bundle, precision: str, there: Path, here: Path) -> dict[str, Any]:
    with np.load(there) as ours, np.load(here) as theirs:
        found, expected = ours["prediction"], theirs["prediction"]
    agrees, detail = agree("fp32" if precision == "fp32" else "int8.cpu", bundle.task, expected, found)
    return {
        "samples": len(found),
        "bit_equal": bool(np.array_equal(found, expected)),
        "largest_difference": float(np.abs(found.astype(float) - expected).max()),
        "spread": float(expected.std()),
        "agrees": agrees,
        "detail": detail,
    }


def _inputs(bundle: Bundle, data: Path | None) -> npt.NDArray[Any]:
    """Test samples of the bundle's modality, or its golden inputs."""
    if data is None:
        return bundle.golden()["input"]
    path = data / f"{bundle.modality.name}.npz" if data.is_dir() else data
    with np.load(path) as archive:
        return np.asarray(archive[bundle.modality.name], np.float32)


def _run(program: list[Any], *words: Any) -> str:
    """What the program says on stdout; its own words if it fails."""
    done = subprocess.run([*map(str, program), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise GateError(f"{[*program, *words][:4]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    main()
