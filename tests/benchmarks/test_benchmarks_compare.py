import copy
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.benchmarks.compare import Change, compare, parse_condition
from edge.benchmarks.report import Report
from edge.commands.compare import command
from edge.errors import InputError


@pytest.fixture
def slower(report: Report) -> Report:
    """p99 of mdico INT8 at batch 1 up by 10 %, its metric down by 0.6 points."""
    changed = copy.deepcopy(report)
    row = changed["results"][6]
    row["latency_ms"]["p99"] *= 1.1
    row["metric"] -= 0.006
    return changed


def run(tmp_path: Path, before: Report, after: Report, *arguments: str) -> Result:
    paths = []
    for name, report in (("a", before), ("b", after)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(report))
    return CliRunner().invoke(command, [*map(str, paths), *arguments])


@pytest.mark.parametrize(
    ("text", "before", "after", "holds"),
    [
        ("p99>+5%", 1.0, 1.051, True),
        ("p99>+5%", 1.0, 1.049, False),
        ("p99 > 5 %".replace(" %", "%"), 1.0, 1.051, True),
        ("metric<-0.5", 82.0, 81.4, True),
        ("metric<-0.5", 82.0, 81.6, False),
        ("metric<-1%", -10.0, -10.2, True),  # R2 may be negative: worse is still worse
        ("throughput<-.5", 10.0, 9.0, True),
        ("p50>1%", 0.0, 1.0, None),
        ("p50>0", None, 1.0, None),
    ],
)
def test_conditions_on_hand_computed_changes(
    text: str, before: float | None, after: float | None, holds: bool | None
) -> None:
    assert parse_condition(text).holds(Change(before, after)) is holds


@pytest.mark.parametrize("text", ["p99", "p98>5%", "p99>", "p99=5", "metric<-0.5pt", "p99>5%;rm", ""])
def test_a_bad_condition_shows_the_form(text: str) -> None:
    with pytest.raises(InputError, match="like 'p99>\\+5%'"):
        parse_condition(text)


def test_metric_changes_are_counted_in_points(report: Report, slower: Report) -> None:
    changes = compare(report, slower)["rows"][6]["changes"]
    assert changes["metric"].absolute == pytest.approx(-0.6)
    assert changes["p99"].percent == pytest.approx(10)


def test_a_condition_that_holds_exits_with_three(report: Report, slower: Report, tmp_path: Path) -> None:
    result = run(tmp_path, report, slower, "--fail-if", "p99>+5%", "--fail-if", "metric<-0.5")
    assert result.exit_code == 3
    assert "p99>+5%: mdico INT8 at batch 1 changed by +10.0 %" in result.stderr
    assert "metric<-0.5: mdico INT8 at batch 1 changed by -0.6" in result.stderr
    assert "→" in result.stdout


def test_conditions_that_do_not_hold_exit_with_zero(report: Report, slower: Report, tmp_path: Path) -> None:
    result = run(tmp_path, report, slower, "--fail-if", "p99>+11%", "--fail-if", "metric<-1")
    assert (result.exit_code, result.stderr) == (0, "")


def test_json_is_one_document(report: Report, slower: Report, tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, report, slower, "--json", "--fail-if", "p99>5%").stdout)
    assert document["schema"] == "edge.compare/1"
    assert document["rows"][6]["p99"]["percent"] == pytest.approx(10)
    assert document["rows"][6]["method"] == "mdico"
    assert len(document["failed"]) == 1


def test_a_condition_that_cannot_be_checked_is_an_error(report: Report, slower: Report) -> None:
    with pytest.raises(InputError, match="cannot be checked: no pair of rows has energy"):
        compare(report, slower, [parse_condition("energy>1%")])


def test_rows_that_stand_alone_are_named(report: Report, slower: Report, tmp_path: Path) -> None:
    slower["results"] = slower["results"][2:]
    result = run(tmp_path, report, slower)
    assert result.exit_code == 0
    assert "Only in A: optical single fp32 on onnxruntime, 1 threads, batch 1" in result.stderr


