"""The pages in a real browser: what a phone, the dark and a console make of them."""

import base64
import copy
import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

import pytest

from edge.benchmarks.changes import comparison_html
from edge.benchmarks.compare import compare, parse_condition
from edge.benchmarks.html import report_html
from edge.benchmarks.report import Report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; apt-get install chromium"),
]
# Asks the page in the frame how wide it is, which words it clips, and which of its pictures leave their frame.
ASK = """
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const tiny = [...page.querySelectorAll("svg text")].filter(
    text => parseFloat(getComputedStyle(text).fontSize) * text.getCTM().a < 10).map(text => text.textContent);
  const clipped = [...page.querySelectorAll("svg text")].filter(text => {
    const [own, frame] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
    return own.left < frame.left - 1 || own.right > frame.right + 1;
  }).map(text => text.textContent);
  const found = {width: page.documentElement.scrollWidth, tiny, clipped,
    page: getComputedStyle(page.body).backgroundColor,
    loaded: page.defaultView.performance.getEntriesByType("resource").map(entry => entry.name)};
  document.body.innerHTML = "<pre>" + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + "</pre>";
});
"""


@pytest.fixture
def whole(report: Report) -> Report:
    """A report with all its parts."""
    times = {
        "t_s": 0.0,
        "n": 9,
        "p50": 0.1,
        "p90": 0.12,
        "p99": 0.2,
        "mean": 0.11,
        "temperature_c": 50.0,
        "power_w": 7.5,
    }
    about = {key: report["results"][0][key] for key in ("method", "precision", "modality", "engine", "threads")}
    spread = {"median": 12.0, "min": 10.0, "max": 20.0}
    windows = [times | {"t_s": 30.0 * i, "p50": 0.1 + 0.01 * i, "temperature_c": 50.0 + i} for i in range(20)]
    report["warnings"] = ["The clock was unsteady, as long as somebody else had the machine for what he did."]
    report["sustained"] = [
        about | {"batch": 1, "duration_s": 600.0, "queries": 180, "windows": windows, "slowdown": 2.0, "energy_mj": 1.0,
                 "power": None}
    ]  # fmt: skip
    parts = ("import_ms", "load_ms", "first_ms", "second_ms", "process_ms")
    report["cold_start"] = [about | {"n": 5} | dict.fromkeys(parts, spread)]
    for row, energy in zip(report["results"], (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8), strict=True):
        row["energy_mj"] = energy
        row["per_class"] = [{"name": "wheat", "measure": "recall", "n": 20, "value": 0.8, "ci95": [0.7, 0.9]}]
    return report


def ask(page: str, folder: Path, width: int, *options: str) -> tuple[dict[str, Any], list[str]]:
    """What ASK found in the page at this width, and what the browser's console said."""
    frame = f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{escape(page)}"></iframe>'
    path = folder / "frame.html"
    path.write_text(f'<!doctype html><meta charset="utf-8"><body>{frame}<script>{ASK}</script>', encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), *OPTIONS, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    match = re.search(r"<pre>([\w+/=]+)</pre>", done.stdout)
    assert match, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(base64.b64decode(match[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def pages(report: Report) -> dict[str, str]:
    slower = copy.deepcopy(report)
    slower["results"][6]["latency_ms"]["p99"] *= 1.5
    comparison = compare(report, slower, [parse_condition("p99>+5%")])
    return {"report": report_html(report), "changes": comparison_html(comparison, report, slower, ("a.json", "b.json"))}


@pytest.mark.parametrize("name", ["report", "changes"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_its_window_and_its_words_can_be_read(whole: Report, tmp_path: Path, name: str, width: int) -> None:
    found, console = ask(pages(whole)[name], tmp_path, width)
    assert found["width"] <= width
    assert (found["tiny"], found["clipped"]) == ([], [])
    assert found["loaded"] == []
    assert console == []


def test_the_page_is_dark_where_the_system_is(whole: Report, tmp_path: Path) -> None:
    page = report_html(whole)
    light, _ = ask(page, tmp_path, 390, "--blink-settings=preferredColorScheme=1")
    dark, _ = ask(page, tmp_path, 390, "--blink-settings=preferredColorScheme=0")
    assert (light["page"], dark["page"]) == ("rgb(246, 246, 243)", "rgb(16, 19, 21)")
