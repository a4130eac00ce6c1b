"""NVIDIA's own builder takes the graphs that our rules call good, and refuses what they call wrong; and, on a fake,
what only a board can show: flags, retries, the accelerator."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_tensorrt import OUT_OF_MEMORY, FakeTensorRT
from onnx import helper
from qdq_graphs import concat, insert, node, residual, store, tempcnn

from edge.deploy import dla, gpu, tensorrt_api, timing_cache
from edge.deploy.boards import Board
from edge.deploy.builder_tensorrt import Options, build, options_from_json
from edge.deploy.half import half_graph
from edge.errors import BackendMissing, FitError, InputError

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed; pip install tensorrt-rtx==1.7.1.116",
)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def use(fake: FakeTensorRT, monkeypatch, tmp_path) -> FakeTensorRT:
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timing_cache, "gpu_here", lambda: ("Orin", "8.7"))
    return fake


@pytest.fixture
def trt(monkeypatch, tmp_path):
    """TensorRT 10.3, not real."""
    return use(FakeTensorRT(), monkeypatch, tmp_path)


def on_board(monkeypatch, target):
    board = target and Board(target, target, "name", "36.4.3", "6.2", None, {}, None, None, None)
    monkeypatch.setattr(dla, "read_board", lambda *_: board)


@needs_builder
@pytest.mark.parametrize("make", [tempcnn, residual, concat])
def test_a_good_graph_builds_without_a_warning(tmp_path, make):
    result = build(saved(make(), tmp_path), Options("int8"))
    assert len(result.plan) > 10_000
    # The compiler may say that it reads the FP16 scales of a small convolution as FP32, which loses nothing.
    assert [text for text in result.warnings if not re.search(r"Converting conv \w+ scales to fp32", text)] == []
    assert {"SM80", "SM86", "SM89"} <= set(result.capabilities)
    assert result.builder.startswith("tensorrt_rtx 1.")
    assert result.typed == "strongly"


@needs_builder
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_graph_builds_in_both_float_precisions(tmp_path, precision):
    result = build(saved(tempcnn("float", channels=256), tmp_path), Options(precision, batch=(4, 4, 4)))
    assert result.warnings == ()
    assert (len(result.plan) > 2_000_000) == (precision == "fp32")  # 455,000 weights of 4 or 2 bytes


@needs_builder
def test_the_plan_of_an_int8_graph_is_smaller_than_that_of_its_float_twin(tmp_path):
    int8 = build(saved(tempcnn(channels=256), tmp_path), Options("int8"))
    floats = build(saved(tempcnn("float", channels=256), tmp_path), Options("fp32"))
    assert len(int8.plan) < 0.6 * len(floats.plan)  # weights are a quarter, kernels and the first layer stay


@needs_builder
def test_uint8_is_refused_although_the_builder_only_warns_and_reads_it_as_int8(tmp_path):
    model = tempcnn()
    store(model, "relu1.zero", np.uint8(0))
    with pytest.raises(InputError, match=r"would change the types .* UINT8 zero_point only on DLA"):
        build(saved(model, tmp_path), Options("int8"))


@needs_builder
def test_a_zero_point_that_is_not_zero_is_refused_with_the_parsers_message_and_the_node(tmp_path):
    with pytest.raises(InputError, match=r"node 'bands.q': .*Non-zero zero point is not supported"):
        build(saved(tempcnn("cpu"), tmp_path), Options("int8"))


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
        build(saved(model, tmp_path), Options("int8"))
    assert "cudaError" not in caught.value.message


@needs_builder
def test_an_axis_that_is_free_besides_the_batch_is_named(tmp_path):
    model = tempcnn("float")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "times"
    with pytest.raises(InputError, match=r"'optical' has free axes besides the batch: \[-1, -1, 4\]"):
        build(saved(model, tmp_path))


@needs_builder
def test_progress_is_told_from_0_to_all_steps_and_ctrl_c_in_it_stops_the_build(tmp_path):
    told = []
    path = saved(tempcnn("float"), tmp_path)
    build(path, progress=lambda *step: told.append(step))
    phase, done, steps = told[-1]
    assert (phase, done) == ("Building engine", steps)
    assert [each[1] for each in told] == sorted(each[1] for each in told)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, progress=stop)


@needs_builder
def test_tensorrt_rtx_has_no_accelerator_and_says_which_board_lacks_it(tmp_path, monkeypatch):
    path = saved(tempcnn("float"), tmp_path)
    on_board(monkeypatch, None)
    with pytest.raises(FitError, match="DLA 0 cannot be used: this machine is no NVIDIA board; build without --dla"):
        build(path, Options("fp16", dla=0))
    on_board(monkeypatch, "jetson-agx-orin")
    with pytest.raises(FitError, match="TensorRT-RTX has none"):
        build(path, Options("fp16", dla=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": (0, 1, 2)}, "smallest <= usual <= largest"),
        ({"batch": (4, 2, 8)}, "smallest <= usual <= largest"),
        ({"batch": (1, 8, 4)}, "smallest <= usual <= largest"),
        ({"precision": "int4"}, "'int4' is not known; use one of fp32, fp16, int8"),
        ({"workspace_mb": 1}, "must be at least 16"),
        ({"level": 6}, "from 0 to 5"),
        ({"dla": -1}, "0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        build(saved(tempcnn("float"), tmp_path), Options(**options))


def test_options_come_back_from_json_and_nothing_else_does():
    options = Options("int8", (1, 2, 3), 64, 3, True, 1)
    assert options_from_json(options.to_json()) == options
    for wrong in (None, {}, {"batch": [1, 2]}, {"batch": [1, 1, 1], "colour": "red"}):
        with pytest.raises(InputError):
            options_from_json(wrong)


@pytest.mark.parametrize(("form", "precision"), [("tensorrt", "fp16"), ("float", "int8")])
def test_a_graph_of_the_wrong_kind_is_refused(tmp_path, trt, form, precision):
    with pytest.raises(InputError, match="take the bundle's other graph"):
        build(saved(tempcnn(form), tmp_path), Options(precision), backend="tensorrt")


def test_a_graph_with_fp16_inside_is_taken_as_it_is_by_a_strongly_typed_network_alone(tmp_path, monkeypatch, trt):
    path = saved(half_graph(tempcnn("float")), tmp_path)
    for options in (Options("fp16"), Options("fp32")):
        with pytest.raises(InputError, match="FP16 inside, for strongly typed networks alone; take the bundle's fp32"):
            build(path, options, backend="tensorrt")
    use(FakeTensorRT("11.1.0", weak=False), monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)  # a board need not have it
    assert build(path, Options("fp16"), backend="tensorrt").typed == "strongly"


def test_without_the_package_the_line_that_installs_it_is_given(tmp_path, monkeypatch):
    for name, line in {
        "tensorrt_rtx": r"pip install tensorrt-rtx==1\.7\.1\.116",
        "tensorrt": r"JetPack: sudo apt-get install -y python3-libnvinfer.*on x86: pip install tensorrt",
    }.items():
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(BackendMissing, match=line) as caught:
            build(saved(tempcnn("float"), tmp_path), backend=name)
        assert caught.value.exit_code == 5


def test_tensorrt_that_is_too_old_is_refused(tmp_path, monkeypatch):
    use(FakeTensorRT("8.2.1.8"), monkeypatch, tmp_path)
    with pytest.raises(FitError, match=r"TensorRT 8\.2\.1\.8 is older than 8\.5"):
        build(saved(tempcnn("float"), tmp_path), backend="tensorrt")


@pytest.mark.parametrize(
    ("precision", "form", "flags"),
    [
        ("fp32", "float", set()),
        ("fp16", "float", {"FP16", "OBEY_PRECISION_CONSTRAINTS"}),
        ("int8", "tensorrt", {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}),
    ],
)
def test_a_weakly_typed_network_gets_flags_and_fp32_is_not_tf32(tmp_path, trt, precision, form, flags):
    result = build(saved(tempcnn(form), tmp_path), Options(precision), backend="tensorrt")
    assert (result.plan, result.typed, result.builder) == (b"a plan", "weakly", "tensorrt 10.3.0")
    assert trt.configs[0].flags == flags
    assert trt.networks[0].flags == 0
    held = {layer.name for layer in trt.layers if layer.precision == trt.float32}
    assert held == ({"scale", "units"} if precision != "fp32" else set())
    assert all(layer.output_types == {0: trt.float32} for layer in trt.layers if layer.name in held)


@pytest.mark.parametrize(("version", "strong"), [("10.12.0", True), ("10.11.0", False)])
def test_strong_typing_can_be_asked_for_from_10_12_on(tmp_path, monkeypatch, version, strong):
    trt = use(FakeTensorRT(version), monkeypatch, tmp_path)
    path = saved(tempcnn(), tmp_path)
    if not strong:
        with pytest.raises(InputError, match=r"strongly typed networks need TensorRT 10\.12; this is 10\.11\.0"):
            build(path, Options("int8", strongly_typed=True), backend="tensorrt")
        return
    assert build(path, Options("int8", strongly_typed=True), backend="tensorrt").typed == "strongly"
    assert trt.networks[0].flags == 1 << 1
    assert trt.configs[0].flags == set()


def test_tensorrt_11_is_strongly_typed_and_its_bit_is_another(tmp_path, monkeypatch):
    trt = use(FakeTensorRT("11.4.1", weak=False), monkeypatch, tmp_path)
    assert build(saved(tempcnn(), tmp_path), Options("int8"), backend="tensorrt").typed == "strongly"
    assert trt.networks[0].flags == 1 << 0
    assert trt.configs[0].previews == []


def test_tensorrt_8_has_an_explicit_batch_and_shares_profiles(tmp_path, monkeypatch):
    trt = use(FakeTensorRT("8.6.2"), monkeypatch, tmp_path)
    build(saved(tempcnn("float"), tmp_path), backend="tensorrt")
    assert trt.networks[0].flags == 1 << 0
    assert trt.configs[0].previews == ["PROFILE_SHARING_0806"]


def test_batch_sizes_make_a_profile_or_a_fixed_axis(tmp_path, trt):
    trt.plans *= 2
    path = saved(tempcnn("float"), tmp_path)
    build(path, Options(batch=(2, 4, 8)), backend="tensorrt")
    assert trt.configs[0].profiles[0].shapes == {"optical": ((2, 3, 2), (4, 3, 2), (8, 3, 2))}
    build(path, Options(batch=(4, 4, 4)), backend="tensorrt")
    assert trt.configs[1].profiles == []
    assert trt.networks[1].get_input(0).shape == (4, 3, 2)


def test_out_of_memory_is_tried_again_with_less_and_said(tmp_path, trt):
    trt.plans, trt.while_building, told = [None, None, b"small"], [OUT_OF_MEMORY], []
    result = build(saved(tempcnn("float"), tmp_path), backend="tensorrt", notify=told.append)
    assert (result.plan, result.workspace_mb) == (b"small", 256)
    assert [config.pools for config in trt.configs] == [{}, {"WORKSPACE": 1024 << 20}, {"WORKSPACE": 256 << 20}]
    assert [text.rpartition("; ")[2] for text in told] == [
        "trying again with 1024 MiB of workspace",
        "trying again with 256 MiB of workspace",
    ]


def test_out_of_memory_to_the_end_is_a_fit_error_with_the_way_out(tmp_path, trt):
    trt.plans, trt.while_building = [None] * 9, [OUT_OF_MEMORY]
    with pytest.raises(FitError, match=r"with 16 MiB of workspace, too: close other programs, add swap") as caught:
        build(saved(tempcnn("float"), tmp_path), Options(workspace_mb=64), backend="tensorrt")
    assert caught.value.exit_code == 4
    assert len(trt.configs) == 2


def test_another_failure_is_not_tried_again(tmp_path, trt):
    trt.plans, trt.while_building = [None] * 9, ["Could not find any implementation for node conv"]
    with pytest.raises(InputError, match=r"tensorrt 10\.3\.0 cannot build .*: Could not find any implementation"):
        build(saved(tempcnn("float"), tmp_path), backend="tensorrt")
    assert len(trt.configs) == 1


def test_a_machine_that_cannot_make_a_builder_is_a_fit_error(tmp_path, trt):
    def nothing(_):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.Builder = nothing
    with pytest.raises(FitError, match=r"cannot build here .*factory function returned nullptr"):
        build(saved(tempcnn("float"), tmp_path), backend="tensorrt")


@pytest.mark.parametrize("text", ["UINT8 zero_point is read as INT8", "Missing scale: quantization is skipped"])
def test_a_parser_warning_about_types_fails_the_build_and_another_one_is_kept(tmp_path, trt, text):
    trt.while_parsing = [text]
    with pytest.raises(InputError, match="would change the types"):
        build(saved(tempcnn("float"), tmp_path), backend="tensorrt")
    trt.while_parsing = ["ModelImporter: the name is long"]
    assert build(saved(tempcnn("float"), tmp_path), backend="tensorrt").warnings == ("ModelImporter: the name is long",)


def test_the_timing_cache_is_kept_reused_and_a_damaged_one_left_out(tmp_path, trt):
    trt.plans *= 3
    path = saved(tempcnn("float"), tmp_path)
    kept = tmp_path / "cache" / "tensorrt" / "timing" / "10.3.0-sm8.7.cache"
    build(path, backend="tensorrt")
    assert kept.read_bytes() == b"+timed"
    build(path, backend="tensorrt")
    assert kept.read_bytes() == b"+timed+timed"
    kept.write_bytes(b"damaged")
    build(path, backend="tensorrt")
    assert kept.read_bytes() == b"+timed"


@pytest.mark.parametrize(
    ("board", "version", "precision", "core", "reason"),
    [
        ("jetson-orin-nano", "10.3.0", "fp16", 0, r"Jetson Orin Nano 8 GB \(Super\) has none"),
        ("jetson-orin-nx-8gb", "10.3.0", "fp16", 1, "has 1, counted from 0"),
        ("jetson-agx-orin", "10.16.2", "fp16", 0, r"TensorRT 10\.16\.2 is without it \(10\.7 was the last"),
        ("jetson-agx-orin", "11.4.0", "fp16", 0, "is without it"),
        ("jetson-orin-nx", "11.4.1", "fp16", 0, "has it on AGX Orin only"),
        ("jetson-agx-orin", "10.3.0", "fp32", 0, "FP16 and INT8 only"),
        ("jetson-agx-orin", "10.3.0", "int8", 0, r"takes no Q/DQ pairs on it .*FP16 works"),
        ("jetson-agx-orin", "10.3.0", "fp16", 1, None),
        ("jetson-agx-orin", "10.7.0", "fp16", 0, None),
        ("jetson-agx-orin", "11.4.1", "int8", 0, None),
    ],
)
def test_the_accelerator_is_refused_with_the_reason(monkeypatch, board, version, precision, core, reason):
    on_board(monkeypatch, board)
    found = dla.why_not(tensorrt_api.Api("tensorrt", None, version), precision, core)
    if reason is None:
        assert found is None
    else:
        assert re.search(reason, found or "")


def test_layers_that_leave_the_accelerator_are_named_one_by_one(tmp_path, trt, monkeypatch):
    on_board(monkeypatch, "jetson-agx-orin")
    told = []
    graph, options = saved(tempcnn("float"), tmp_path), Options("fp16", (8, 8, 8), dla=1)
    result = build(graph, options, backend="tensorrt", notify=told.append)
    assert result.on_gpu == ("scale", "weight", "head", "units")
    assert told == [f"not on DLA 1 but on the GPU: {name}" for name in result.on_gpu]
    config = trt.configs[0]
    assert (config.default_device_type, config.DLA_core) == (trt.DeviceType.DLA, 1)
    assert "GPU_FALLBACK" in config.flags
    trt.on_dla, trt.plans = set(), [b"a plan"]
    with pytest.raises(FitError, match="cannot run any of the 6 layers"):
        build(graph, options, backend="tensorrt")


def test_the_accelerator_takes_one_batch_size(tmp_path, trt, monkeypatch):
    on_board(monkeypatch, "jetson-agx-orin")
    with pytest.raises(InputError, match="DLA 0 takes one batch size, not 1 to 256: give --min-batch N --max-batch N"):
        build(saved(tempcnn("float"), tmp_path), Options("fp16", dla=0), backend="tensorrt")


@needs_builder
def test_with_a_gpu_in_the_machine_tensorrt_rtx_builds_for_that_one(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "gpu_here", lambda: ("NVIDIA H100", "9.0"))
    wanted = []
    real = tensorrt_api.load("tensorrt_rtx").trt.IBuilderConfig

    class Recorded:
        def __init__(self):
            self.num_compute_capabilities = 0

        def set_compute_capability(self, capability, index):
            wanted.append((capability.name, index))

    from edge.deploy.builder_tensorrt import _target

    assert hasattr(real, "set_compute_capability")
    assert _target(tensorrt_api.load("tensorrt_rtx").trt, Recorded()) == ("CURRENT",)
    assert wanted == [("CURRENT", 0)]