def test_another_machine_or_data_set_is_said(report: Report, slower: Report, tmp_path: Path) -> None:
    slower["machine"]["cpu"] = "Other CPU"
    assert "Mind: The processor differs: Test CPU and Other CPU." in run(tmp_path, report, slower).stderr


def test_reports_that_cannot_be_compared_are_refused(report: Report, slower: Report, tmp_path: Path) -> None:
    slower["modality"] = "sar"
    for row in slower["results"]:
        row["modality"] = "sar"
    assert "no row in common" in run(tmp_path, report, slower).stderr
    slower["metric"]["name"] = "r2"
    result = run(tmp_path, report, slower)
    assert "the first measures macro_recall, the second r2" in result.stderr
    assert result.exit_code == 2
    (tmp_path / "text.json").write_text("{")
    result = CliRunner().invoke(command, [str(tmp_path / "text.json"), str(tmp_path / "a.json")])
    assert result.exit_code == 2
    assert "not valid JSON" in result.stderr


def test_bundle_folders_stand_for_their_reports(report: Report, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert CliRunner().invoke(command, [str(tmp_path), str(tmp_path)]).exit_code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    result = CliRunner().invoke(command, [str(empty), str(tmp_path)])
    assert (result.exit_code, "report.json is missing" in result.stderr) == (2, True)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_figure_that_one_report_lacks_is_said_and_fails_where_it_was_there_before(
    report: Report, slower: Report, tmp_path: Path, where: str
) -> None:
    slower["results"] = copy.deepcopy(report["results"])
    (report if where == "before" else slower)["results"][0]["latency_ms"]["p99"] = None
    result = run(tmp_path, report, slower, "--fail-if", "p99>+5%")
    if where == "before":
        assert (result.exit_code, "A has no p99" in result.stderr) == (0, True)
    else:
        assert (result.exit_code, "single FP32 at batch 1 has no p99 in B, A has 0.26" in result.stderr) == (3, True)


def test_a_row_that_is_gone_fails_a_condition(report: Report, slower: Report, tmp_path: Path) -> None:
    slower["results"] = slower["results"][:2]
    result = run(tmp_path, report, slower, "--fail-if", "p99>+5%")
    assert result.exit_code == 3
    assert "B has no row to check: optical mdico int8 on onnxruntime, 1 threads, batch 1" in result.stderr


def test_intervals_of_a_change_on_a_hand_computed_case() -> None:
    change = Change(2.0, 3.0, [1.9, 2.2], [2.8, 3.1])
    assert change.interval == pytest.approx([0.6, 1.2])
    assert change.percent_interval == pytest.approx([30.0, 60.0])
    assert Change(2.0, 3.0, None, [2.8, 3.1]).interval is None
    assert (Change(0.0, 0.0).percent, Change(0.0, 1.0).percent) == (0.0, None)


def test_a_file_that_breaks_the_schema_is_refused_with_its_place(report: Report, tmp_path: Path) -> None:
    broken = copy.deepcopy(report)
    broken["results"][3]["batch"] = "many"
    result = run(tmp_path, report, broken)
    assert result.exit_code == 2
    assert "b.json.results[3].batch must be integer, not 'many'" in result.stderr


def test_the_page_holds_failures_first_and_a_mark_for_every_change(
    report: Report, slower: Report, tmp_path: Path
) -> None:
    for made in (report, slower):
        made["warnings"] = ["Somebody else worked."]
    run(tmp_path, report, slower, "--fail-if", "p99>+5%", "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    places = [page.index(word) for word in ("A: Somebody else", "p99&gt;+5%: mdico INT8", "<svg", "Side by side")]
    assert places == sorted(places)
    assert page.count("<circle") == 16  # p50 and metric of eight rows
    assert page.count("<rect") == 8
    assert page.count('<rect class="worse"') == 1  # the one p99 that rose
    assert not re.search(r"https?:|<script|@import|url\(", page)
