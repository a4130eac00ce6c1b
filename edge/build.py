"""`edge build`: what is missing of train -> compress -> export -> check -> measure, then the bundle."""

import dataclasses
import datetime
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge.errors import BackendMissing, GateError, InputError
from edge.files import replacing
from edge.gates import (
    FOLDING,
    at_most,
    choose,
    class_gates,
    compile_gates,
    cost_gates,
    drop_gate,
    half_gate,
    parity_gate,
    placement_gates,
    sparsity_gates,
)
from edge.metrics import score
from edge.recipe import CO_LEARNED, Recipe
from edge.target import CPU, bundle_name, default_precision, next_command, target_named

if TYPE_CHECKING:
    from edge.compress.compression import Compressed
    from edge.compress.graphs import Folding
    from edge.deploy.bundle import Bundle
    from edge.engines import Engines
    from edge.train.paired import PairedSet
    from edge.train.training import Trained

Array = npt.NDArray[Any]
WITH_INT8 = ("int8", "auto")  # precisions for which the bundle has INT8 graphs
USUAL_BATCH = 32  # by which `auto` judges latency
ON_CPU = ("fp32", "int8.cpu")  # graphs that run on this machine
GOLDEN = 16  # samples of the self-test; from the validation part, since the test part is for the metric alone


@dataclass(frozen=True)
class Built:
    """The bundle's folder, its report, what folding saved, whether it was there already, and engines built here."""

    folder: Path
    report: dict[str, Any]
    folding: "Folding"
    reused: bool
    engines: "Engines | None" = None  # where this machine is the board that the bundle is for

    def check_gates(self) -> None:
        """Raise GateError that names the gates that failed."""
        failed = [gate for gate in self.report["gates"] if not gate["passed"]]
        if failed:
            lines = "".join(f"\n  {gate['name']}: {gate['value']} (bound {gate['bound']})" for gate in failed)
            bounds = [
                "--max-class-drop" if gate["name"].startswith("worst class") else "--max-drop"
                for gate in failed
                if "int8 against fp32" in gate["name"]
            ]
            if bounds:
                lines += f"\n--mixed leaves in float what INT8 hurts most; the bound is {' and '.join(bounds)}"
            raise GateError(f"a gate failed; the bundle {self.folder} is kept and marked as failed:{lines}")


