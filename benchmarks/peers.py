"""Our students beside what else could run them, in one process: same inputs, one thread each, measured in turns.

    python -m edge.benchmarks.peers --out benchmarks/results/peers.json      # half an hour
    python -m edge.benchmarks.peers --seconds 0.2 --student "LFMC sar"       # a look

The students are those of edge.benchmarks.student_speed: the default size with random weights and input, for series and
for images. Every peer gets the same folded student, without checks of its inputs and, where it likes that, compiled for
each batch size; ours are measured as a bundle runs them, checks included. A peer that is not installed (pip install
'edge-colearn[peers]' brings OpenVINO) or that fails is listed with the reason. `difference` is the largest from FP32's
output, relative to its largest value: what a peer computes must be the same thing.

trtexec is a program of its own and cannot take turns: its figure stands beside the others, measured after them.
"""

import importlib
import json
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edge.benchmarks.latency import Timing, measure_together
from edge.benchmarks.machine import OtherLoad, machine_facts, version
from edge.benchmarks.report import columns
from edge.benchmarks.student_speed import REFERENCE, STUDENTS, Shape, graphs, untrained
from edge.errors import BackendMissing
from edge.files import write_json

OURS, OURS_FP32 = "edge INT8", "edge FP32"
Array = npt.NDArray[Any]
Inputs = dict[str, Array]  # one modality: its name and samples (n, *shape)
# One run on inputs that are bound; gives the prediction.
Answer = Callable[[], Array]


class Student:
    """What peers are made from: the graphs as files, the torch module, and samples to calibrate with."""

    def __init__(self, kind: Shape, folder: Path) -> None:
        from edge.compress.export import Exported
        from edge.compress.fold import DeployedStudent, FoldedStudent

        self.folder, self.kind, self.calibration = folder, kind, kind.calibration()
        trained = untrained(kind)
        ((self.name, modality),) = trained.modalities.items()
        folded = DeployedStudent(FoldedStudent(trained.model.students[self.name]))  # type: ignore[arg-type]
        about = modality, trained.task, trained.scaling[self.name], trained.target_scaling
        self.module = Exported(folded, *about).eval()
        models = graphs(trained, self.calibration)
        self.fp32, self.int8 = folder / "fp32.onnx", folder / "int8.onnx"
        self.fp32.write_bytes(models[REFERENCE].SerializeToString())
        self.int8.write_bytes(models["INT8"].SerializeToString())


def edge(graph: Path, inputs: Inputs, backend: str = "onnxruntime") -> Answer:
    """One of our engines."""
    from edge.deploy.engine import open_engine

    engine = open_engine(graph, backend=backend)
    return lambda: np.asarray(engine.run(inputs)["prediction"])


