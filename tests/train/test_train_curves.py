import io
import json
import math
import re
import sys
import types
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from edge.errors import InputError
from edge.train.curves import EVENTS, LINES, PICTURE, curves_svg
from edge.train.loop import Schedule, fit

SVG = "{http://www.w3.org/2000/svg}"


def run(folder, epochs=3, *, stop_at=None, fingerprint="a", resume=True, spoil=1.0):
    """A line through four points; `stop_at`: interrupted in this batch of training, of which an epoch has two."""
    torch.manual_seed(0)
    model, x, batches = nn.Linear(1, 1), torch.arange(6.0)[:, None], []

    def losses(index):
        batches.extend([0] * model.training)
        if len(batches) == stop_at:
            raise KeyboardInterrupt
        main = ((model(x[index]) - 2 * x[index]) ** 2).mean() * (spoil if len(batches) == 3 else 1)
        return {"main": main, "aux": 0.1 * main, "total": 1.1 * main}

    parts, schedule = (torch.arange(4), torch.arange(4, 6)), Schedule(epochs, 2, 0.05)
    return fit(
        model, losses, parts, schedule,
        seed=0, state=folder / "state", fingerprint=fingerprint, label="train <mdico>", resume=resume,
    )  # fmt: skip


def lines(folder):
    return [json.loads(line) for line in (folder / LINES).read_text().splitlines()]


def test_there_is_a_line_for_each_epoch_as_the_run_returns_it(tmp_path):
    history = run(tmp_path)
    assert lines(tmp_path) == history
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert set(history[0]) == {"epoch", "train", "validation", "seconds", "samples_per_s"}
    assert set(history[0]["train"]) == set(history[0]["validation"]) == {"main", "aux", "total"}


@pytest.mark.parametrize("damage", ["none", "torn", "lost", "twice"])
def test_a_resumed_run_has_every_epoch_once_whatever_the_interruption_left(tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_at=6)  # in the third epoch
    text = (tmp_path / LINES).read_text()
    assert len(text.splitlines()) == 2
    assert not (tmp_path / PICTURE).exists()
    whole = text.splitlines(keepends=True)
    left = {"none": text, "torn": text + whole[1][:20], "lost": whole[0], "twice": text + whole[1]}[damage]
    (tmp_path / LINES).write_text(left)
    history = run(tmp_path)
    assert lines(tmp_path) == history
    assert [record["epoch"] for record in history] == [1, 2, 3]


@pytest.mark.parametrize("change", [{"fingerprint": "b"}, {"resume": False}], ids=str)
def test_another_run_starts_its_lines_anew(tmp_path, change):
    run(tmp_path, epochs=3)
    assert len(run(tmp_path, epochs=1, **change)) == 1
    assert len(lines(tmp_path)) == 1


def test_what_was_interrupted_before_its_first_state_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", stop_at=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_names_epoch_batch_and_losses_and_the_good_epochs_stay(tmp_path, value):
    with pytest.raises(InputError, match=rf"epoch 2, batch 1: main = {value}, aux = {value}, total = {value}\. Lower"):
        run(tmp_path, spoil=value)
    assert [record["epoch"] for record in lines(tmp_path)] == [1]
    assert len(run(tmp_path)) == 3  # from the last good state, the cause removed
    assert [record["epoch"] for record in lines(tmp_path)] == [1, 2, 3]


def record(epoch, validation, **train):
    return {"epoch": epoch, "train": train, "validation": validation, "seconds": 1.0, "samples_per_s": 1.0}


def drawn(history):
    root = ElementTree.fromstring(curves_svg("a < b", history))  # noqa: S314 - our own text
    panels = {}
    for group in root.findall(f"{SVG}g"):
        name = group.find(f"{SVG}text").text
        paths = [[tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d.]+ [\d.]+)", path.get("d"))]
                 for path in group.findall(f"{SVG}path")]  # fmt: skip
        panels[name] = paths
    return root, panels


def test_the_picture_has_a_panel_for_each_objective_with_the_losses_at_their_places():
    values = [4.0, 1.0, 2.0]
    history = [
        record(i + 1, {"main": value, "total": value + 1}, main=2 * value, total=0.5) for i, value in enumerate(values)
    ]
    root, panels = drawn(history)
    assert list(panels) == ["total", "main"]
    training, validation = panels["main"]
    assert [x for x, _ in training] == [x for x, _ in validation] == [52.0, 170.0, 288.0]
    heights = {value: y for value, (_, y) in zip([8, 2, 4, 4, 1, 2], training + validation, strict=True)}
    assert heights[8] - heights[4] == pytest.approx(2 * (heights[4] - heights[2]), abs=0.3)  # a linear axis
    assert heights[8] < heights[4] < heights[1]
    text = "".join(root.itertext())
    assert "a < b" in text
    assert "lowest total in epoch 2" in text
    assert "Validation at the end: total 3; main 2" in text


def test_one_epoch_and_a_loss_that_never_changes_are_drawn_too():
    _, panels = drawn([record(1, {"total": 0.0}, total=0.0)])
    assert [len(path) for path in panels["total"]] == [1, 1]


def test_a_run_that_ends_well_leaves_its_picture(tmp_path):
    run(tmp_path)
    assert "train &lt;mdico&gt;" in (tmp_path / PICTURE).read_text()


def test_without_tensorboard_nothing_is_said_or_written(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PICTURE, LINES, "state"]
    assert capfd.readouterr() == ("", "")


def test_with_tensorboard_every_loss_of_every_epoch_is_an_event(tmp_path, monkeypatch):
    made = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, {}, False
            made.append(self)

        def add_scalar(self, tag, value, step):
            self.scalars[tag, step] = value

        def flush(self):
            pass

        def close(self):
            self.closed = True

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_at=4)
    history = run(tmp_path)
    first, second = made
    assert first.folder == second.folder == str(tmp_path / EVENTS)
    assert first.closed
    assert second.closed
    assert (first.purge_step, second.purge_step) == (1, 2)  # what an interrupted epoch left is hidden
    assert first.scalars | second.scalars == {
        (f"{name}/{part}", record["epoch"]): value
        for record in history for part in ("train", "validation") for name, value in record[part].items()
    }  # fmt: skip


def test_the_progress_bar_shows_every_objective_in_training_and_validation(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    last = run(tmp_path)[-1]
    shown = sys.stderr.getvalue()
    assert "train <mdico>" in shown
    both = [f"{name} {last['train'][name]:.3g}/{last['validation'][name]:.3g}" for name in ("main", "aux", "total")]
    assert f"epoch 3, {', '.join(both)}" in shown
    assert "12.0/12.0" in shown
    assert " samples/s" in shown
