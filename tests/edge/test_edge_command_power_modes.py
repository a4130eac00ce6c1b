"""`edge bench --power-mode`: what is asked, measured, written and restored. The measurement itself is a stand-in."""

import json
from pathlib import Path
from typing import Any

import pytest
from board_trees import build
from click.testing import CliRunner, Result

from edge.benchmarks import bundles, power_modes
from edge.commands.bench import command
from edge.deploy.boards import power_mode


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board in the mode 25W; a measurement says which mode it saw."""
    root = build(tmp_path, "orin-nano")
    check, restored = power_modes.check_modes, power_modes.restored
    monkeypatch.setattr(power_modes, "check_modes", lambda names, _root=root: check(names, root))
    monkeypatch.setattr(power_modes, "restored", lambda names, _root=root, **named: restored(names, root, **named))

    def measure(*_: Any, **__: Any) -> dict[str, Any]:
        return {"warnings": [f"in {power_mode(root)}"], "machine": {"power_mode": power_mode(root)}}

    monkeypatch.setattr(bundles, "bench_bundles", measure)
    return root


def run(*arguments: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(command, ["bundle", *map(str, arguments)], input=answer)


def test_one_report_for_each_mode_and_the_first_mode_again(board: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    result = run("--power-mode", "15W,MAXN_SUPER", "--yes", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    reports = json.loads(result.stdout)["power_modes"]
    assert {mode: report["machine"]["power_mode"] for mode, report in reports.items()} == {
        "15W": "15W", "MAXN_SUPER": "MAXN_SUPER",
    }  # fmt: skip
    written = sorted(path.name for path in tmp_path.glob("report*"))
    assert written == ["report.15W.json", "report.MAXN_SUPER.json"]
    assert json.loads((tmp_path / "report.15W.json").read_text()) == reports["15W"]
    assert power_mode(board) == "25W"
    assert "power mode 25W, as it was" in result.stderr


def test_nothing_is_changed_without_a_yes(board: Path) -> None:
    refused = run("--power-mode", "15W", "--json", answer="n\n")
    assert refused.exit_code == 1
    assert "Change this board's power mode to 15W, and back to 25W at the end?" in refused.stderr
    assert refused.stdout == ""
    assert not (board / "nvpmodel.log").exists()
    assert run("--power-mode", "15W", "--json", answer="").exit_code == 1, "nobody is there to answer"
    accepted = run("--power-mode", "15W", "--json", answer="y\n")
    assert accepted.exit_code == 0
    assert list(json.loads(accepted.stdout)["power_modes"]) == ["15W"]


def test_a_measurement_that_fails_leaves_the_mode_as_it_was(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles, "bench_bundles", fail)
    result = run("--power-mode", "15W", "--yes", "--json")
    assert result.exit_code == 1
    assert (board / "nvpmodel.log").read_text().split("\n")[:2] == ["set 0", "set 1"]
    assert power_mode(board) == "25W"


def test_a_mode_that_the_board_lacks_is_named_and_nothing_is_asked(board: Path) -> None:
    result = run("--power-mode", "30W")
    assert result.exit_code == 2
    assert "no power mode '30W'; it has 15W, 25W, MAXN_SUPER, 7W" in result.stderr
    assert power_mode(board) == "25W"


def test_without_the_option_there_is_one_report_and_no_nvpmodel(board: Path, tmp_path: Path) -> None:
    result = run("--json", "--out", tmp_path / "one.json")
    assert json.loads(result.stdout)["machine"]["power_mode"] == "25W"
    assert (tmp_path / "one.json").exists()
    assert not (board / "nvpmodel.log").exists()


def test_off_a_jetson_the_option_ends_with_5() -> None:
    result = run("--power-mode", "15W", "--yes")
    assert result.exit_code == 5
    assert "nvpmodel, which comes with JetPack" in result.stderr
