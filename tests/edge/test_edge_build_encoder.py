"""`edge build` with an encoder that is not the default: the card says which, and one without INT8 is built in FP32."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge.benchmarks.latency import Times
from edge.build import build
from edge.cli import main
from edge.compress.compression import compress
from edge.deploy.bundle import open_bundle
from edge.errors import InputError
from edge.recipe import Compression, Model, Recipe, Training
from edge.train.paired import PairedSet
from edge.train.sources.simulated import simulate
from edge.train.training import load_trained


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Any:
    """Latencies that are known beforehand, no process for each graph."""

    def timed(runs: dict[Any, Any], _timing: object = None) -> dict[Any, Times]:
        return {key: Times([1e-3 / (1 + place)] * 20, total_s=0.02) for place, key in enumerate(runs)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.benchmarks.bench.measure_together", timed)
        patch.setattr(
            "edge.benchmarks.bench.peak_memory", lambda _graph, _shapes, batches, **_: dict.fromkeys(batches, 60.0)
        )
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairedSet:
    return simulate(tmp_path_factory.mktemp("data") / "set", task="regression", n=200, seed=3)


def recipe(data: PairedSet, encoder: str) -> Recipe:
    model = Model(width=16, hidden=16, embedding=16, encoder=encoder)
    return Recipe(data=data.name, model=model, training=Training(epochs=1), compression=Compression(epochs=1))


@pytest.fixture
def here(data: PairedSet, monkeypatch: pytest.MonkeyPatch) -> PairedSet:
    monkeypatch.setattr("edge.stages.open_data", lambda _recipe: data)
    return data


def test_a_gru_asked_for_in_int8_is_built_in_fp32_and_says_so(here: PairedSet, tmp_path: Path) -> None:
    wanted = recipe(here, "gru")
    for reused in (False, True):
        built = build(wanted, "sar", "int8", tmp_path, command="edge build --int8 --encoder gru")
        assert built.folder.name == "sar-fp32"
        assert built.reused is reused
        (warning,) = [each for each in built.report["warnings"] if "INT8" in each]
        assert "'gru' of 'sar' cannot be INT8" in warning
        assert "built in FP32" in warning
        assert {row["precision"] for row in built.report["results"]} == {"fp32"}
        built.check_gates()
    bundle = open_bundle(built.folder)
    assert set(bundle.graphs) == {"fp32"}
    assert bundle.card["properties"]["mlm:architecture"] == "gru"
    trained = load_trained(tmp_path / "train" / "taught")
    with pytest.raises(InputError, match=r"nothing can be compressed: the encoder 'gru' of 'optical' cannot be INT8"):
        compress(here, trained, wanted, tmp_path / "compress")
    assert not (tmp_path / "compress").exists()


def test_for_a_board_the_gru_is_built_in_fp16(here: PairedSet, tmp_path: Path) -> None:
    wanted = dataclasses.replace(recipe(here, "gru"), target="jetson-orin-nano")
    built = build(wanted, "sar", "int8", tmp_path, command="edge build --int8 --encoder gru")
    assert built.folder.name == "sar-fp16-jetson-orin-nano"
    assert any("'gru' of 'sar' cannot be INT8" in each and "built in FP16" in each for each in built.report["warnings"])
    built.check_gates()
    assert set(open_bundle(built.folder).graphs) == {"fp32", "fp16"}
    assert "parity torch = fp16: rms difference / target sd" in {gate["name"] for gate in built.report["gates"]}


def test_what_is_asked_to_stay_in_float_and_has_no_int8_is_said(here: PairedSet, tmp_path: Path) -> None:
    wanted = dataclasses.replace(recipe(here, "tempcnn"), compression=Compression(epochs=1, exclude=("*.conv1",)))
    built = build(wanted, "sar", "fp32", tmp_path, command="edge build")
    assert any("this bundle has no INT8 graph" in each for each in built.report["warnings"])


def test_attention_is_built_in_int8_with_nothing_left_in_float_but_what_it_declares(
    here: PairedSet, tmp_path: Path
) -> None:
    built = build(recipe(here, "ltae"), "optical", "int8", tmp_path, command="edge build --int8 --encoder ltae")
    gates = {gate["name"]: gate["passed"] for gate in built.report["gates"]}
    placement = {name: passed for name, passed in gates.items() if name.startswith("int8.")}
    assert placement == {"int8.tensorrt: broken rules": True, "int8.cpu: nodes left in float": True}
    assert open_bundle(built.folder).card["properties"]["mlm:architecture"] == "ltae"


def test_an_encoder_that_is_not_known_is_a_usage_error(data: PairedSet, tmp_path: Path) -> None:
    arguments = ["build", "--data", str(data.folder), "--modality", "sar", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*arguments, "--encoder", "resnet18"])
    assert result.exit_code == 2
    assert "name one of tempcnn, ltae, gru, transformer" in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_flag_wins_over_the_recipe(data: PairedSet, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(dataclasses.asdict(recipe(data, "ltae"))))
    arguments = ["train", "--data", str(data.folder), "--recipe", str(tmp_path / "recipe.json"), "--encoder", "gru"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.stderr
    assert load_trained(tmp_path / "run" / "train" / "taught").recipe.model.encoder == "gru"
