"""`edge front`: a grid of students (widths x precisions x engines), measured together, and the best one as a bundle.

Which student is best is decided on the validation samples: a choice by test accuracy would make the test accuracy of
what was chosen too good. Every point's test accuracy is reported, beside it, with its interval. The validation samples
also stopped the training, of all students alike. A width is a share of the full student's channels; students narrower
than 1 learn from the full ones, too. Each is an ordinary run, RUN/width-0.5 and RUN itself for the full ones, that
`edge build` made and can continue; latencies are measured anew each time, all students of an engine together.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import GateError, InputError
from edge.files import write_json, write_text
from edge.recipe import Recipe, narrowed

if TYPE_CHECKING:
    from edge.build import Built
    from edge.train.paired import PairedSet

POINTS = 100  # per 1 of a metric, as in `edge compare`
FRONT, PICTURE, REPORT = "front.json", "front.svg", "report.json"
Row = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """What is tried: shares of the full student's channels, fp32 and int8, names of edge.deploy's engines."""

    widths: tuple[float, ...] = (1.0, 0.5, 0.25)
    precisions: tuple[str, ...] = ("fp32", "int8")
    engines: tuple[str, ...] = ("onnxruntime",)

    def check(self) -> None:
        """InputError for an engine that is not known, before anything is trained."""
        from edge.deploy.engine import backends

        for engine in self.engines:
            if engine not in backends():
                raise InputError(f"the engine {engine!r} is not known; use one of {', '.join(backends())}")


@dataclass(frozen=True)
class Wish:
    """Bounds on what is chosen: p99 at batch 1 in milliseconds, and points below the best validation metric."""

    latency_ms: float | None = None
    metric_drop: float | None = None

    def __str__(self) -> str:
        said = []
        if self.latency_ms is not None:
            said.append(f"p99 within {self.latency_ms:g} ms")
        if self.metric_drop is not None:
            said.append(f"at most {self.metric_drop:g} points below the best on the validation samples")
        return " and ".join(said)


@dataclass(frozen=True)
class Point:
    """One student on one engine: `row` is the report's (test samples, batch 1), `validation` is "metric", "ci95"."""

    width: float
    precision: str
    engine: str
    row: Row
    validation: dict[str, Any]

    @property
    def name(self) -> str:
        """For people."""
        return f"width {self.width:g} {self.precision.upper()} on {self.engine}"

    def to_json(self) -> dict[str, Any]:
        """The entry in front.json."""
        latency = {key: self.row["latency_ms"][key] for key in ("p50", "p99")}
        return {
            "width": self.width, "precision": self.precision, "engine": self.engine, "latency_ms": latency,
            "validation": self.validation, "test": {"metric": self.row["metric"], "ci95": self.row["metric_ci95"]},
            "model_bytes": self.row["model_bytes"],
        }  # fmt: skip


@dataclass(frozen=True)
class Front:
    """front.json's document, what was wished, and the build of the chosen student, None if there is none."""

    document: dict[str, Any]
    wish: Wish
    built: "Built | None"

    def check(self) -> None:
        """GateError: no point keeps the wish's bounds, or the chosen student failed a gate of `edge build`."""
        if self.built:
            self.built.check_gates()
        elif self.wish != Wish():
            raise GateError(f"no point of the grid keeps the bounds: {self.wish}")


