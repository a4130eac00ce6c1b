"""The recipe: everything that a run depends on, as plain dataclasses read from JSON or TOML; each flag has a key."""

import dataclasses
import difflib
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from edge.errors import InputError

T = TypeVar("T")
# Students of all modalities that are trained together: what `edge compress` and `edge build` take.
MDICO = ("mdico", "released", "without-con", "without-mod", "without-aux")
CO_LEARNED = ("taught", *MDICO, "distilled", "mutual", "discom-kd")
# All that can be compared, by name; each is a file in train/methods/.
METHODS = (*CO_LEARNED, "single", "single-matched", "concat", "ensemble", "random-forest")
OBJECTIVES = ("main", "aux", "con", "mod")  # train/objectives.py
SPARSITY = "2:4"  # deploy/sparsity.py
DEVICES = ("cpu", "cuda")
PROTOCOLS = ("grouped", "random", "fixed", "published")  # train/splits.py says what each is


@dataclass
class Model:
    """The encoders (MDiCo, arXiv 2510.19579)."""

    embedding: int = 128  # d; specific, unused and shared features have d / 2 each
    width: int = 128  # channels of the convolutions
    hidden: int = 512  # width of the last layer before the embedding
    kernel: int = 5  # time steps under one convolution
    dropout: float = 0.4  # 0.2 in the paper; benchmarks/RESULTS.md
    layer_norm: bool = False  # LayerNorm behind each encoder; the paper has it for LFMC only
    encoder: str | None = None  # family; None: the default of each modality's kind; several kinds: "ltae,resnet18"
    weights: str | None = None  # safetensors file that a family starts from (train/encoders/resnet.py)


@dataclass
class Objectives:
    """Weights of the four losses (1 in the paper) and the temperature of NT-Xent."""

    main: float = 1.0
    aux: float = 1.0
    con: float = 1.0
    mod: float = 1.0
    temperature: float = 0.1


@dataclass
class Training:
    """The optimiser and when it stops.

    Without `patience` the learning rate falls to 0 along half a cosine over all epochs, and the last weights are the
    result. With it the learning rate stays and training stops early, as in the paper (patience = 5, epochs = 100).
    """

    epochs: int | None = None  # None: 800 steps, and 12 to 100 epochs; with patience 100
    batch: int | None = None  # None: 32 below 10,000 training samples, else 128 (the paper's two settings)
    lr: float = 1e-3
    patience: int | None = None  # epochs without an improvement of the validation loss ...
    min_delta: float = 0.01  # ... of at least this
    augment: bool = True  # images are mirrored and turned at random; not where a direction means something
    bf16: bool = False  # encoders compute in bfloat16: patch encoders 2 to 2.6 times as fast on a CPU with AMX
    device: str = "cpu"  # "cuda": an NVIDIA GPU, under torchrun one for each process; fine-tuning stays on the CPU
    threads: int = 1  # small models train no faster with more, and another number rounds differently


@dataclass
class Compression:
    """Fine-tuning under fake quantization."""

    epochs: int | None = None  # None: if calibration costs over 1 % of validation loss an eighth of training's, else 0
    lr: float = 3e-5  # chosen on validation samples: benchmarks/RESULTS.md
    objectives: tuple[str, ...] = OBJECTIVES  # those of co-learning that act, with their weights of training
    distil: float = 1.0  # weight of staying close to the FP32 student's predictions
    features: float = 1.0  # weight of staying close to the FP32 student's specific and shared features
    calibration: int = 512  # training samples that set the first ranges
    exclude: tuple[str, ...] = ()  # layers that stay in float: [MODALITY.]LAYER, also with * ? [...]
    sparsity: str | None = None  # "2:4": two of any four weights become 0, which tensor cores since Ampere skip
    mixed: float | None = None  # leave in float what hurts most, up to this multiple of the INT8 latency; None: nothing


