import json
import sys

import pytest
from tiny_bundles import KEYS

from edge.deploy.bundle import Bundle
from edge.deploy.inspect import as_text, inspect


def test_the_layers_show_the_precision_of_their_input_and_weights(tiny_bundle: Bundle) -> None:
    graphs = inspect(tiny_bundle)["graphs"]
    precisions = {key: {(layer["input"], layer["weights"]) for layer in graphs[key]["layers"]} for key in KEYS}
    assert precisions == {
        "fp32": {("float32", "float32")},
        "int8.tensorrt": {("int8", "int8")},
        "int8.cpu": {("uint8", "int8")},
    }
    layers = [(layer["op"], layer["name"], layer["weight_shape"]) for layer in graphs["int8.cpu"]["layers"]]
    assert layers == [("Conv", "first", [4, 2, 3]), ("Gemm", "last", [2, 12])]


def test_the_placement_shows_where_pairs_stand_and_their_ranges(tiny_bundle: Bundle) -> None:
    graphs = inspect(tiny_bundle)["graphs"]
    assert graphs["fp32"]["placement"] == []
    quantizers = [row for row in graphs["int8.cpu"]["placement"] if row["op"] == "QuantizeLinear"]
    assert [(row["tensor"], row["of"], row["dtype"], row["scales"]) for row in quantizers] == [
        ("series", "activations", "uint8", 1),
        ("conv", "weights", "int8", 4),
        ("hidden", "activations", "uint8", 1),
        ("gemm", "weights", "int8", 2),
    ]
    assert [row["zero_point"] for row in quantizers] == [[128, 128], [0, 0], [0, 0], [0, 0]]
    assert quantizers[0]["scale"] == pytest.approx([3 / 127, 3 / 127])
    assert [row["axis"] for row in quantizers] == [None, 0, None, 0]


def test_the_facts_are_json_and_count_every_node(tiny_bundle: Bundle) -> None:
    facts = json.loads(json.dumps(inspect(tiny_bundle), allow_nan=False))
    for key in KEYS:
        graph = facts["graphs"][key]
        assert graph["nodes"] == sum(graph["operators"].values())
        assert graph["opset"] == 17
        assert graph["bytes"] == (tiny_bundle.folder / graph["file"]).stat().st_size
    assert [band["name"] for band in facts["modality"]["bands"]] == ["B04", "ndvi"]
    assert facts["training"]["method"] == "mdico"


def test_without_onnx_the_bundle_is_still_described(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    facts = inspect(tiny_bundle)
    assert "pip install 'onnx>=1.19'" in facts["note"]
    assert "layers" not in facts["graphs"]["fp32"]
    text = as_text(facts)
    assert "B04 [reflectance x 10000], ndvi" in text
    assert facts["note"] in text


def test_the_text_says_what_goes_in_and_what_comes_out(tiny_bundle: Bundle) -> None:
    facts = inspect(tiny_bundle)
    text = as_text(facts)
    assert "optical: float32, batch x 3 time x 2 band, NaN = missing\n" in text
    assert "CSV        B04_t0, ndvi_t0, B04_t1, ndvi_t1, B04_t2, ndvi_t2\n" in text
    imported = {"nodata": -99.0, "columns": ["a", "b", "c", "d", "e", "f"]}
    more = as_text(facts | {"modality": facts["modality"] | imported})
    assert "NaN = missing, in files -99, too\n" in more
    assert "B04_t2, ndvi_t2 or a, b, c, d, e, f\n" in more
    assert "binary crop no crop, crop" in text
    assert "Conv  first  int8      uint8  int8     4 2 3" in text
