import csv
import io

from edge.benchmarks.report import Report
from edge.benchmarks.spreadsheet import report_csv


def test_each_row_is_a_line_and_what_was_not_measured_is_empty(report: Report) -> None:
    report["results"][0]["latency_ms"]["ci95"] = {"p50": [0.19, 0.21]}
    lines = list(csv.DictReader(io.StringIO(report_csv(report), newline="")))
    assert len(lines) == 8
    first, second = lines[:2]
    assert (first["method"], first["precision"], first["batch"]) == ("single", "fp32", "1")
    assert (first["latency_ms.p50"], first["latency_ms.p50.ci95_low"], first["metric.macro_recall"]) == (
        "0.2",
        "0.19",
        "0.78",
    )
    assert (first["energy_mj"], second["latency_ms.p50.ci95_low"]) == ("", "")


def test_a_name_does_not_become_a_formula(report: Report) -> None:
    report["results"][0]["method"] = "=HYPERLINK(1)"
    report["dataset"] = "@set"
    line = next(csv.DictReader(io.StringIO(report_csv(report), newline="")))
    assert (line["method"], line["dataset"]) == ("'=HYPERLINK(1)", "'@set")
