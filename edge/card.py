"""The card of a bundle: a STAC 1.1 item with the machine-learning-model extension (MLM) v1.5, as a plain dictionary.

What a catalogue knows to read stands where STAC and MLM want it. What our readers need and MLM has no place for
stands in `properties` under `edge:`:

    edge:schema        "edge.bundle/1"
    edge:modality      name, sensor, axes, shape, bands with units (edge.sensors.Modality)
    edge:task          kind, classes, unit (edge.tasks.Task)
    edge:training      method, modalities seen in training, data set, fingerprint, licence, citation, version of edge
    edge:accuracy      what was measured on the deployed graphs
    edge:calibration   the ranges that the INT8 graphs were given
    edge:failed_gates  names of the gates that the build did not pass; empty for a good bundle

Sources: https://github.com/radiantearth/stac-spec/blob/v1.1.0/item-spec/item-spec.md,
https://github.com/stac-extensions/mlm (v1.5.0). Both schemas are stored in edge/schemas, where SOURCES.json says
where each file comes from; nothing here uses a network.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge import __version__
from edge.errors import BackendMissing, InputError
from edge.files import read_json
from edge.sensors import Band, Modality
from edge.tasks import Task

SCHEMA = "edge.bundle/1"
GRAPHS = ("fp32", "fp16", "int8.tensorrt", "int8.cpu")
_MLM = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
_EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
_ITEM = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
_SCHEMAS = Path(__file__).with_name("schemas")

# Our axes in the words of MLM; `bands` is the word that its schema insists on.
_AXES = {"band": "bands", "time": "time", "y": "height", "x": "width"}
_TASKS = {
    "binary": "classification",
    "multiclass": "classification",
    "multilabel": "classification",
    "regression": "regression",
}
_TITLES = {
    "fp32": "FP32 graph",
    "fp16": "FP16 graph for strongly typed TensorRT networks: FP16 between the first and the last layer with weights",
    "int8.tensorrt": "INT8 graph for TensorRT: symmetric, zero point 0",
    "int8.cpu": "INT8 graph for ONNX Runtime on a CPU: same trained ranges, placed so that all of it fuses",
}


def graph_file(key: str) -> str:
    """The file of a graph in a bundle: `fp32` -> `model.fp32.onnx`."""
    return f"model.{key}.onnx"


def make_card(
    *,
    name: str,
    modality: Modality,
    task: Task,
    graphs: Iterable[str],
    created: str,
    training: Mapping[str, Any],
    accuracy: Mapping[str, Any],
    calibration: Mapping[str, Any] | None = None,
    architecture: str = "TempCNN",
    parameters: int | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    geometry: Mapping[str, Any] | None = None,
    bbox: list[float] | None = None,
) -> dict[str, Any]:
    """The card of one student.

    `graphs`: keys of GRAPHS. `created`: RFC 3339 in UTC ("2026-01-31T12:00:00Z"); given, so that the same build
    writes the same card. `training`: `method`, `modalities`, `data`, `fingerprint`, `licence`, `citation`. `geometry`
    with `bbox`: where the training data lie, when that is known. InputError: what `check_card` finds.
    """
    identifier = _identifier(name)
    properties: dict[str, Any] = {
        "datetime": created,
        "title": name,
        "description": f"One-modality student: {modality.name} in, {task.name} out. It takes sensor values as they "
        "come: normalisation, missing values (NaN) and units are inside the graph.",
        "bands": [_band(band) for band in modality.bands],
        "mlm:name": identifier,
        "mlm:architecture": architecture,
        "mlm:framework": "ONNX",
        "mlm:tasks": [_TASKS[task.kind]],
        "mlm:pretrained": False,
        "mlm:pretrained_source": None,
        # The enumeration of mlm:accelerator has no value for a Jetson.
        "mlm:accelerator_summary": "CPU with ONNX Runtime; NVIDIA GPU or Jetson with TensorRT",
        "mlm:input": [_input(modality)],
        "mlm:output": [_output(task)],
        "edge:schema": SCHEMA,
        "edge:modality": {"name": modality.name, **modality.to_json()},
        "edge:task": task.to_json(),
        "edge:training": {**training, "edge": __version__},
        "edge:accuracy": dict(accuracy),
        "edge:calibration": dict(calibration or {}),
        "edge:failed_gates": [],
    }
    if parameters is not None:
        properties["mlm:total_parameters"] = parameters
    if hyperparameters:
        properties["mlm:hyperparameters"] = dict(hyperparameters)
    card = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_MLM, *([_EO] if any(band.common_name for band in modality.bands) else [])],
        "id": identifier,
        "geometry": geometry,
        **({"bbox": bbox} if geometry is not None else {}),
        "properties": properties,
        "links": [],
        "assets": {**{key: _asset(key, modality) for key in graphs}, **_documents()},
    }
    check_card(card)
    return card


def check_card(card: Any, place: str = "the card") -> tuple[Modality, Task]:
    """Check what our readers rely on and the schemas do not see; return the modality and the task, or raise InputError.

    An input band that the item does not describe, or another order of bands, is legal in MLM and fatal for a student.
    """
    try:
        properties = card["properties"]
        schema = properties["edge:schema"]
        if schema != SCHEMA:
            raise InputError(
                f"{place}: the schema {schema!r} is not known; this version of edge ({__version__}) reads {SCHEMA}; "
                "install the version that wrote the bundle, or a newer one"
            )
        modality = Modality.from_json(properties["edge:modality"]["name"], properties["edge:modality"])
        task = Task.from_json(properties["edge:task"])
        _check_agreement(card, modality, task, place)
    except KeyError as error:
        raise InputError(f"{place} lacks {error}") from None
    except (TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{place} is not a card: {error}") from None
    return modality, task


def validate_card(card: Any) -> None:
    """`check_card`, then the stored schemas of STAC 1.1 and MLM 1.5. Without jsonschema: BackendMissing."""
    check_card(card)
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise BackendMissing(f"{error.name} is not installed; pip install 'edge-colearn[card]'") from None
    stored = {entry["uri"]: read_json(_SCHEMAS / file) for file, entry in read_json(_SCHEMAS / "SOURCES.json").items()}
    resources = [(uri, referencing.Resource.from_contents(schema)) for uri, schema in stored.items()]
    registry: referencing.Registry[Any] = referencing.Registry().with_resources(resources)
    faults = [
        f"{'.'.join(map(str, fault.absolute_path)) or 'the item'}: {fault.message}"
        for uri in (_ITEM, _MLM)
        for fault in jsonschema.Draft7Validator(stored[uri], registry=registry).iter_errors(card)
    ]
    if faults:
        raise InputError(
            f"the card breaks the schemas of STAC and MLM: {'; '.join(fault[:200] for fault in faults[:3])}"
        )


def graph_hrefs(card: Mapping[str, Any]) -> dict[str, str]:
    """Graph key -> path as the card writes it, for the graphs that the card has."""
    return {key: card["assets"][key]["href"] for key in GRAPHS if key in card["assets"]}


def _check_agreement(card: Mapping[str, Any], modality: Modality, task: Task, place: str) -> None:
    """The MLM part and our own part must say the same."""
    properties = card["properties"]
    names = [band.name for band in modality.bands]
    for key, expected, found in (
        ("stac_version", "1.1.0", card["stac_version"]),
        ("bands", names, [band["name"] for band in properties["bands"]]),
        ("mlm:input", _input(modality), properties["mlm:input"][0]),
        ("mlm:output", _output(task), properties["mlm:output"][0]),
    ):
        if found != expected:
            raise InputError(f"{place}: {key} is {found!r}; modality {modality.name!r} and its task need {expected!r}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", properties["datetime"]):
        raise InputError(
            f"{place}: datetime is {properties['datetime']!r}; write it as 2026-01-31T12:00:00Z (RFC 3339, UTC)"
        )
    if (card["geometry"] is None) == ("bbox" in card):
        raise InputError(f"{place}: geometry and bbox go together; give both or neither")
    hrefs = graph_hrefs(card)
    if not hrefs:
        raise InputError(f"{place} names no graph; known graphs: {', '.join(GRAPHS)}")
    if not all(isinstance(href, str) for href in hrefs.values()):
        raise InputError(f"{place}: the href of a graph must be text, got {hrefs}")
    if not all(isinstance(gate, str) for gate in properties["edge:failed_gates"]):
        raise InputError(f"{place}: edge:failed_gates must be a list of names")


def _identifier(name: str) -> str:
    """`name` in the letters that mlm:name allows."""
    kept = re.sub(r"[^0-9A-Za-z_.-]+", "-", name).strip("-._")
    if not re.fullmatch(r"[A-Za-z].+[0-9A-Za-z]", kept):
        raise InputError(f"the name {name!r} cannot stand in a card; begin it with a letter and use at least three")
    return kept


def _band(band: Band) -> dict[str, Any]:
    entry = {"name": band.name, "unit": band.unit, "data_type": "float32", "nodata": "nan"}
    return {**entry, "eo:common_name": band.common_name} if band.common_name else entry


def _input(modality: Modality) -> dict[str, Any]:
    return {
        "name": modality.name,
        "bands": [band.name for band in modality.bands],
        "input": {
            "shape": [-1, *modality.shape],
            "dim_order": ["batch", *(_AXES[axis] for axis in modality.dims)],
            "data_type": "float32",
        },
        "value_scaling": None,  # it is inside the graph
        "resize_type": None,
    }


def _output(task: Task) -> dict[str, Any]:
    result = {"shape": [-1, task.n_outputs], "dim_order": ["batch", "value"], "data_type": "float32"}
    if task.kind == "regression":
        return {"name": "prediction", "tasks": ["regression"], "description": f"unit: {task.unit}", "result": result}
    return {
        "name": "prediction",
        "tasks": ["classification"],
        "result": {**result, "dim_order": ["batch", "class"]},
        "classification:classes": [
            {"value": value, "name": name, "description": name} for value, name in enumerate(task.classes)
        ],
    }


def _asset(key: str, modality: Modality) -> dict[str, Any]:
    if key not in GRAPHS:
        raise InputError(f"the graph {key!r} is not known; use one of {', '.join(GRAPHS)}")
    return {
        "href": f"./{graph_file(key)}",
        "type": "application/octet-stream; application=onnx",
        "title": _TITLES[key],
        "roles": ["mlm:model"],
        "mlm:artifact_type": "onnx",
        # STAC 1.1 allows bands in the properties only if an asset has them too.
        "bands": [{"name": band.name} for band in modality.bands],
    }


def _documents() -> dict[str, Any]:
    return {
        "golden": {"href": "./golden.npz", "title": "Inputs and expected outputs for the self-test", "roles": ["data"]},
        "report": {"href": "./report.json", "type": "application/json", "title": "Measurements", "roles": ["metadata"]},
        "page": {"href": "./report.html", "type": "text/html", "title": "Measurements to read", "roles": ["overview"]},
    }