def build(
    recipe: Recipe, modality: str, precision: str | None, run: Path, *, command: str, force: bool = False
) -> Built:
    """Build the bundle of one student; every stage that is there and still fits is used again.

    A student narrower than the full one (`recipe.width`) is a run of its own, RUN/width-W, and learns from the full
    students in RUN. `precision`: fp32, int8 or auto, for a board also fp16; None takes the target's default. auto
    decides for the fastest that keeps the accuracy: on a CPU now, for a board there. An encoder that has no INT8 form
    is built without, and a warning in the report says so. InputError before anything is trained if modality or target
    is not known.
    """
    from edge.benchmarks.report import read_report
    from edge.compress.graphs import folding
    from edge.deploy.bundle import open_bundle
    from edge.stages import check_run, open_data, train_single, train_students
    from edge.train.encoders import no_int8
    from edge.train.training import check_modality, choose_modalities

    if recipe.method not in CO_LEARNED:
        raise InputError(
            f"method {recipe.method!r} gives no co-learned student to build; use one of {', '.join(CO_LEARNED)}"
        )
    recipe = dataclasses.replace(recipe, target=target_named(recipe.target).target)
    precision = precision or default_precision(recipe.target)
    if precision == "fp16" and recipe.target == CPU:
        raise InputError("fp16 is for boards with TensorRT: name one with --target, or use --precision int8")
    data = open_data(recipe)
    check_modality(modality, choose_modalities(data, recipe), f"the modalities of {data.name} that are trained")
    check_run(run)
    doubts: list[str] = []
    if precision in WITH_INT8 and (reason := no_int8(data.modalities[modality], recipe.model)):
        instead = "fp32" if recipe.target == CPU else "fp16"
        precision, doubts = instead, [f"{reason}; it is built in {instead.upper()}"]
    trained, recipe, run = train_students(data, recipe, run, resume=not force)
    single = train_single(data, recipe, modality, run, resume=not force)
    compressed = _compress(data, trained, recipe, run, force) if precision in WITH_INT8 else None
    if recipe.compression.sparsity and not (compressed and compressed.students[modality].sparse):
        why = "no layer is of a size that sparse kernels take" if compressed else "it comes with INT8 fine-tuning"
        doubts.append(f"This bundle has no {recipe.compression.sparsity} sparsity: {why}.")
    if (recipe.compression.exclude or recipe.compression.mixed) and not compressed:
        doubts.append("Nothing was left in float by --exclude or --mixed: this bundle has no INT8 graph.")
    elif recipe.compression.mixed and compressed and not compressed.students[modality].excluded:
        doubts.append("--mixed left all layers in INT8: none whose damage is beyond doubt fits the latency budget.")
    saved = folding(trained, modality)
    folder = run / "bundles" / bundle_name(modality, precision, recipe.target)
    mark = _fingerprint(recipe, trained, single, compressed, precision)
    if not force and folder.exists():
        try:
            bundle = open_bundle(folder)
        except InputError:
            bundle = None
        if bundle and bundle.card["properties"]["edge:training"]["fingerprint"] == mark:
            report = read_report(folder)
            report["warnings"] = [*dict.fromkeys([*doubts, *report["warnings"]])]
            return Built(folder, report, saved, reused=True, engines=_engines(bundle, recipe, precision, run, command))
    builder = Builder(data, recipe, modality, trained, single, compressed, saved, doubts, precision)
    report = builder.write(folder, run, mark, command)
    engines = _engines(open_bundle(folder), recipe, precision, run, command)
    return Built(folder, report, saved, reused=False, engines=engines)


