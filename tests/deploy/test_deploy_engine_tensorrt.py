"""The TensorRT engine's control flow on a fake, and its results where there is a GPU (`-m gpu`)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_tensorrt import FakeCuda, FakeTensorRT
from tiny_bundles import TASKS, student, values

from edge.deploy import cuda as cuda_module
from edge.deploy import gpu, tensorrt_api
from edge.deploy.cuda import Cuda
from edge.deploy.engine import Engine, backends, open_engine, placement_of
from edge.deploy.engine_tensorrt import SLOTS
from edge.deploy.inspector import count_layers
from edge.errors import BackendMissing, FitError, InputError


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRT:
    """TensorRT 10.3 on an Orin, both fake."""
    fake = FakeTensorRT()
    fake.plans = [b"plan"] * 9
    fake.cuda = FakeCuda()
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tensorrt", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(tensorrt_api, "MODULES", ("tensorrt",))
    monkeypatch.setattr(cuda_module, "_runtime", lambda: fake.cuda)
    gpu.gpu_here.cache_clear()
    yield fake
    gpu.gpu_here.cache_clear()


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    onnx.save(student(TASKS["binary"], "fp32"), tmp_path / "model.fp32.onnx")
    return tmp_path / "model.fp32.onnx"


@pytest.fixture
def engine(trt: FakeTensorRT, graph: Path) -> Engine:
    return open_engine(graph, backend="tensorrt")


def samples(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 2)).astype(np.float32)


def test_both_modules_are_engines_that_take_the_symmetric_graph() -> None:
    assert {"tensorrt", "tensorrt_rtx"} <= set(backends())
    assert placement_of("tensorrt") == placement_of("tensorrt_rtx") == "tensorrt"
    assert placement_of("onnxruntime") == "cpu"


@pytest.mark.parametrize("n", [1, 3, 8, 9, 20])
def test_every_number_of_samples_comes_back_in_order(engine: Engine, n: int) -> None:
    x = samples(n)
    found = engine.run({"optical": x})
    assert list(found) == ["prediction"]
    np.testing.assert_allclose(found["prediction"], x.sum(axis=(1, 2))[:, None], rtol=1e-5)


def test_fewer_samples_than_the_smallest_batch_are_filled_up(trt: FakeTensorRT, graph: Path) -> None:
    trt.batch = (4, 4, 4)
    engine = open_engine(graph, backend="tensorrt")
    assert engine.describe()["batch"] == [4, 4]
    for n in (4, 1, 7):
        x = samples(n, seed=n)
        np.testing.assert_allclose(engine.run({"optical": x})["prediction"][:, 0], x.sum(axis=(1, 2)), rtol=1e-5)


def test_outputs_are_not_written_over_by_the_next_run(engine: Engine) -> None:
    first = engine.run({"optical": samples(2)})["prediction"]
    kept = first.copy()
    engine.run({"optical": samples(2, seed=1)})
    np.testing.assert_array_equal(first, kept)


def test_a_batch_size_is_prepared_once_and_then_costs_a_launch_and_a_wait(trt: FakeTensorRT, engine: Engine) -> None:
    engine.run({"optical": samples(2)})
    trt.cuda.calls.clear()
    engine.run({"optical": samples(2)})
    assert trt.cuda.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]
    engine.run({"optical": samples(3)})
    assert "cudaMalloc" in trt.cuda.calls


def test_any_mix_of_batch_sizes_soon_needs_nothing_new(trt: FakeTensorRT, graph: Path) -> None:
    """As the server scenario asks for them: slots are the powers of two, and the batch that the plan is tuned for."""
    trt.batch = (1, 24, 100)
    engine = open_engine(graph, backend="tensorrt")
    for n in range(1, 101):
        x = samples(n)
        np.testing.assert_allclose(engine.run({"optical": x})["prediction"][:, 0], x.sum(axis=(1, 2)), rtol=1e-5)
    assert sorted(context.shape[0] for context in trt.contexts) == [1, 2, 4, 8, 16, 24, 32, 64, 100]
    trt.cuda.calls.clear()
    for n in (99, 3, 50, 17):
        engine.run({"optical": samples(n)})
    assert set(trt.cuda.calls) == {"cudaGraphLaunch", "cudaStreamSynchronize"}


def test_contexts_share_one_scratch_memory_where_tensorrt_says_how_much(trt: FakeTensorRT, engine: Engine) -> None:
    for n in (1, 8):
        engine.run({"optical": samples(n)})
    assert {context.strategy.name for context in trt.contexts} == {"USER_MANAGED"}
    (shared,) = {context.memory for context in trt.contexts}
    assert shared[1] == 1000
    assert shared[0] in trt.cuda.live
    engine.close()
    assert trt.cuda.live == {}


def test_on_tensorrt_8_each_context_has_its_own_memory_and_is_given_its_profile(trt: FakeTensorRT, graph: Path) -> None:
    trt.__version__ = "8.6.2"
    engine = open_engine(graph, backend="tensorrt")
    for n in (1, 8):
        engine.run({"optical": samples(n)})
    assert [(context.strategy, context.memory, context.profile) for context in trt.contexts] == [(None, None, 0)] * 2


def test_a_context_that_finds_no_room_takes_that_of_the_slot_used_longest_ago(
    trt: FakeTensorRT, engine: Engine
) -> None:
    engine.run({"optical": samples(1)})
    trt.room = trt.cuda.alive()
    x = samples(8)
    np.testing.assert_allclose(engine.run({"optical": x})["prediction"][:, 0], x.sum(axis=(1, 2)), rtol=1e-5)
    assert [context.shape[0] for context in trt.contexts] == [1, 8]
    trt.room = 0
    with pytest.raises(FitError, match="no room for an execution context of batch 1"):
        engine.run({"optical": samples(1)})


def test_parts_are_the_times_between_four_events_and_need_no_more_memory(trt: FakeTensorRT, engine: Engine) -> None:
    x = samples(2)
    engine.run({"optical": x})
    before = len(trt.cuda.live)
    outputs, parts = engine.run_in_parts({"optical": x})
    np.testing.assert_allclose(outputs["prediction"][:, 0], x.sum(axis=(1, 2)), rtol=1e-5)
    assert parts == (0.001, 0.001, 0.001)  # the fake clock moves a millisecond per event
    assert len(trt.cuda.live) == before
    trt.cuda.calls.clear()
    engine.run_in_parts({"optical": x})
    assert trt.cuda.calls.count("cudaGraphLaunch") == 1
    assert "cudaEventCreate" not in trt.cuda.calls
    assert engine.run_in_parts({"optical": samples(16)})[1].graph == pytest.approx(0.002)  # two batches of 8


def test_the_batch_size_used_longest_ago_makes_room_and_closing_frees_everything(
    trt: FakeTensorRT, graph: Path
) -> None:
    trt.batch = (1, 4, 2**14)
    engine = open_engine(graph, backend="tensorrt")
    for power in range(SLOTS + 2):
        engine.run({"optical": samples(2**power)})
        assert len(trt.cuda.live) <= SLOTS * 4 + 1  # two tensors, host and device; the scratch memory
    engine.run_in_parts({"optical": samples(5)})
    engine.close()
    assert trt.cuda.live == {}
    assert trt.cuda.calls.count("cudaGraphExecDestroy") == SLOTS + 2 + 1


def test_a_plan_that_cannot_be_captured_runs_call_by_call_and_says_so(trt: FakeTensorRT, graph: Path) -> None:
    trt.captures = False
    engine = open_engine(graph, backend="tensorrt")
    assert engine.describe()["cuda_graph"] is None
    x = samples(3)
    np.testing.assert_allclose(engine.run({"optical": x})["prediction"][:, 0], x.sum(axis=(1, 2)), rtol=1e-5)
    assert engine.describe()["cuda_graph"] is False
    assert "cudaGetLastError" in trt.cuda.calls  # the failed capture leaves no error behind
    assert engine.run_in_parts({"optical": x})[1] == (0.001, 0.001, 0.001)


def test_a_gpu_without_room_is_a_fit_error_and_leaks_nothing(trt: FakeTensorRT, engine: Engine) -> None:
    engine.run({"optical": samples(1)})
    trt.cuda.fail = "cudaMalloc"
    with pytest.raises(FitError, match="cudaMalloc: out of memory"):
        engine.run({"optical": samples(2)})
    assert len(trt.cuda.live) == 1, "the scratch memory"


def test_describe_says_which_builder_made_the_plan(engine: Engine, graph: Path) -> None:
    about = engine.describe()
    assert (about["backend"], about["version"], about["builder"]) == ("tensorrt", "10.3.0", "tensorrt 10.3.0")
    assert about["providers"] == ["Orin (8.7)"]
    assert about["inputs"] == [{"name": "optical", "shape": [None, 3, 2], "dtype": "float32"}]
    assert (about["graph"], about["precision"], about["batch"]) == (str(graph), "fp32", [1, 8])


def test_inputs_are_checked_as_for_every_engine(engine: Engine) -> None:
    with pytest.raises(InputError, match="received float64 values; expected float32"):
        engine.run({"optical": samples(2).astype(np.float64)})


def test_the_inspectors_words_are_kept_beside_the_plan(engine: Engine) -> None:
    layers = Path(engine.describe()["plan"]).with_suffix(".layers.json")
    assert count_layers(layers) == {"layers": 2, "int8": 1, "reformats": 1, "dla": 0}
    layers.write_text("TensorRT says nothing")
    assert count_layers(layers) is None


def test_the_plan_is_deserialized_without_its_header(trt: FakeTensorRT, engine: Engine) -> None:
    assert trt.loaded == [b"plan"]


def test_without_cuda_python_the_line_that_installs_it_is_given(
    graph: Path, trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT())  # type: ignore[arg-type]
    for name in cuda_module.MODULES:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(BackendMissing, match=r"pip install 'cuda-python>=12\.6,<12\.7' for JetPack 6") as caught:
        open_engine(graph, backend="tensorrt")
    assert caught.value.exit_code == 5


def test_both_names_of_cuda_python_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cuda_module.MODULES:
        with monkeypatch.context() as patch:
            for other in cuda_module.MODULES:
                patch.setitem(sys.modules, other, FakeCuda() if other == name else None)  # type: ignore[arg-type]
            assert Cuda().device() == {"name": "Orin", "capability": "8.7"}


def test_a_machine_without_a_gpu_is_a_fit_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_module, "_runtime", lambda: FakeCuda(devices=0))
    with pytest.raises(FitError, match="no NVIDIA GPU"):
        Cuda()

    class NoDriver:
        def cudaGetDeviceCount(self) -> None:  # noqa: N802
            raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(cuda_module, "_runtime", NoDriver)
    with pytest.raises(FitError, match=r"Failed to dlopen libcuda\.so\.1") as caught:
        Cuda()
    assert caught.value.exit_code == 4


def test_the_engine_needs_no_torch() -> None:
    code = "import sys, edge.deploy.engine_tensorrt, edge.engines; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
@pytest.mark.parametrize("key", ["fp32", "int8.tensorrt"])
def test_results_are_those_of_onnx_runtime_within_a_step(
    backend: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(backend)
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    onnx.save(student(TASKS["regression"], key), tmp_path / "model.onnx")
    reference = open_engine(tmp_path / "model.onnx")
    engine = open_engine(tmp_path / "model.onnx", backend=backend)
    for n in (1, 32, 100, 300):
        x = {"optical": values(n)}
        wanted, found = reference.run(x)["prediction"], engine.run(x)["prediction"]
        step = np.abs(wanted).max() * (1e-4 if key == "fp32" else 1 / 127)
        np.testing.assert_allclose(found, wanted, atol=step)
        np.testing.assert_array_equal(engine.run_in_parts(x)[0]["prediction"], found)
    engine.close()