@dataclass
class Recipe:
    """One run. `modalities` empty means those that the data set recommends."""

    data: str = "simulated"
    modalities: tuple[str, ...] = ()
    method: str = "taught"
    seed: int = 0
    width: float = 1.0  # share of the channels of `model`; narrower students also learn from the full ones
    fold: int = 0  # this fold is the test set, the next one validates
    folds: int | None = None  # None: as many as the set publishes, else 5 (as many as groups, if these are 3 or 4)
    protocol: str | None = None  # None: the set's own split if it has one, else grouped folds
    target: str = "cpu"
    max_drop: float = 0.01  # gate: INT8 may be worse than FP32 by this fraction
    # gate: no class's recall or F1 may fall by more (regression: RMSE of a tenth of the target rise by a larger
    # fraction), if it has enough test samples (benchmarks/accuracy.py); None: no gate
    max_class_drop: float | None = 0.05
    model: Model = field(default_factory=Model)
    objectives: Objectives = field(default_factory=Objectives)
    training: Training = field(default_factory=Training)
    compression: Compression = field(default_factory=Compression)

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries, ready for json.dumps."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    def check(self) -> "Recipe":
        """Raise InputError for a value that cannot work; return self."""
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r} is not known; use one of {', '.join(METHODS)}")
        if self.protocol not in (None, *PROTOCOLS):
            raise InputError(f"protocol {self.protocol!r} is not known; use one of {', '.join(PROTOCOLS)}")
        if self.training.device not in DEVICES:
            raise InputError(f"training.device is {self.training.device!r}; use one of {', '.join(DEVICES)}")
        if self.folds is not None and self.folds < 1:
            raise InputError(f"folds is {self.folds}; it must be above 0")
        positive = {
            "training.epochs": self.training.epochs, "training.lr": self.training.lr,
            "model.width": self.model.width, "model.hidden": self.model.hidden, "model.kernel": self.model.kernel,
            "objectives.temperature": self.objectives.temperature, "compression.lr": self.compression.lr,
            "compression.calibration": self.compression.calibration, "training.patience": self.training.patience,
            "training.threads": self.training.threads,
        }  # fmt: skip
        for key, value in positive.items():
            if value is not None and value <= 0:
                raise InputError(f"{key} is {value}; it must be above 0")
        not_negative = {
            "training.min_delta": self.training.min_delta, "max_drop": self.max_drop,
            "compression.epochs": self.compression.epochs or 0, "compression.distil": self.compression.distil,
            "compression.features": self.compression.features,
            **{f"objectives.{name}": getattr(self.objectives, name) for name in OBJECTIVES},
        }  # fmt: skip
        for key, value in not_negative.items():
            if value < 0:
                raise InputError(f"{key} is {value}; it must be 0 or more")
        if not any(getattr(self.objectives, name) for name in OBJECTIVES):
            raise InputError(f"objectives: {', '.join(OBJECTIVES)} are all 0, which trains nothing; give one a weight")
        if self.max_class_drop is not None and self.max_class_drop < 0:
            raise InputError(f"max_class_drop is {self.max_class_drop}; it must be 0 or more")
        if self.compression.mixed is not None and self.compression.mixed < 1:
            raise InputError(f"compression.mixed is {self.compression.mixed}; it must be at least 1, the INT8 latency")
        if self.compression.sparsity not in (None, SPARSITY):
            raise InputError(f"compression.sparsity is {self.compression.sparsity!r}; the only pattern is {SPARSITY!r}")
        for name in self.compression.objectives:
            if name not in OBJECTIVES:
                raise InputError(f"compression.objectives: {name!r} is not known; use some of {', '.join(OBJECTIVES)}")
        if not 0 < self.width <= 1:
            raise InputError(f"width is {self.width}; it is a share of model.width, above 0 and at most 1")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}")
        if self.training.batch is not None and self.training.batch < 2:
            raise InputError(f"training.batch is {self.training.batch}; batch normalisation needs at least 2")
        if self.model.embedding < 2 or self.model.embedding % 2:
            raise InputError(f"model.embedding is {self.model.embedding}; it is split in two halves and must be even")
        if self.model.kernel % 2 == 0:
            raise InputError(f"model.kernel is {self.model.kernel}; it must be odd so that a series keeps its length")
        if not 0 <= self.model.dropout < 1:
            raise InputError(f"model.dropout is {self.model.dropout}; it must be in [0, 1)")
        return self


SHARED = 16  # channels of narrower students are a multiple: so integer kernels and attention heads want them


def narrowed(recipe: Recipe) -> Recipe:
    """The recipe with the model of its `width`, and width 1; InputError if that is the full model.

    The narrower students start without `model.weights`, which fit the full ones.
    """
    if recipe.width == 1:
        return recipe
    model, share = recipe.model, recipe.width
    narrow = dataclasses.replace(
        model, width=_share(model.width, share), hidden=_share(model.hidden, share),
        embedding=_share(model.embedding, share), weights=None,
    )  # fmt: skip
    if narrow == dataclasses.replace(model, weights=None):
        raise InputError(
            f"width {share:g} of model.width {model.width} is the full student: sizes are multiples of {SHARED}"
        )
    return dataclasses.replace(recipe, width=1.0, model=narrow)


def _share(size: int, share: float) -> int:
    return min(size, max(SHARED, round(size * share / SHARED) * SHARED))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from .json or .toml. InputError for an unknown key (names the nearest) or a wrong type."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else _toml().loads(text)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"the recipe {path} is not a file") from None
    except ValueError as error:  # of all three decoders
        raise InputError(f"the recipe {path} cannot be read: {error}") from None
    return _fill(Recipe, values, f"{path}: ").check()


def recipe_from_json(values: dict[str, Any]) -> Recipe:
    """The reverse of Recipe.to_json."""
    return _fill(Recipe, values, "the recipe: ")


def _tables(kind: Any) -> set[str]:
    return {part.name for part in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()


def _toml() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib


def _fill(kind: type[T], values: Any, place: str) -> T:
    if not isinstance(values, dict):
        raise InputError(f"{place.rstrip('. ')} expected a table of keys, got {values!r}")
    types = get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key not in types:
            elsewhere = [f"{table}.{key}" for table, inner in types.items() if key in _tables(inner)]
            near = elsewhere or difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known keys: {', '.join(types)}"
            raise InputError(f"{place}{key} is not a known key; {hint}")
        arguments[key] = _convert(types[key], value, f"{place}{key}")
    return kind(**arguments)


def _convert(wanted: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(wanted):
        return _fill(wanted, value, f"{place}.")  # type: ignore[arg-type]
    if get_origin(wanted) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise InputError(f"{place} is {value!r}; expected a list of names")
    choices = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
    if float in choices and type(value) is int:
        return float(value)
    if type(value) not in choices:
        names = " or ".join("null" if choice is NoneType else choice.__name__ for choice in choices)
        raise InputError(f"{place} is {value!r}; expected {names}")
    if type(value) is float and not math.isfinite(value):
        raise InputError(f"{place} is {value}; expected a finite number")
    return value