@dataclass
class Builder:
    """Everything that one bundle is made of."""

    data: "PairedSet"
    recipe: Recipe
    modality: str
    trained: "Trained"
    single: "Trained"
    compressed: "Compressed | None"
    folding: "Folding"
    doubts: list[str]  # what the command asked for and did not get
    precision: str  # what the command asked for

    def write(self, folder: Path, run: Path, mark: str, command: str) -> dict[str, Any]:
        """Export, check, measure, write the bundle; return its report."""
        from edge.benchmarks.html import report_html
        from edge.benchmarks.report import make_report
        from edge.deploy.bundle import write_bundle

        inputs, target, groups = self.samples("test")
        self.save_test(run / "test" / f"{self.modality}.npz", inputs, target, groups)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=run) as temporary:
            graphs = self.export(Path(temporary))
            single = graphs.pop("single")
            predictions = {key: _predict(path, self.modality, inputs) for key, path in graphs.items()}
            rows = self.measure(graphs, single, inputs, target, groups)
            worst = self.worst_class(predictions, target, groups)
            use = self.decide(graphs, rows)
            following = next_command(folder, self.modality, self.precision, self.recipe.target)
            report = make_report(
                dataset=self.data.name, modality=self.modality, task=self.data.task, protocol=self.protocol(),
                results=rows, gates=self.gates(graphs, inputs, predictions, target, rows, worst), command=command,
                warnings=[*self.doubts, *use["why"]], following=following, worst_class=worst,
            )  # fmt: skip
            golden = self.golden(graphs)
            card = self.card(graphs, rows, mark)
            card["properties"] |= {"edge:target": self.recipe.target, "edge:precision": use, "edge:next": following}
            write_bundle(
                folder, card=card, graphs=graphs, golden=golden,
                report=report, report_html=report_html(report),
            )  # fmt: skip
        return report

    def export(self, folder: Path) -> dict[str, Path]:
        """Write the graphs of the bundle, and the single model's under the key `single`."""
        import onnx

        from edge.compress.graphs import fp32_graph, int8_graphs
        from edge.deploy.half import half_graph

        models = {"fp32": fp32_graph(self.trained, self.modality)}
        if self.precision == "fp16":
            models["fp16"] = half_graph(models["fp32"])
        if self.compressed:
            models |= int8_graphs(self.trained, self.compressed, self.modality)
        models["single"] = fp32_graph(self.single, self.modality)
        paths = {}
        for key, model in models.items():
            paths[key] = folder / f"{key}.onnx"
            onnx.save(model, str(paths[key]))
        return paths

    def samples(self, part: str) -> tuple[Array, Array, Array]:
        """Sensor values, targets and groups of the samples of a part that have the modality."""
        index = self._part(part)
        return (
            np.array(self.data.arrays[self.modality][index]),
            np.array(self.data.target[index]),
            np.array(self.data.groups[index]),
        )

    def save_test(self, path: Path, inputs: Array, target: Array, groups: Array) -> None:
        """Keep the test samples for `edge bench --data`; a bundle has none of them, for they may be licensed."""
        with replacing(path) as temporary:
            arrays = {self.modality: inputs, "target": target, "groups": groups}
            np.savez(temporary, **arrays)  # type: ignore[arg-type]  # numpy's own keyword is in the way

    def golden(self, graphs: dict[str, Path]) -> dict[str, Array]:
        """Inputs from the validation samples and what each graph makes of them here."""
        inputs = self._some("validation", GOLDEN)
        outputs = {f"expected.{key}": _predict(path, self.modality, inputs) for key, path in graphs.items()}
        return {"input": inputs, **outputs}

    def measure(
        self, graphs: dict[str, Path], single: Path, inputs: Array, target: Array, groups: Array
    ) -> list[dict[str, Any]]:
        """Latency and accuracy of the single model and of the student, side by side in one run."""
        from tqdm import tqdm

        from edge.benchmarks.bench import BATCHES, Entry, Inputs, bench_graphs

        task, method = self.data.task, self.recipe.method
        entries = [Entry("single", "fp32", single, self.modality, task)]
        entries.append(Entry(method, "fp32", graphs["fp32"], self.modality, task))
        if "fp16" in graphs:
            entries.append(Entry(method, "fp16", graphs["fp16"], self.modality, task))
        if "int8.cpu" in graphs:
            entries.append(Entry(method, "int8", graphs["int8.cpu"], self.modality, task))
        with tqdm(total=2 * len(entries) + len(BATCHES), desc="measure", disable=None) as bar:

            def notify(what: str) -> None:
                bar.set_postfix_str(what)
                bar.update()

            return bench_graphs(entries, {self.modality: Inputs(inputs, target, groups)}, notify=notify)

    def gates(
        self,
        graphs: dict[str, Path],
        inputs: Array,
        predictions: dict[str, Array],
        target: Array,
        rows: list[dict[str, Any]],
        worst: dict[str, Any] | None,
    ) -> list[dict[str, Any]]:
        """Exact folding, the same answers as the torch models, the engines' rules, the cost of FP16 or INT8."""
        task, references = self.data.task, {"fp32": self._float_reference(inputs)}
        if "fp16" in graphs:
            references["fp16"] = references["fp32"]
        here = self.data.present(self.modality)[self._split().test]
        for placement, students in (self.compressed.references if self.compressed else {}).items():
            references[f"int8.{placement}"] = students[self.modality].numpy()[here]
        mine = {
            precision: [row for row in rows if row["method"] == self.recipe.method and row["precision"] == precision]
            for precision in ("fp32", "int8")
        }
        found = [at_most("folding: largest difference", FOLDING, self.folding.difference)]
        for key, reference in references.items():
            found.append(parity_gate(f"torch = {key}", task, reference, predictions[key], target, references["fp32"]))
        found += placement_gates(graphs)
        if sparse := self.compressed.students[self.modality].sparse if self.compressed else ():
            found += sparsity_gates(graphs, sparse)
        if self.recipe.target != CPU:
            found += compile_gates(graphs)
        if "fp16" in graphs:
            found.append(half_gate(graphs["fp16"], {self.modality: self._some("validation")}))
        if worst and self.recipe.target != CPU:  # latency is measured on the board
            before, after = (score(task, predictions[key], target) for key in ("fp32", worst["graph"]))
            found.append(drop_gate(task, before, after, self.recipe.max_drop, worst["precision"]))
        elif mine["int8"] and self.precision != "auto":
            found += cost_gates(task, mine["fp32"], mine["int8"], self.recipe.max_drop)
        if self.recipe.target != CPU or self.precision != "auto":  # else `decide` obeys them
            found += self.class_gates(worst)
        return found

    def class_gates(self, worst: dict[str, Any] | None) -> list[dict[str, Any]]:
        """What the lower precision may do to its worst class."""
        return class_gates(worst, self.recipe.max_class_drop) if worst else []

    def worst_class(self, predictions: dict[str, Array], target: Array, groups: Array) -> dict[str, Any] | None:
        """What the lower precision does to the class that it hurts most; None for FP32 alone."""
        from edge.benchmarks.accuracy import worst_class

        graph = "fp16" if "fp16" in predictions else f"int8.{'cpu' if self.recipe.target == CPU else 'tensorrt'}"
        if graph not in predictions:
            return None
        found = worst_class(self.data.task, predictions["fp32"], predictions[graph], target, groups)
        return {"precision": graph.partition(".")[0], "graph": graph} | found

    def decide(self, graphs: dict[str, Path], rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The card's `edge:precision`: what was asked, what is used (None: to be chosen on the board), and why."""
        use: dict[str, Any] = {"asked": self.precision, "chosen": None, "why": []}
        if self.recipe.target != CPU:
            name = self.recipe.target
            use["why"] = [f"Latencies are of this machine's CPU; on {name} `edge engine` measures, and chooses."]
            if self.precision == "fp16":
                use["why"].append("FP16 accuracy is of FP16 weights alone: this CPU computes in FP32.")
        elif self.precision == "auto":
            mine = [row for row in rows if row["method"] == self.recipe.method]
            use["chosen"], use["why"] = self.fastest(graphs, mine)
        else:
            use["chosen"] = self.precision
        return use

    def fastest(self, graphs: dict[str, Path], rows: list[dict[str, Any]]) -> tuple[str, list[str]]:
        """The precision for this CPU, and why: latency from `rows`, accuracy on validation samples.

        The test part chooses nothing, so what the report says of the chosen graph was not chosen for being high.
        """
        inputs, target, groups = self.samples("validation")
        said = {key: _predict(path, self.modality, inputs) for key, path in graphs.items() if key in ON_CPU}
        scores = {key.partition(".")[0]: score(self.data.task, values, target) for key, values in said.items()}
        failed = [gate for gate in self.class_gates(self.worst_class(said, target, groups)) if not gate["passed"]]
        judged = [row | {"scores": scores[row["precision"]]} for row in rows]
        return choose(self.data.task, judged, self.recipe.max_drop, USUAL_BATCH, failed)

    def card(self, graphs: dict[str, Path], rows: list[dict[str, Any]], mark: str) -> dict[str, Any]:
        """The card of a bundle with these graphs."""
        from edge.card import make_card
        from edge.train.encoders import choose_family

        facts, source = self.trained.facts, self.data.source
        first = {row["precision"]: row for row in reversed(rows) if row["method"] == self.recipe.method}
        calibration: dict[str, Any] = {}
        if self.compressed:
            calibration = self.calibration(graphs["int8.cpu"])
        return make_card(
            name=f"{self.data.name}-{self.modality}", modality=self.data.modalities[self.modality], task=self.data.task,
            graphs=graphs, created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            training={
                "method": self.recipe.method, "modalities": list(self.trained.modalities), "data": self.data.name,
                "data_fingerprint": self.data.fingerprint, "fingerprint": mark, "protocol": self.protocol(),
                "full": facts["full"], "samples": facts["split"], "seed": self.recipe.seed,
                "licence": source.get("licence", "not stated"), "citation": source.get("citation", "not stated"),
            },
            accuracy={
                precision: {"metric": self.data.task.metric, "value": row["metric"], "ci95": row["metric_ci95"]}
                for precision, row in first.items()
            },
            calibration=calibration, parameters=self.folding.after["parameters"],
            architecture=choose_family(self.data.modalities[self.modality], self.recipe.model)[0],
            hyperparameters={key: value for key, value in vars(self.recipe.model).items() if value is not None},
        )  # fmt: skip

    def calibration(self, graph: Path) -> dict[str, Any]:
        """What the first ranges were set by, between which values the input is not cut off, and all trained ranges."""
        import onnx

        from edge.compress.calibration import input_limit, with_limits

        assert self.compressed is not None  # noqa: S101 - asked for INT8 bundles alone
        facts, scaling = self.compressed.facts["students"][self.modality], self.trained.scaling[self.modality]
        limit = input_limit(onnx.load(str(graph)))
        about = with_limits(facts["calibration"], self.data.modalities[self.modality], scaling, limit)
        return about | {"layers": facts["ranges"]}

    def protocol(self) -> str:
        """How the test samples were kept apart."""
        from edge.train.splits import protocol_text

        return protocol_text(self.data, self.recipe)

    def _split(self) -> Any:
        from edge.train.training import split_of

        return split_of(self.data, self.recipe)

    def _part(self, name: str) -> npt.NDArray[np.int64]:
        index: npt.NDArray[np.int64] = getattr(self._split(), name)
        index = index[self.data.present(self.modality)[index]]
        if not len(index):
            raise InputError(f"no sample of the {name} part has the modality {self.modality!r}; use another --fold")
        return index

    def _some(self, part: str, count: int = 256) -> Array:
        """Sensor values of at most `count` samples of a part, spread over it."""
        index = self._part(part)
        chosen = index[np.linspace(0, len(index) - 1, min(count, len(index))).astype(int)]
        return np.array(self.data.arrays[self.modality][chosen], dtype=np.float32)

    def _float_reference(self, inputs: Array) -> Array:
        """The torch student, unfolded, on sensor values."""
        import torch

        from edge.train.training import to_units

        x = torch.from_numpy(self.trained.scaling[self.modality].apply(inputs))
        with torch.no_grad():
            output = self.trained.model.students[self.modality](x).prediction
        units: Array = to_units(self.data.task, output, self.trained.target_scaling).numpy()
        return units


def _compress(data: "PairedSet", trained: "Trained", recipe: Recipe, run: Path, force: bool) -> "Compressed":
    from edge.compress.mixed import compress_mixed

    return compress_mixed(data, trained, recipe, run / "compress", resume=not force)


def _engines(bundle: "Bundle", recipe: Recipe, precision: str, run: Path, command: str) -> "Engines | None":
    """The TensorRT engines, where this machine is the board that the bundle is for and has TensorRT."""
    from edge.deploy.boards import read_board

    board = read_board()
    if recipe.target == CPU or board is None or board.target != recipe.target:
        return None
    import click

    from edge.deploy.builder_tensorrt import PRECISIONS, Options
    from edge.engines import build_engines, find_backend

    try:
        backend = find_backend()
    except BackendMissing:
        return None
    return build_engines(
        bundle, backend, Options(), precisions=(precision,) if precision in ("fp32", "fp16") else PRECISIONS,
        data=run / "test" / f"{bundle.modality.name}.npz", max_drop=recipe.max_drop, command=command,
        notify=lambda message: click.echo(message, err=True),
    )  # fmt: skip


def _predict(path: Path, modality: str, inputs: Array) -> Array:
    import contextlib

    from edge.benchmarks.bench import predict
    from edge.deploy.engine import open_engine

    with contextlib.closing(open_engine(path)) as engine:
        return predict(engine, modality, inputs)


def _fingerprint(
    recipe: Recipe, trained: "Trained", single: "Trained", compressed: "Compressed | None", precision: str
) -> str:
    import edge.benchmarks
    import edge.deploy
    from edge.train.fingerprint import code_version, fingerprint

    code = code_version(*(Path(module.__path__[0]) for module in (edge, edge.deploy, edge.benchmarks)))
    parts = [run.facts["fingerprint"] for run in (trained, single, compressed) if run]
    return fingerprint(parts, precision, recipe.max_drop, recipe.max_class_drop, recipe.target, code)