def onnxruntime(graph: Path, inputs: Inputs, provider: str = "CPUExecutionProvider") -> Answer:
    """A bare session."""
    runtime = importlib.import_module("onnxruntime")
    if provider not in runtime.get_available_providers():
        raise BackendMissing(f"this onnxruntime has no {provider}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = runtime.InferenceSession(str(graph), options, providers=[provider])
    return lambda: np.asarray(session.run(None, inputs)[0])


def torch_eager(student: Student, inputs: Inputs, compiled: bool = False) -> Answer:
    """The torch module, as it is or through torch.compile."""
    import torch

    torch.set_num_threads(1)
    module: Any = torch.compile(student.module, dynamic=False) if compiled else student.module
    tensor = torch.from_numpy(inputs[student.name])

    def answer() -> Array:
        with torch.inference_mode():
            return np.asarray(module(tensor).numpy())

    return answer


def static_int8(student: Student) -> Path:
    """ONNX Runtime's own quantizer: Q/DQ, uint8 activations, int8 weights per channel, ranges from min and max."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.parts = iter(np.split(student.calibration, 8))

        def get_next(self) -> dict[str, Array] | None:
            part = next(self.parts, None)
            return None if part is None else {student.name: part}

    ready, out = student.folder / "ready.onnx", student.folder / "static.onnx"
    quant_pre_process(str(student.fp32), str(ready))
    quantize_static(
        str(ready), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return out


def nncf_onnx(student: Student) -> Path:
    """NNCF on the ONNX graph, with its defaults."""
    import nncf
    import onnx

    out = student.folder / "nncf.onnx"
    onnx.save(nncf.quantize(onnx.load(str(student.fp32)), calibration(student)), str(out))
    return out


def calibration(student: Student) -> Any:
    """The samples for NNCF."""
    import nncf

    return nncf.Dataset(np.split(student.calibration, 8), lambda part: {student.name: part})


def openvino(student: Student, inputs: Inputs, int8: bool = False) -> Answer:
    """OpenVINO compiled for this batch size; INT8 by NNCF's defaults for it."""
    from edge.deploy.engine_openvino import load

    runtime, x = load(), inputs[student.name]
    core = runtime.Core()
    model = core.read_model(str(student.fp32))
    if int8:
        import nncf

        model = nncf.quantize(model, calibration(student))
    model.reshape({student.name: list(x.shape)})
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(runtime.Tensor(x, shared_memory=True))  # once: bound in each run it costs 35 us
    found = request.get_output_tensor(0).data

    def answer() -> Array:
        request.infer(share_outputs=True)
        return np.asarray(found)

    return answer


def peers(student: Student, inputs: Inputs, made: dict[str, Path | str]) -> dict[str, Answer | str]:
    """Every peer ready to run, or the reason why it is not there; `made` keeps graphs between batch sizes."""

    def file(make: Callable[[Student], Path]) -> Path:
        name = make.__name__
        if name not in made:
            try:
                made[name] = make(student)
            except Exception as error:  # a foreign library's failure is a result here
                made[name] = _reason(error)
        found = made[name]
        if isinstance(found, str):
            raise BackendMissing(found)
        return found

    openers: dict[str, Callable[[], Answer]] = {
        OURS: lambda: edge(student.int8, inputs),
        OURS_FP32: lambda: edge(student.fp32, inputs),
        f"{OURS} on OpenVINO": lambda: edge(student.int8, inputs, "openvino"),
        f"{OURS_FP32} on OpenVINO": lambda: edge(student.fp32, inputs, "openvino"),
        "ONNX Runtime FP32": lambda: onnxruntime(student.fp32, inputs),
        "ONNX Runtime static INT8": lambda: onnxruntime(file(static_int8), inputs),
        "NNCF, ONNX Runtime INT8": lambda: onnxruntime(file(nncf_onnx), inputs),
        "OpenVINO FP32": lambda: openvino(student, inputs),
        "OpenVINO INT8": lambda: openvino(student, inputs, int8=True),
        "torch eager": lambda: torch_eager(student, inputs),
        "torch.compile": lambda: torch_eager(student, inputs, compiled=True),
        "ONNX Runtime CUDA": lambda: onnxruntime(student.fp32, inputs, "CUDAExecutionProvider"),
        "ONNX Runtime TensorRT": lambda: onnxruntime(student.fp32, inputs, "TensorrtExecutionProvider"),
    }
    return {name: _opened(opener) for name, opener in openers.items()}


def _opened(opener: Callable[[], Answer]) -> Answer | str:
    try:
        answer = opener()
        answer()
    except Exception as error:  # as above
        return _reason(error)
    return answer


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = lines[0].strip() if lines else ""
    return text if isinstance(error, BackendMissing) else f"{type(error).__name__}: {text}"[:200]


def trtexec(student: Student, batch: int) -> float | str:
    """Median microseconds from input to output by NVIDIA's own program, or why there are none."""
    if shutil.which("trtexec") is None:
        return "trtexec is not on the PATH; it comes with TensorRT"
    shape = "x".join(map(str, (batch, *student.kind.shape)))
    asked = subprocess.run(
        ["trtexec", f"--onnx={student.fp32}", f"--shapes={student.name}:{shape}"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    found = re.search(r"\bLatency: .*?median = ([\d.]+) ms", asked.stdout)
    return 1e3 * float(found[1]) if found else f"trtexec gave no latency, exit status {asked.returncode}"


def measure(student: Student, timing: Timing) -> list[dict[str, Any]]:
    """A row for each peer: median microseconds and times ours per batch size, or the reason why it is missing."""
    rows: dict[str, dict[str, Any]] = {}
    made: dict[str, Path | str] = {}
    for batch in student.kind.batches[:: len(student.kind.batches) - 1]:  # the smallest and the largest
        found = peers(student, {student.name: student.kind.random(batch, seed=0)}, made)
        ready = {name: answer for name, answer in found.items() if not isinstance(answer, str)}
        outputs = {name: answer().copy() for name, answer in ready.items()}
        reference = outputs[OURS_FP32]
        load = OtherLoad()
        timed = measure_together({name: _silent(answer) for name, answer in ready.items()}, timing)
        other_load = load.cores()
        us: dict[str, float | str] = {name: statistics.median(times.seconds) * 1e6 for name, times in timed.items()}
        us |= {name: answer for name, answer in found.items() if isinstance(answer, str)}
        us["trtexec FP32"] = trtexec(student, batch)
        ours = us[OURS]
        for name, value in us.items():
            row = rows.setdefault(name, {"peer": name, "us": {}, "times_ours": {}, "difference": None, "missing": None})
            row["other_load"] = other_load
            if isinstance(value, str) or isinstance(ours, str):
                row["missing"] = value
                continue
            row["us"][str(batch)], row["times_ours"][str(batch)] = value, value / ours
            if name in outputs:
                apart = float(np.abs(outputs[name].reshape(reference.shape) - reference).max())
                row["difference"] = max(row["difference"] or 0.0, apart / float(np.abs(reference).max()))
    return list(rows.values())


def _silent(answer: Answer) -> Callable[[], None]:
    def run() -> None:
        answer()

    return run


def table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    batches = list(rows[0]["us"])
    head = ["peer", *(f"us @{b}" for b in batches), *(f"times {OURS} @{b}" for b in batches), "difference"]
    lines = [head]
    for row in rows:
        if row["us"]:
            cells = [f"{row['us'][b]:,.1f}" if b in row["us"] else "" for b in batches]
            cells += [f"{row['times_ours'][b]:.2f}" if b in row["us"] else "" for b in batches]
            lines.append([row["peer"], *cells, "" if row["difference"] is None else f"{row['difference']:.1e}"])
    missing = [f"not here: {row['peer']}: {row['missing']}" for row in rows if row["missing"]]
    return "\n".join([columns(lines, left=1), *missing])


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="Measure each peer for so long at each batch size.")
@click.option("--student", "names", multiple=True, type=click.Choice(list(STUDENTS)), help="Repeatable. [default: all]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the JSON to a file, too.")
def main(seconds: float, names: tuple[str, ...], out: Path | None) -> None:
    """Measure our students and every peer that is installed beside each other."""
    timing = Timing(warmup_s=min(0.3, seconds), min_duration_s=seconds, max_duration_s=3 * seconds)
    students: dict[str, Any] = {}
    for name in names or STUDENTS:
        kind = STUDENTS[name]
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(Student(kind, Path(folder)), timing)
        print(f"{name}, {' x '.join(map(str, kind.shape))}\n{table(rows)}\n")
        students[name] = {"encoder": kind.encoder, "shape": kind.shape, "rows": rows}
    document = {"benchmark": "peers", "threads": 1, "machine": _machine(), "students": students}
    if out:
        write_json(out, document)
    print(json.dumps(document))


def _machine() -> dict[str, Any]:
    """The machine with the peers' versions."""
    facts = machine_facts()
    facts["versions"] |= {name: found for name in ("torch", "nncf") if (found := version(name))}
    return facts


if __name__ == "__main__":
    main()
