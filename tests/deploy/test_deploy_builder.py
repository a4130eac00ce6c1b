"""NVIDIA's own builder takes the graphs that our rules call good, and refuses what they call wrong."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from qdq_graphs import concat, insert, node, residual, store, tempcnn

from edge.deploy.builder_tensorrt_rtx import build
from edge.errors import BackendMissing, InputError

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed; pip install tensorrt-rtx==1.7.1.116",
)


@needs_builder
@pytest.mark.parametrize("make", [tempcnn, residual, concat])
def test_a_good_graph_builds_without_a_warning(tmp_path, make):
    result = build(saved(make(), tmp_path))
    assert len(result.plan) > 10_000
    assert result.warnings == ()
    assert {"SM80", "SM86", "SM89"} <= set(result.capabilities)


@needs_builder
def test_the_plan_of_an_int8_graph_is_smaller_than_that_of_its_float_twin(tmp_path):
    int8, floats = (build(saved(tempcnn(form, channels=256), tmp_path)) for form in ("tensorrt", "float"))
    assert len(int8.plan) < 0.6 * len(floats.plan)  # weights are a quarter, kernels and the first layer stay


@needs_builder
def test_uint8_is_refused_although_the_builder_only_warns_and_reads_it_as_int8(tmp_path):
    model = tempcnn()
    store(model, "relu1.zero", np.uint8(0))
    with pytest.raises(InputError, match=r"would change the types .* UINT8 zero_point only on DLA"):
        build(saved(model, tmp_path))


@needs_builder
def test_a_zero_point_that_is_not_zero_is_refused_with_the_parsers_message_and_the_node(tmp_path):
    with pytest.raises(InputError, match=r"node 'bands.q': .*Non-zero zero point is not supported"):
        build(saved(tempcnn("cpu"), tmp_path))


@needs_builder
def test_an_int32_bias_is_refused_with_the_parsers_message(tmp_path):
    model = tempcnn()
    store(model, "bias.q", np.ones(16, np.int32))
    store(model, "bias.scale", np.full(16, 0.001, np.float32))
    insert(model, "conv2", helper.make_node("DequantizeLinear", ["bias.q", "bias.scale"], ["bias"], "bias.dq", axis=0))
    node(model, "conv2").input[2] = "bias"
    with pytest.raises(
        InputError, match="input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8"
    ) as caught:
        build(saved(model, tmp_path))
    assert "cudaError" not in caught.value.message


@needs_builder
def test_an_axis_that_is_free_besides_the_batch_is_named(tmp_path):
    model = tempcnn()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "times"
    with pytest.raises(InputError, match=r"'optical' has free axes besides the batch: \[-1, -1, 4\]"):
        build(saved(model, tmp_path))


@pytest.mark.parametrize("batch", [(0, 1, 2), (4, 2, 8), (1, 8, 4)])
def test_batch_sizes_out_of_order_are_refused(tmp_path, batch):
    with pytest.raises(InputError, match="smallest <= usual <= largest"):
        build(saved(tempcnn(), tmp_path), batch)


def test_without_the_package_the_line_that_installs_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendMissing, match=r"pip install tensorrt-rtx==1\.7\.1\.116"):
        build(saved(tempcnn(), tmp_path))


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path
