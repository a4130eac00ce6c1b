import itertools
import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from edge.benchmarks.html import report_html
from edge.benchmarks.pareto import Point, main, pareto_best, pareto_svg, points, standalone_svg
from edge.benchmarks.report import Report, validate_report
from edge.errors import InputError

EVIL = "</title></style><script src=//evil.example/x.js>alert(1)</script><img src=x onerror=alert(1)>\"'"


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_the_page_loads_nothing(report: Report) -> None:
    page = report_html(report)
    assert not re.search(r"https?:|//\w|@import|url\(", page)
    tags = Reader(page).tags
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in tags}
    assert not {"src", "href", "srcset", "onerror", "onload"} & {name for _, attributes in tags for name in attributes}


def test_names_from_files_are_escaped_everywhere(report: Report) -> None:
    report |= {
        "dataset": EVIL,
        "modality": EVIL,
        "protocol": EVIL,
        "command": EVIL,
        "warnings": [EVIL],
        "created": EVIL,
    }
    report["task"] |= {"name": EVIL, "classes": [EVIL, EVIL]}
    report["metric"]["name"] = EVIL
    report["machine"] |= {"cpu": EVIL, "board": EVIL, "int8_flags": [EVIL], "versions": {EVIL: EVIL}}
    report["gates"] = [{"name": EVIL, "bound": EVIL, "value": None, "passed": False}]
    for row in report["results"]:
        row |= {"method": EVIL, "precision": EVIL, "modality": EVIL, "engine": EVIL}
    validate_report(report)
    for page in (report_html(report), standalone_svg(report)):
        assert not {"script", "img"} & {tag for tag, _ in Reader(page).tags}
        assert "<script" not in page.lower()
        assert "&lt;script" in page.lower()
    ElementTree.fromstring(standalone_svg(report))  # noqa: S314 - our own text


def test_warnings_come_before_gates_and_gates_before_figures(report: Report) -> None:
    report["warnings"] = ["The clock was unsteady."]
    text = Reader(report_html(report)).text
    places = [
        text.index(word) for word in ("The clock was unsteady.", "metric drop", "Latency against accuracy", "Command")
    ]
    assert places == sorted(places)


def test_null_shows_as_not_available(report: Report) -> None:
    for row in report["results"]:
        row |= {"metric": None, "metric_ci95": None, "peak_rss_mb": None, "throughput_per_s": None, "model_bytes": None}
        row["latency_ms"] |= {"p50": None, "p90": None, "p99": None, "mean": None}
        row["latency_histogram"] = None
    text = Reader(report_html(report)).text
    assert text.count("n/a") > 50
    assert "None" not in text
    assert "No accuracy was measured." in text
    assert "No latencies were kept." in text


def test_a_failed_gate_is_marked(report: Report) -> None:
    report["gates"][0]["passed"] = False
    tags = Reader(report_html(report)).tags
    assert [attributes["class"] for tag, attributes in tags if tag == "li" and "class" in attributes] == ["bad", "good"]


def point(latency: float, metric: float) -> Point:
    return Point("p", "m", "fp32", latency, metric, metric, metric)


def test_pareto_best_are_those_that_no_other_beats() -> None:
    fast, good, both, slow = point(1, 0.5), point(9, 0.9), point(3, 0.8), point(4, 0.7)
    assert pareto_best([slow, good, both, fast]) == [fast, both, good]
    assert pareto_best([fast, point(1, 0.4)]) == [fast]
    assert pareto_best([fast, point(1, 0.5)]) == [fast, point(1, 0.5)]
    assert pareto_best([point(1, 20.0), point(2, 10.0), point(3, 15.0)], higher_is_better=False) == [
        point(1, 20.0),
        point(2, 10.0),
    ]


def test_the_picture_marks_each_graph_at_its_place(report: Report) -> None:
    found = {p.label: p for p in points(report)}
    assert (found["mdico INT8"].latency, found["mdico INT8"].metric) == (0.08, 0.818)
    svg = ElementTree.fromstring(standalone_svg(report))  # noqa: S314
    name = {"svg": "http://www.w3.org/2000/svg"}
    circles, squares = svg.findall("svg:circle", name), svg.findall("svg:rect[@class='mark']", name)
    assert len(circles) == len(squares) == 2
    single, mdico = circles
    assert float(single.get("cx", "")) < float(mdico.get("cx", ""))  # slower is further right
    assert float(single.get("cy", "")) > float(mdico.get("cy", ""))  # better is further up
    filled = [mark.get("style", "").count("var(--surface)") == 0 for mark in (single, mdico, *squares)]
    assert filled == [False, True, True, True]  # single FP32 is slower than mdico INT8 and not as good
    labels = [text.text for text in svg.findall("svg:text[@class='label']", name)]
    assert sorted(labels) == ["mdico FP32", "mdico INT8", "single FP32", "single INT8"]


def test_labels_do_not_lie_on_each_other(report: Report) -> None:
    for row in report["results"]:
        row["metric"], row["latency_ms"]["p50"] = 0.8, 1.0
    picture = pareto_svg(report)
    assert picture is not None
    heights = sorted(float(y) for y in re.findall(r'class="label" x="[\d.]+" y="([\d.]+)"', picture))
    assert len(heights) == 4
    assert all(below - above >= 17 for above, below in itertools.pairwise(heights))


def test_one_graph_alone_can_be_drawn(report: Report) -> None:
    report["results"] = report["results"][:1]
    report["results"][0]["metric_ci95"] = None
    assert standalone_svg(report).count('class="mark"') == 1


def test_a_report_without_a_metric_has_no_picture(report: Report) -> None:
    for row in report["results"]:
        row["metric"] = None
    assert pareto_svg(report) is None
    with pytest.raises(InputError, match="no metric"):
        standalone_svg(report)


def test_the_picture_is_drawn_from_the_command_line(report: Report, tmp_path: Any) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report))
    main([str(tmp_path / "report.json"), str(tmp_path / "out.svg")])
    assert (tmp_path / "out.svg").read_text() == standalone_svg(report)
    with pytest.raises(InputError, match="usage"):
        main([])


def test_the_area_of_a_mark_is_its_energy_where_all_were_measured(report: Report) -> None:
    def radii() -> list[float]:
        return [float(r) for r in re.findall(r'<circle [^>]*r="([\d.]+)"', pareto_svg(report) or "")]

    for row in report["results"]:
        row["energy_mj"] = 4.0 if row["method"] == "mdico" else 1.0
    large, small = radii()
    assert (large / small) ** 2 == pytest.approx(4.0)
    assert "area: energy, largest 4 mJ" in (pareto_svg(report) or "")
    report["results"][0]["energy_mj"] = None
    assert radii() == [6.0, 6.0]
    assert "area" not in (pareto_svg(report) or "")


def test_further_parts_and_definitions_stand_on_the_page(report: Report) -> None:
    report["results"][0]["per_class"] = [
        {"name": "wheat", "measure": "recall", "n": 9, "value": 0.8, "ci95": [0.7, 0.9]}
    ]
    report["results"][0]["latency_ms"]["ci95"] = {"p50": [0.19, 0.21]}
    text = Reader(report_html(report)).text
    for said in ("By class", "wheat", "0.800 [0.700, 0.900]", "0.200 [0.190, 0.210]", "How it was measured"):
        assert said in text
    assert "Scenarios" not in text
