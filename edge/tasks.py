"""What is predicted: the four kinds of task, their targets and outputs."""

from dataclasses import dataclass
from typing import Any

from edge.errors import InputError

# kind -> (main metric, higher is better). Macro recall is the papers' "average accuracy".
METRICS = {
    "binary": ("macro_recall", True),
    "multiclass": ("macro_recall", True),
    "multilabel": ("f1_macro", True),
    "regression": ("r2", True),
}


@dataclass(frozen=True)
class Task:
    """A prediction task.

    Targets: binary and multiclass (N,) int64 class index; multilabel (N, K) 0/1; regression (N,) float32 in `unit`.
    Outputs of a student, named `prediction`: class probabilities (N, K); label probabilities (N, K); values (N, 1) in
    `unit`.
    """

    kind: str
    name: str = "target"
    classes: tuple[str, ...] = ()
    unit: str = "1"

    def __post_init__(self) -> None:
        if self.kind not in METRICS:
            raise InputError(f"task kind {self.kind!r} is not known; use one of {', '.join(METRICS)}")
        if self.kind == "binary" and len(self.classes) != 2:
            raise InputError(f"a binary task has two classes, not {', '.join(self.classes) or 'none'}")
        if self.kind in ("multiclass", "multilabel") and len(self.classes) < 2:
            raise InputError(f"a {self.kind} task needs at least two classes, got {', '.join(self.classes) or 'none'}")

    @property
    def n_outputs(self) -> int:
        """Width of the prediction."""
        return 1 if self.kind == "regression" else len(self.classes)

    @property
    def metric(self) -> str:
        """The metric that is reported and gated."""
        return METRICS[self.kind][0]

    def to_json(self) -> dict[str, Any]:
        """The entry in dataset.json and in the card."""
        return {"kind": self.kind, "name": self.name, "classes": list(self.classes), "unit": self.unit}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Task":
        """The reverse of `to_json`."""
        try:
            return cls(entry["kind"], entry["name"], tuple(entry["classes"]), entry["unit"])
        except (KeyError, TypeError) as error:
            raise InputError(f"the description of the task is incomplete or wrong: {error}") from None
