import json
import pickle

import numpy as np
import pytest
import torch
from full_disk import room_for

from edge.errors import InputError
from edge.train import checkpoint

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7), "c": torch.arange(6.0).reshape(2, 3).T}


def test_tensors_and_facts_come_back_as_they_were(tmp_path):
    checkpoint.save(tmp_path / "new" / "x.safetensors", TENSORS, {"loss": float("inf"), "names": ["é", None]})
    tensors, facts = checkpoint.load(tmp_path / "new" / "x.safetensors")
    assert facts == {"loss": float("inf"), "names": ["é", None]}
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value)
        assert tensors[name].dtype == value.dtype


def test_tensors_that_share_memory_are_kept_apart(tmp_path):
    checkpoint.save(tmp_path / "x", {"whole": TENSORS["a"], "row": TENSORS["a"][0]}, {})
    assert torch.equal(checkpoint.load(tmp_path / "x")[0]["row"], TENSORS["a"][0])


def test_progress_puts_weights_and_moments_back(tmp_path):
    def step(model, optimiser):
        optimiser.zero_grad()
        (model(torch.ones(2, 3)) ** 2).sum().backward()
        optimiser.step()

    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.Adam(model.parameters(), lr=0.1, fused=True)

    model, optimiser = fresh()
    step(model, optimiser)
    checkpoint.save_progress(tmp_path / "x", model, {"weight": torch.zeros(1)}, optimiser, {"n": 1})
    step(model, optimiser)
    other, other_optimiser = fresh()
    tensors, facts = checkpoint.load(tmp_path / "x")
    best = checkpoint.restore_progress(tensors, other, other_optimiser)
    assert facts == {"n": 1}
    assert torch.equal(best["weight"], torch.zeros(1))
    step(other, other_optimiser)  # the same second step needs the same first moments
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize("length", [0, 4, 60, -8], ids=["empty", "in the size", "in the header", "in the tensors"])
def test_a_truncated_file_is_refused(tmp_path, length):
    checkpoint.save(tmp_path / "x", TENSORS, {})
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:length])
    with pytest.raises(InputError, match=r"the checkpoint .*x cannot be read: .*; remove it or train again"):
        checkpoint.load(tmp_path / "x")


def foreign_text(path):
    path.write_text("weights\n" * 9)


def foreign_zip(path):
    torch.save(TENSORS, path)


def foreign_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(9))


def foreign_safetensors(path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path)


def foreign_header(path):
    header = json.dumps({"__metadata__": {"edge": "not JSON"}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(
    "write", [foreign_text, foreign_zip, foreign_array, foreign_safetensors, foreign_header], ids=lambda f: f.__name__
)
def test_a_foreign_file_is_refused(tmp_path, write):
    write(tmp_path / "x")
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load(tmp_path / "x")


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            checkpoint.load(path)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("exploded").touch, ())

    def refuse(*_):
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    checkpoint.save(tmp_path / "good", TENSORS, {})
    checkpoint.load(tmp_path / "good")
    (tmp_path / "bad").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load(tmp_path / "bad")
    assert not (tmp_path / "exploded").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    checkpoint.save(tmp_path / "x", TENSORS, {"n": 1})
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "x", TENSORS, {"n": object()})
    assert checkpoint.load(tmp_path / "x")[1] == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_is_no_traceback_and_leaves_the_old_file(tmp_path):
    checkpoint.save(tmp_path / "x", TENSORS, {"n": 1})
    with room_for(4096), pytest.raises(InputError, match=r"the checkpoint .*x cannot be written: .*os error"):
        checkpoint.save(tmp_path / "x", {"a": torch.zeros(9999)}, {})
    assert checkpoint.load(tmp_path / "x")[1] == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
