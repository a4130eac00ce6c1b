import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge import card as card_module
from edge.card import GRAPHS, check_card, make_card, validate_card
from edge.errors import BackendMissing, InputError
from edge.sensors import Band, Modality
from edge.tasks import Task

OPTICAL = Modality(
    "optical", (Band("B02", "reflectance x 10000", "blue"), Band("ndvi")), ("time", "band"), (12, 2), "Sentinel-2"
)
PATCH = Modality("sar", (Band("VV", "dB"), Band("VH", "dB")), ("band", "y", "x"), (2, 32, 32))
STATIC = Modality("soil", (Band("clay", "%"),), ("band",), (1,))
CROP = Task("binary", "crop", ("no crop", "crop"))
TASKS = (CROP, Task("multilabel", "use", ("a", "b", "c")), Task("regression", "lfmc", (), "%"))


def make(modality: Modality = OPTICAL, task: Task = CROP, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "name": "lfmc optical", "graphs": GRAPHS, "created": "2026-01-31T12:00:00Z",
        "training": {"method": "mdico", "modalities": ["optical", "sar"], "licence": "CC-BY-4.0"},
        "accuracy": {"fp32": {"metric": "r2", "value": 0.7}}, "hyperparameters": {"width": 128, "kernel.size": 5},
        "parameters": 1000,
    }  # fmt: skip
    return make_card(modality=modality, task=task, **{**arguments, **changes})


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a card needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("modality", [OPTICAL, PATCH, STATIC], ids=lambda modality: modality.kind)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_every_kind_of_card_is_valid_and_comes_back(modality: Modality, task: Task) -> None:
    card = json.loads(json.dumps(make(modality, task), allow_nan=False))
    validate_card(card)
    assert check_card(card) == (modality, task)


def test_a_card_with_a_place_is_valid() -> None:
    validate_card(make(geometry={"type": "Point", "coordinates": [7.0, 46.0]}, bbox=[7.0, 46.0, 7.0, 46.0]))


def test_the_card_says_order_axes_units_and_classes_in_the_words_of_mlm() -> None:
    properties = make()["properties"]
    assert properties["mlm:input"][0]["bands"] == ["B02", "ndvi"]
    assert properties["mlm:input"][0]["input"] == {
        "shape": [-1, 12, 2], "dim_order": ["batch", "time", "bands"], "data_type": "float32",
    }  # fmt: skip
    assert properties["bands"][0] == {
        "name": "B02", "unit": "reflectance x 10000", "data_type": "float32", "nodata": "nan", "eo:common_name": "blue",
    }  # fmt: skip
    assert [entry["description"] for entry in properties["mlm:output"][0]["classification:classes"]] == list(
        CROP.classes
    )
    assert properties["edge:training"]["edge"] == card_module.__version__
    assert make(task=TASKS[2])["properties"]["mlm:output"][0]["description"] == "unit: %"


def test_the_same_facts_make_the_same_card() -> None:
    assert make() == make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["properties"].update({"edge:schema": "edge.bundle/9"}), r"'edge.bundle/9' is not known"),
        (
            lambda c: c["properties"]["mlm:input"][0].update(bands=["ndvi", "B02"]),
            "mlm:input is .*need .*'B02', 'ndvi'",
        ),
        (lambda c: c["properties"]["bands"].pop(), r"bands is \['B02'\]"),
        (lambda c: c["properties"]["edge:modality"]["bands"].reverse(), "bands is"),
        (lambda c: c["properties"]["edge:modality"].update(shape=[12, 3]), r"shape \[12, 3\] does not fit"),
        (lambda c: c["properties"]["edge:task"].update(classes=["one", "two"]), "mlm:output is"),
        (lambda c: c["properties"].pop("edge:task"), "lacks 'edge:task'"),
        (lambda c: c["properties"].update(datetime="yesterday"), "datetime is 'yesterday'"),
        (lambda c: c.update(stac_version="1.0.0"), "stac_version is '1.0.0'"),
        (lambda c: c.update(bbox=[0, 0, 1, 1]), "geometry and bbox go together"),
        (lambda c: c.update(assets={}), "names no graph"),
        (lambda c: c["assets"]["fp32"].update(href=3), "href of a graph must be text"),
        (lambda c: c["assets"]["fp32"].pop("href"), "lacks 'href'"),
        (lambda c: c["properties"].update({"edge:failed_gates": [1]}), "must be a list of names"),
        (lambda c: c.update(properties=[]), "is not a card"),
    ],
)
def test_what_our_readers_need_is_checked_without_any_schema(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    card = make()
    change(card)
    with pytest.raises(InputError, match=message):
        check_card(card)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["properties"].update({"mlm:name": "1"}), "properties.mlm:name: '1' does not match"),
        (lambda c: c["properties"].update({"mlm:accelerator": "jetson"}), "mlm:accelerator: 'jetson'"),
        (lambda c: c["properties"].update({"mlm:tasks": ["guessing"]}), "'guessing' is not one of"),
        (lambda c: c["properties"].update({"mlm:hyperparameters": {"batch size": 1}}), "'batch size' does not match"),
        (lambda c: c["assets"]["fp32"].pop("mlm:artifact_type"), "'mlm:artifact_type' is a required property"),
        (lambda c: [asset.pop("bands", None) for asset in c["assets"].values()], "False schema does not allow"),
        (lambda c: c["properties"].update({"mlm:unheard_of": 1}), "mlm:unheard_of"),
        (lambda c: c["properties"].update(license="two words"), "license"),
        (lambda c: c.pop("links"), "'links' is a required property"),
        (lambda c: c.update(geometry={"type": "Blob"}, bbox=[0, 0, 1, 1]), "geometry"),
    ],
)
def test_the_stored_schemas_find_what_breaks_stac_and_mlm(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    card = make()
    change(card)
    check_card(card)
    with pytest.raises(InputError, match=message):
        validate_card(card)


def test_without_jsonschema_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(BackendMissing, match=r"jsonschema is not installed; pip install 'edge-colearn\[card\]'"):
        validate_card(make())


def test_every_stored_schema_has_a_source_and_a_licence() -> None:
    folder = Path(card_module.__file__).with_name("schemas")
    sources = json.loads((folder / "SOURCES.json").read_text())
    others = {path.name for path in folder.glob("*.json") if not path.name.startswith("edge.")}  # edge.*: our own
    assert others == {*sources, "SOURCES.json"}
    assert all(entry["licence"] == "Apache-2.0" and entry["source"] for entry in sources.values())


@pytest.mark.parametrize("name", ["7 bands", "", "ä", "a"])
def test_a_name_that_mlm_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot stand in a card"):
        make(name=name)


def test_an_unknown_graph_is_refused() -> None:
    with pytest.raises(InputError, match=r"'int4' is not known; use one of fp32, fp16, int8\.tensorrt, int8\.cpu"):
        make(graphs=["int4"])
