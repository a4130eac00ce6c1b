"""A bundle's TensorRT engines on this machine: built, tested against the golden vectors, timed, and one of them chosen.

INT8 must pay: the engines of one student are timed together on the board, and the one that is used is the fastest at
the batch size that they were tuned for, among those that agree with the golden vectors and lose no more of the metric
than the bound. Nothing here needs torch.

TensorRT-RTX on a machine without a GPU compiles engines that cannot be run there: then nothing is timed or chosen.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.deploy.builder_tensorrt import PRECISIONS, Options
from edge.deploy.bundle import Bundle
from edge.deploy.choice import remember
from edge.deploy.cuda import Cuda
from edge.deploy.engine import open_engine
from edge.deploy.gpu import gpu_here
from edge.deploy.inspector import count_layers
from edge.deploy.plan import Plan, obtain
from edge.deploy.progress import Progress
from edge.deploy.tensorrt_api import load
from edge.deploy.verify import agree
from edge.errors import BackendMissing, EdgeError, FitError, InputError
from edge.gates import choose

Notify = Callable[[str], None]


@dataclass
class Engine:
    """One precision: its plan, or why there is none; whether it said what the golden vectors say."""

    precision: str
    plan: Plan | None = None
    error: EdgeError | None = None
    agrees: bool | None = None  # None: not run
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry of `edge engine --json`."""
        about = self.plan.about if self.plan else {}
        return {
            "precision": self.precision,
            "plan": str(self.plan.path) if self.plan else None,
            "bytes": self.plan.path.stat().st_size if self.plan else None,
            "error": self.error.message if self.error else None,
            "agrees": self.agrees,
            "detail": self.detail,
            "layers": count_layers(self.plan.layers) if self.plan else None,
            **{key: about.get(key) for key in ("builder", "typed", "seconds", "capabilities", "workspace_mb")},
            "warnings": list(about.get("warnings", ())),
            "on_gpu": list(about.get("on_gpu", ())),
            "sparsity": list(about.get("sparsity", ())),
        }


@dataclass
class Engines:
    """All engines of a bundle, and which one is used; `report` is None where none could be run."""

    builder: str
    engines: list[Engine]
    chosen: str | None = None
    why: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """What `edge engine --json` prints besides the bundle's name."""
        found = {"builder": self.builder, "engines": [engine.to_json() for engine in self.engines]}
        return found | {"chosen": self.chosen, "why": self.why, "report": self.report}


def find_backend() -> str:
    """The TensorRT module that is installed: `tensorrt`, else `tensorrt_rtx`; BackendMissing for neither."""
    try:
        return load("tensorrt").name
    except BackendMissing:
        with contextlib.suppress(BackendMissing):
            return load("tensorrt_rtx").name
        raise


def build_engines(
    bundle: Bundle,
    backend: str,
    options: Options,
    *,
    precisions: Sequence[str] = PRECISIONS,
    data: Path | None = None,
    max_drop: float = 0.01,
    seconds: float = 1.0,
    rebuild: bool = False,
    command: str | None = None,
    notify: Notify = lambda message: None,
    progress: Progress | None = None,
) -> Engines:
    """Build, test, time and choose. `data`: test samples as `edge bench --data` takes them.

    A precision that cannot be built is left out and said; if none can, the error of the first is raised. FitError if
    none agrees with the golden vectors: then nothing is chosen.
    """
    label = load(backend).label
    known = [name for name in PRECISIONS if name != "int8" or "int8.tensorrt" in bundle.graphs]
    wanted = [name for name in known if name in precisions]
    if not wanted:
        raise InputError(f"{bundle.folder} has no graph int8.tensorrt; use --precision auto, fp32 or fp16")
    if backend == "tensorrt":
        Cuda()  # it builds for the GPU that is here; where there is none, the reason is the answer
    engines = []
    for precision in wanted:
        notify(f"{label}: building {precision}")
        asked = dataclasses.replace(options, precision=precision)
        engines.append(_built(bundle, backend, asked, rebuild, notify, progress))
    found = Engines(label, engines)
    if not any(engine.plan for engine in engines):
        raise next(engine.error for engine in engines if engine.error)
    if gpu_here() is None:
        found.why = ["no GPU that can run them is here: they were compiled, not tested and not timed"]
        return found
    _test(bundle, backend, engines, notify)
    runnable = [engine for engine in engines if engine.plan and engine.agrees]
    if not runnable:
        words = "; ".join(f"{engine.precision}: {engine.detail}" for engine in engines if engine.plan)
        raise FitError(f"no engine of {bundle.folder} agrees with the golden vectors on this machine: {words}")
    found.report = _measure(bundle, backend, options, runnable, engines, data, seconds, command, notify)
    found.chosen, found.why = choose(bundle.task, found.report["results"], max_drop, options.batch[1])
    found.why += [f"{engine.precision} is left out: {_reason(engine)}" for engine in engines if engine not in runnable]
    plan = next(engine.plan for engine in runnable if engine.precision == found.chosen)
    if plan is not None:
        remember(bundle, backend, plan.path, found.chosen)
    return found


