"""What may be imported where: the device has no torch, and `edge --help` is quick."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from edge.cli import main

HEAVY = ("torch", "nncf", "onnx", "jsonschema", "matplotlib", "tqdm", "pyarrow", "rasterio", "tensorrt", "sklearn")


def in_a_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("package", ["edge.deploy", "edge.benchmarks"])
def test_the_device_side_loads_neither_torch_nor_the_training_side(package: str) -> None:
    code = f"""
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
names = [module.name for module in pkgutil.walk_packages(package.__path__, {package + "."!r})]
for name in names:
    importlib.import_module(name)
assert len(names) > 5, names
print(*sorted(sys.modules))
"""
    loaded = in_a_fresh_process(code).split()
    roots = {name.partition(".")[0] for name in loaded}
    assert roots.isdisjoint(HEAVY)
    assert not [name for name in loaded if name.startswith(("edge.train", "edge.compress"))]


def test_help_answers_without_numpy() -> None:
    code = "import sys\nfrom edge.cli import main\ntry: main(['--help'])\nexcept SystemExit: print(*sys.modules)"
    loaded = in_a_fresh_process(code).splitlines()[-1].split()
    assert {"numpy", *HEAVY}.isdisjoint({name.partition(".")[0] for name in loaded})


def test_help_answers_in_under_three_tenths_of_a_second() -> None:
    """The best of five, as processor time, which is the wall time of a machine without other work."""
    spent = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "edge", "--help"], capture_output=True, check=True)
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(spent) < 0.3, spent


@pytest.mark.parametrize("group", [[], ["data"], ["data", "import"]])
def test_help_says_in_a_line_what_each_command_is_for(group: list[str]) -> None:
    result = CliRunner().invoke(main, [*group, "--help"], terminal_width=80)
    lines = result.output.partition("Commands:\n")[2].splitlines()
    assert len(lines) >= 3
    assert all(line.endswith(".") and not line.endswith("...") for line in lines), result.output
