"""The self-test of a bundle on the machine where it stands: is it whole, does it load, does it still say what it said?

Checks, in this order:

    checksums         every file is the one that was written; a damaged bundle is an InputError, not a failed check
    card              STAC 1.1 and MLM 1.5 schemas; skipped without jsonschema
    load <graph>      an engine opens the graph
    golden <graph>    its outputs for the golden inputs are the recorded ones
    batch <graph>     one sample at a time gives the same as all at once
    gates             the build passed all of its gates

Tolerances. FP32: 1e-4 of the largest recorded output; other kernels add in another order. INT8 and FP16: kernels of
another processor round differently and a step of a code moves a probability, so what counts is the decision: at least
99 % of the classes (or labels) equal; regression: root mean square difference at most 1 % of the recorded outputs'
standard deviation.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.card import validate_card
from edge.deploy.bundle import Bundle, verify_checksums
from edge.deploy.engine import Engine, open_engine, placement_of
from edge.errors import BackendMissing, InputError
from edge.tasks import Task

_FP32_TOLERANCE = 1e-4  # of the largest recorded output
_INT8_CLASSES = 0.99  # share of equal decisions
_INT8_SPREAD = 1e-2  # of the standard deviation of the recorded outputs
_ONE_BY_ONE = 8  # samples that the batch check runs one at a time


@dataclass(frozen=True)
class Check:
    """One check: `passed` is None when it was skipped; `detail` holds the figures or the reason."""

    name: str
    passed: bool | None
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The entry in the JSON of `edge verify`."""
        return dict(vars(self))


def verify(bundle: Bundle, backend: str = "onnxruntime") -> list[Check]:
    """Run every check. InputError: a damaged bundle. BackendMissing, FitError: the engine cannot load here."""
    checks = [Check("checksums", True, f"{verify_checksums(bundle)} files"), _card(bundle)]
    golden = bundle.golden()
    for key, path in bundle.graphs.items():
        if key == "int8.cpu" and placement_of(backend) != "cpu":
            checks.append(Check(f"load {key}", None, "it is for ONNX Runtime"))
            continue
        if key == "fp16" and placement_of(backend) == "tensorrt":
            checks.append(Check(f"load {key}", None, "`edge engine` builds and tests FP16"))
            continue
        with contextlib.closing(open_engine(path, backend=backend)) as engine:
            checks.append(_load(bundle, key, engine))
            if checks[-1].passed:
                checks.append(_golden(bundle, key, engine, golden))
                checks.append(_batch(bundle, key, engine, golden["input"]))
    failed = bundle.failed_gates
    checks.append(Check("gates", not failed, f"failed: {', '.join(failed)}" if failed else "none failed"))
    return checks


def agree(
    key: str, task: Task, expected: np.ndarray, found: np.ndarray, fp32: np.ndarray | None = None
) -> tuple[bool, str]:
    """Whether outputs (n, outputs) of graph `key` agree within the tolerances above, and the figures.

    INT8 may also be as far from `expected` as that is from `fp32`, the outputs without rounding: a deep network makes
    much of one code that another engine rounds the other way (see edge.gates.parity_gate).
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        return False, f"outputs of shape {list(found.shape)}, finite: {bool(np.isfinite(found).all())}"
    difference = np.abs(found.astype(np.float64) - expected)
    if key == "fp32":
        bound = _FP32_TOLERANCE * max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)
        return bool(difference.max() <= bound), f"largest difference {difference.max():.2g}, at most {bound:.2g}"
    if task.kind == "regression":
        bound = _INT8_SPREAD * float(expected.std()) or _FP32_TOLERANCE * float(np.abs(expected).max())
        if fp32 is not None:
            bound = max(bound, float(np.sqrt(np.mean((expected.astype(np.float64) - fp32) ** 2))))
        root = float(np.sqrt(np.mean(difference**2)))
        return root <= bound, f"root mean square difference {root:.2g} {task.unit}, at most {bound:.2g}"
    share = float(np.mean(decisions(task, found) == decisions(task, expected)))
    least = _INT8_CLASSES
    if fp32 is not None:
        least = min(least, float(np.mean(decisions(task, fp32) == decisions(task, expected))))
    return share >= least, f"{share:.2%} of the classes equal, at least {least:.2%}"


def decisions(task: Task, outputs: np.ndarray) -> np.ndarray:
    """Class index (n,) of probabilities (n, K); for several labels at once (n, K) bool, at least one half."""
    decided: np.ndarray = outputs >= 0.5 if task.kind == "multilabel" else outputs.argmax(axis=1)
    return decided


def _card(bundle: Bundle) -> Check:
    try:
        validate_card(bundle.card)
    except BackendMissing as missing:
        return Check("card", None, f"schemas skipped: {missing.message}")
    except InputError as error:
        return Check("card", False, error.message)
    return Check("card", True, "valid STAC 1.1 with MLM 1.5")


def _load(bundle: Bundle, key: str, engine: Engine) -> Check:
    """The graph's own idea of its input and output must be the card's."""
    about = engine.describe()
    found = [(tensor["name"], tensor["shape"][1:], tensor["dtype"]) for tensor in about["inputs"] + about["outputs"]]
    expected = [
        (bundle.modality.name, list(bundle.modality.shape), "float32"),
        ("prediction", [bundle.task.n_outputs], "float32"),
    ]
    if found != expected:
        return Check(f"load {key}", False, f"the graph has {found}; the card says {expected}")
    return Check(f"load {key}", True, f"{about['backend']} {about['version']}")


def _golden(bundle: Bundle, key: str, engine: Engine, golden: dict[str, np.ndarray]) -> Check:
    try:
        found = engine.run({bundle.modality.name: golden["input"]})["prediction"]
    except InputError as error:
        return Check(f"golden {key}", False, error.message)
    return Check(f"golden {key}", *agree(key, bundle.task, golden[f"expected.{key}"], found, golden["expected.fp32"]))


def _batch(bundle: Bundle, key: str, engine: Engine, inputs: np.ndarray) -> Check:
    name, inputs = bundle.modality.name, inputs[:_ONE_BY_ONE]
    try:
        together = engine.run({name: inputs})["prediction"]
        single = [engine.run({name: inputs[row : row + 1]})["prediction"] for row in range(len(inputs))]
    except InputError as error:
        return Check(f"batch {key}", False, f"the batch axis is not free: {error.message}")
    return Check(f"batch {key}", *agree(key, bundle.task, together, np.concatenate(single)))
