import re
from typing import Any

from edge.benchmarks.html import report_html
from edge.benchmarks.report import Report
from edge.benchmarks.timeseries import pictures


def sustained(report: Report, **last: Any) -> Report:
    """Three windows at 10, 20 and 30 of 40 seconds; `last` changes the third one."""
    window = {"n": 9, "p50": 1.0, "p90": 1.1, "p99": None, "mean": 1.0, "temperature_c": None, "power_w": None}
    windows = [window | {"t_s": 10.0}, window | {"t_s": 20.0, "p50": 2.0}, window | {"t_s": 30.0, "p50": 3.0} | last]
    about = {key: report["results"][0][key] for key in ("method", "precision", "modality", "engine", "threads")}
    rest = {"batch": 1, "duration_s": 40.0, "queries": 27, "slowdown": 3.0, "energy_mj": None, "power": None}
    report["sustained"] = [about | rest | {"windows": windows}]
    return report


def test_only_what_was_measured_is_drawn(report: Report) -> None:
    picture = pictures(sustained(report)) or ""
    assert "p50 of latency" in picture
    assert not re.search("p99 of latency|temperature|power", picture)
    assert picture.count('class="line"') == 1
    hot = pictures(sustained(report, temperature_c=61.0)) or ""
    assert "temperature, °C" in hot
    assert hot.count('class="line"') == 2
    assert "Under load, over time" in report_html(report)


def test_windows_stand_at_their_times_and_heights(report: Report) -> None:
    (path,) = re.findall(r'class="line" style="[^"]*" d="([^"]*)"', pictures(sustained(report)) or "")
    (x1, y1), (x2, y2), (x3, y3) = ((float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path))
    assert (x1, x2, x3) == (160.0, 264.0, 368.0)  # 56 + t / 40 * (472 - 56)
    assert y1 - y2 == y2 - y3 > 0


def test_a_window_without_a_figure_leaves_a_gap(report: Report) -> None:
    windows = sustained(report)["sustained"][0]["windows"]
    windows[1]["p50"] = None
    (path,) = re.findall(r'class="line" style="[^"]*" d="([^"]*)"', pictures(report) or "")
    assert (path.count("M"), path.count("L")) == (2, 0)


def test_without_a_sustained_run_there_is_no_picture(report: Report) -> None:
    assert pictures(report) is None
    assert "Under load" not in report_html(report)
