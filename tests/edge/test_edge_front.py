"""`edge front`: what is chosen, and the whole of it on small encoders; only the stop-watch is replaced."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from edge.benchmarks.latency import Times
from edge.benchmarks.report import validate_report
from edge.cli import main
from edge.deploy.bundle import open_bundle
from edge.front import Point, Wish, choose, pareto
from edge.train.sources.simulated import simulate

RECIPE = {
    "max_drop": 0.05,
    "model": {"width": 32, "hidden": 16, "embedding": 8},
    "training": {"epochs": 3, "lr": 0.003},
    "compression": {"epochs": 1},
}


def point(width: float, p50: float | None, validation: float, test: float = 0.5, p99: float | None = 1.0) -> Point:
    row = {"latency_ms": {"p50": p50, "p99": p99}, "metric": test, "metric_ci95": None, "model_bytes": 1000 * width}
    return Point(width, "fp32", "onnxruntime", row, {"metric": validation, "ci95": None})


SMALL = point(0.25, 0.1, 0.820, p99=0.2)
MIDDLE = point(0.5, 0.2, 0.825, p99=0.4)
LARGE = point(1, 0.5, 0.824, test=0.99, p99=0.9)
GRID = [SMALL, MIDDLE, LARGE]


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        (Wish(), None),
        (Wish(latency_ms=1.0), MIDDLE),  # not the large one, which is best on the test samples
        (Wish(latency_ms=0.4), MIDDLE),
        (Wish(latency_ms=0.3), SMALL),
        (Wish(latency_ms=0.1), None),  # the median would do, p99 does not
        (Wish(metric_drop=0.5), SMALL),  # 0.5 points below the best to the digit
        (Wish(metric_drop=0.4), MIDDLE),
        (Wish(metric_drop=0.0), MIDDLE),
        (Wish(latency_ms=0.3, metric_drop=0.4), None),
    ],
)
def test_the_best_is_chosen_by_validation_accuracy_within_the_bounds(wish: Wish, chosen: Point | None) -> None:
    assert choose(GRID, wish) is chosen


def test_a_latency_that_was_not_measured_keeps_no_bound() -> None:
    assert choose([point(0.25, 0.1, 0.8, p99=None)], Wish(latency_ms=9.0)) is None
    assert choose([point(0.25, None, 0.8), SMALL], Wish(metric_drop=9.0)) is SMALL


def test_pareto_best_is_told_on_validation_accuracy() -> None:
    assert pareto(GRID) == [SMALL, MIDDLE]
    slower = dataclasses.replace(SMALL, validation={"metric": 0.9, "ci95": None})
    assert pareto([slower, MIDDLE]) == [slower]


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Any:
    """Latencies that are known beforehand, no process for each graph."""

    def timed(engines: dict[Any, Any], _timing: object) -> dict[Any, Times]:
        return {key: Times([1e-3 / (1 + place)] * 2000, total_s=1.0) for place, key in enumerate(engines)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.benchmarks.bench.measure_together", timed)
        patch.setattr(
            "edge.benchmarks.bench.peak_memory", lambda _graph, _shapes, batches, **_: dict.fromkeys(batches, 60.0)
        )
        yield


@pytest.fixture(scope="module")
def edge_front(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    folder = tmp_path_factory.mktemp("front")
    simulate(folder / "set", task="regression", n=400, seed=3)
    (folder / "recipe.json").write_text(json.dumps(RECIPE))

    def run(*arguments: object, out: Path | None = None) -> Result:
        options = ["--data", folder / "set", "--recipe", folder / "recipe.json", "--out", out or folder / "run"]
        return CliRunner().invoke(main, ["front", *map(str, arguments), *map(str, options)])

    return run


@pytest.mark.slow
def test_a_grid_is_built_drawn_and_continued(edge_front: Callable[..., Result]) -> None:
    result = edge_front("--width", "1,0.5", "--metric-drop", "100", "--json")
    assert result.exit_code in (0, 3), result.stderr  # 3: the chosen student's own gates, on so little training
    document = json.loads(result.stdout)
    run = Path(document["bundle"]).parents[2]
    assert document["bundle"] == str(run / "width-0.5" / "bundles" / "optical-int8")
    assert document == json.loads((run / "front.json").read_text())
    validate_report(json.loads((run / "report.json").read_text()))
    found = [(point["width"], point["precision"]) for point in document["points"]]
    assert found == [(1, "fp32"), (1, "int8"), (0.5, "fp32"), (0.5, "int8")]
    (chosen,) = [point for point in document["points"] if point["chosen"]]
    assert (chosen["width"], chosen["precision"]) == (0.5, "int8")  # the fastest by the stop-watch above
    bundle = open_bundle(Path(document["bundle"]))
    assert bundle.card["properties"]["mlm:hyperparameters"]["width"] == 16
    full = json.loads((run / "train/taught/training.json").read_text())["fingerprint"]
    assert bundle.card["properties"]["edge:training"]["full"] == full
    picture = ElementTree.fromstring((run / "front.svg").read_text())  # noqa: S314 - our own text
    assert "validation samples" in "".join(picture.itertext())
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}rect[@class='mark']")) == 2

    before = {path: path.stat().st_mtime_ns for path in run.rglob("training.json")}
    again = edge_front("--width", "0.5", "--precision", "fp32", "--latency-ms", "0.5")
    assert again.exit_code == 3
    assert "FP32" in again.stdout
    assert "no point of the grid keeps the bounds: p99 within 0.5 ms" in again.stderr
    assert len(before) == 4  # students and single model, twice
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert json.loads((run / "front.json").read_text())["bundle"] is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--width", "0.5,x"), "give shares like"),
        (("--width", "32,64"), "holds 32; a share is above 0 and at most 1"),
        (("--width", "1,0.5,0.75"), "width 0.75 of model.width 32 is the full student"),
        (("--precision", "int4"), "holds 'int4'"),
        (("--backend", "abacus"), "the engine 'abacus' is not known"),
        (("--modality", "radar"), "modality 'radar' is not in"),
        (("--latency-ms", "0"), "not in the range"),
    ],
)
def test_bad_options_exit_with_two_before_anything_is_trained(
    edge_front: Callable[..., Result], tmp_path: Path, option: tuple[str, str], message: str
) -> None:
    result = edge_front(*option, out=tmp_path / "run")
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_else_is_left_alone(edge_front: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    result = edge_front(out=tmp_path)
    assert (result.exit_code, "holds something else (holiday.jpg)" in result.stderr) == (2, True)