def choose(points: Sequence[Point], wish: Wish) -> Point | None:
    """The best point that keeps the wish's bounds; None if none does, or if nothing is wished.

    With a bound on the metric the fastest (p50) of those within it, else the one with the best validation metric. A
    p99 that was not measured keeps no bound.
    """
    if wish == Wish() or not points:
        return None
    best = max(point.validation["metric"] for point in points)
    kept = list(points)
    if wish.latency_ms is not None:
        kept = [p for p in kept if (p99 := p.row["latency_ms"]["p99"]) is not None and p99 <= wish.latency_ms]
    if wish.metric_drop is not None:
        # a hundredth of a point for the sake of binary fractions: 0.820 is 0.5 points below 0.825
        kept = [p for p in kept if POINTS * (best - p.validation["metric"]) <= wish.metric_drop + 1e-6]
        kept = [p for p in kept if p.row["latency_ms"]["p50"] is not None]
        return min(kept, key=lambda p: float(p.row["latency_ms"]["p50"]), default=None)
    return max(kept, key=lambda p: float(p.validation["metric"]), default=None)


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that none beats in both median latency and validation metric; higher is better for all our metrics."""
    from edge.benchmarks import pareto as picture

    drawn = {
        picture.Point(p.name, "", p.precision, p.row["latency_ms"]["p50"], p.validation["metric"], 0.0, 0.0): p
        for p in points
        if p.row["latency_ms"]["p50"]
    }
    return [drawn[p] for p in picture.pareto_best(list(drawn))]


def front(
    recipe: Recipe,
    modality: str | None,
    grid: Grid,
    wish: Wish,
    run: Path,
    *,
    command: str,
    force: bool = False,
    notify: Callable[[str], None] = lambda message: None,
) -> Front:
    """Build and measure the grid, write front.json, front.svg and report.json into `run`, and build what is chosen.

    Without a `modality` it is the first one that is trained. InputError before anything is trained: an engine or a
    modality that is not known, a folder that holds something else.
    """
    from edge.benchmarks.report import make_report
    from edge.stages import check_run, open_data
    from edge.train.splits import protocol_text
    from edge.train.training import check_modality, choose_modalities

    grid.check()
    check_run(run)
    for width in grid.widths:
        narrowed(dataclasses.replace(recipe, width=width).check())
    data = open_data(recipe)
    known = choose_modalities(data, recipe)
    modality = modality or known[0]
    check_modality(modality, known, f"the modalities of {data.name} that are trained")
    builder = Builder(data, recipe, modality, run, command, force, notify)
    built = {}
    for width in grid.widths:
        built[width] = builder.build(width, "int8" if "int8" in grid.precisions else "fp32")
        _try_engines(built[width], grid.engines)
    points = [point for engine in grid.engines for point in builder.measure(built, grid.precisions, engine)]
    warnings = [f"width {width:g}: {text}" for width, one in built.items() for text in _doubts(one)]
    report = make_report(
        dataset=data.name, modality=modality, task=data.task, protocol=protocol_text(data, recipe),
        results=[point.row for point in points], command=command, warnings=[*warnings, *_same_sizes(points)],
    )  # fmt: skip
    chosen, best = choose(points, wish), pareto(points)
    final = builder.build(chosen.width, chosen.precision) if chosen else None
    document = {
        "schema": "edge.front/1",
        "dataset": data.name,
        "modality": modality,
        "metric": report["metric"],
        "wish": dataclasses.asdict(wish),
        "points": [point.to_json() | {"pareto": point in best, "chosen": point is chosen} for point in points],
        "bundle": str(final.folder) if final else None,
        "report": report,
    }
    write_json(run / REPORT, report)
    write_text(run / PICTURE, _picture(report, points))
    write_json(run / FRONT, document)
    return Front(document, wish, final)


def front_table(document: dict[str, Any]) -> str:
    """Text for a terminal: one line per point; `*` Pareto-best, `<-` chosen."""
    from edge.benchmarks import figures
    from edge.benchmarks.report import columns

    metric = figures.metric_name(document["metric"]["name"])
    lines = [
        [
            "width",
            "precision",
            "engine",
            f"{metric}, validation",
            f"{metric}, test [95 %]",
            "p50 ms",
            "p99 ms",
            "model",
            "",
        ]
    ]
    return columns([*lines, *map(_line, document["points"])], left=3)


def _line(point: dict[str, Any]) -> list[str]:
    from edge.benchmarks import figures

    test, latency = point["test"], point["latency_ms"]
    return [
        f"{point['width']:g}", point["precision"].upper(), point["engine"],
        figures.measure(point["validation"]["metric"]), figures.with_interval(test["metric"], test["ci95"]),
        figures.milliseconds(latency["p50"]), figures.milliseconds(latency["p99"]), figures.size(point["model_bytes"]),
        ("*" if point["pareto"] else "") + (" <-" if point["chosen"] else ""),
    ]  # fmt: skip


@dataclass
class Builder:
    """Builds and measures the points of one grid."""

    data: "PairedSet"
    recipe: Recipe
    modality: str
    run: Path
    command: str
    force: bool
    notify: Callable[[str], None]

    def build(self, width: float, precision: str) -> "Built":
        """The bundle of one width, as `edge build --width W` makes it; used again if it is there."""
        from edge.build import build
        from edge.stages import run_of

        self.notify(f"width {width:g} {precision.upper()}: {run_of(self.run, width)}")
        recipe = dataclasses.replace(self.recipe, width=width)
        fresh = self.force and width not in self._done
        self._done.add(width)
        return build(recipe, self.modality, precision, self.run, command=self.command, force=fresh)

    def __post_init__(self) -> None:
        self._done: set[float] = set()  # --force builds each width anew once

    def measure(self, built: dict[float, "Built"], precisions: Sequence[str], engine: str) -> list[Point]:
        """All students on one engine, timed together."""
        from edge.benchmarks.bench import Entry, Inputs, bench_graphs
        from edge.deploy.bundle import open_bundle
        from edge.deploy.engine import placement_of

        entries, widths = [], []
        for width, one in built.items():
            bundle = open_bundle(one.folder)
            there = {key.partition(".")[0] for key in bundle.graphs}
            for precision in (p for p in precisions if p in there):
                graph = bundle.graph_for(precision, placement_of(engine))
                entries.append(Entry(f"width {width:g}", precision, graph, self.modality, self.data.task, engine))
                widths.append(width)
        if not entries:
            raise InputError(f"no student of the grid has a graph in {' or '.join(precisions)}; ask for fp32, too")
        test = {self.modality: Inputs(*self._part("test"))}
        rows = bench_graphs(entries, test, batches=(1,), notify=self.notify)
        validation = self._part("validation")
        return [
            Point(width, entry.precision, engine, row, self._accuracy(entry.graph, engine, *validation))
            for width, entry, row in zip(widths, entries, rows, strict=True)
        ]

    def _accuracy(self, graph: Path, engine: str, x: Any, target: Any, groups: Any) -> dict[str, Any]:
        from edge.benchmarks.accuracy import accuracy
        from edge.benchmarks.bench import predict
        from edge.deploy.engine import open_engine

        with contextlib.closing(open_engine(graph, backend=engine)) as opened:
            found = accuracy(self.data.task, predict(opened, self.modality, x), target, groups)
        return {"metric": found["metric"], "ci95": found["metric_ci95"]}

    def _part(self, name: str) -> tuple[Any, Any, Any]:
        """Sensor values, targets and groups of the samples of one part that have the modality."""
        from edge.train.training import split_of

        index = getattr(split_of(self.data, self.recipe), name)
        index = index[self.data.present(self.modality)[index]]
        if not len(index):
            raise InputError(f"no sample of the {name} part has the modality {self.modality!r}; use another --fold")
        arrays = self.data.arrays[self.modality], self.data.target, self.data.groups
        x, target, groups = (np.array(array[index]) for array in arrays)
        return x, target, groups


def _try_engines(built: "Built", engines: Sequence[str]) -> None:
    """Open each engine once, so that one that is not installed is known before the next width is trained."""
    from edge.deploy.bundle import open_bundle
    from edge.deploy.engine import open_engine

    for engine in engines:
        open_engine(open_bundle(built.folder).graph_for("fp32"), backend=engine).close()


def _doubts(built: "Built") -> list[str]:
    """What the build did not get, and its failed gates; its latencies are not used here, nor are doubts about them."""
    failed = [f"the gate {gate['name']!r} failed" for gate in built.report["gates"] if not gate["passed"]]
    return [text for text in built.report["warnings"] if "built in FP32" in text] + failed


def _same_sizes(points: Sequence[Point]) -> list[str]:
    """Channels are rounded, so that two shares of a small student may be one."""
    widths = {p.width for p in points}
    sizes = {p.row["model_bytes"] for p in points if p.precision == points[0].precision}
    return [f"Students of {len(widths)} widths have {len(sizes)} sizes."] if len(sizes) < len(widths) else []


def _picture(report: dict[str, Any], points: Sequence[Point]) -> str:
    """Validation accuracy against latency: what was chosen by."""
    from edge.benchmarks import figures
    from edge.benchmarks.pareto import standalone_svg

    shown = [p.row | {"metric": p.validation["metric"], "metric_ci95": p.validation["ci95"]} for p in points]
    name = f"{figures.metric_name(report['metric']['name'])}, validation samples"
    return standalone_svg(report | {"results": shown, "metric": report["metric"] | {"name": name}})