def _built(
    bundle: Bundle, backend: str, options: Options, rebuild: bool, notify: Notify, progress: Progress | None
) -> Engine:
    graph = bundle.graph_for("int8" if options.precision == "int8" else "fp32", "tensorrt")
    if options.precision == "fp16" and "fp16" in bundle.graphs and load(backend).strongly_typed(options.strongly_typed):
        graph = bundle.graphs["fp16"]  # the one that was checked; a weakly typed network makes its own of fp32
    try:
        plan = obtain(graph, options, backend=backend, rebuild=rebuild, notify=notify, progress=progress)
    except EdgeError as error:
        notify(f"{options.precision} cannot be built: {error.message}")
        return Engine(options.precision, error=error)
    return Engine(options.precision, plan)


def _test(bundle: Bundle, backend: str, engines: Sequence[Engine], notify: Notify) -> None:
    """The golden vectors, on each engine: FP32 and FP16 against the FP32 graph's, INT8 against its own."""
    golden = bundle.golden()
    name = bundle.modality.name
    for engine in engines:
        if engine.plan is None:
            continue
        notify(f"golden vectors on {engine.precision}")
        key = "int8.tensorrt" if engine.precision == "int8" else "fp32"
        try:
            with contextlib.closing(open_engine(engine.plan.path, backend=backend)) as opened:
                found = opened.run({name: golden["input"]})["prediction"]
        except EdgeError as error:
            engine.agrees, engine.detail = False, error.message
            continue
        # FP16 is judged as INT8 is: by its decisions, or by 1 % of the outputs' spread.
        judged = "fp32" if engine.precision == "fp32" else "int8.tensorrt"
        engine.agrees, engine.detail = agree(
            judged, bundle.task, golden[f"expected.{key}"], found, golden["expected.fp32"]
        )


def _measure(
    bundle: Bundle, backend: str, options: Options, runnable: Sequence[Engine], engines: Sequence[Engine],
    data: Path | None, seconds: float, command: str | None, notify: Notify,
) -> dict[str, Any]:  # fmt: skip
    """The report: all engines that work, timed in turns."""
    from edge.benchmarks.bench import Entry, bench_graphs
    from edge.benchmarks.bundles import inputs_of
    from edge.benchmarks.latency import Timing
    from edge.benchmarks.report import gate, make_report

    method = str(bundle.card["properties"]["edge:training"].get("method", "student"))
    modality, task = bundle.modality.name, bundle.task
    entries = [
        Entry(method, engine.precision, engine.plan.path, modality, task, backend) for engine in runnable if engine.plan
    ]
    timing = Timing(min_duration_s=seconds, max_duration_s=3 * seconds)
    rows = bench_graphs(
        entries, inputs_of([bundle], data), batches=tuple(dict.fromkeys(options.batch)), timing=timing,
        notify=notify,
    )  # fmt: skip
    gates = [
        gate(f"golden vectors on {load(backend).label}, {engine.precision}", "agree", None, bool(engine.agrees))
        for engine in engines
        if engine.plan
    ]
    return make_report(
        dataset=None if data is None else data.name, modality=modality, task=task, protocol=None, results=rows,
        gates=gates, command=command, warnings=[f"{each.precision}: {_reason(each)}" for each in engines if each.error],
    )  # fmt: skip


def _reason(engine: Engine) -> str:
    return engine.error.message if engine.error else f"golden vectors: {engine.detail}"
