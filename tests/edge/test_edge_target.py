"""What `--target` means for the bundle's name, the precision, and the command that comes next."""

from pathlib import Path

import pytest

from edge.errors import InputError
from edge.target import TARGETS, bundle_name, default_precision, next_command, target_named


def test_targets_are_the_boards_of_edge_devices() -> None:
    assert {"cpu", "jetson-orin-nano", "jetson-agx-orin", "jetson-thor"} <= set(TARGETS)
    assert target_named("jetson-orin-nx-16gb").target == "jetson-orin-nx"


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-agx-xavier"])
def test_boards_whose_python_is_too_old_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"has no JetPack with Python 3\.10"):
        target_named(name)


def test_a_cpu_is_asked_for_a_precision_and_a_board_finds_out() -> None:
    assert [default_precision(target) for target in ("cpu", "jetson-orin-nano")] == ["fp32", "auto"]


@pytest.mark.parametrize(
    ("precision", "target", "command"),
    [
        ("int8", "cpu", None),
        ("int8", "jetson-orin-nano", "edge engine sar-int8-jetson-orin-nano --data sar.npz"),
        ("auto", "jetson-thor", "edge engine sar-auto-jetson-thor --data sar.npz"),
        ("fp16", "jetson-thor", "edge engine sar-fp16-jetson-thor --data sar.npz --precision fp16"),
    ],
)
def test_the_next_command_times_int8_beside_the_others(precision: str, target: str, command: str | None) -> None:
    folder = Path("runs/edge/bundles") / bundle_name("sar", precision, target)
    assert next_command(folder, "sar", precision, target) == command
