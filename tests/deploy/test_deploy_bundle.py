import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundles import KEYS, TASKS, card, values

from edge.deploy.bundle import Bundle, open_bundle, verify_checksums, write_bundle
from edge.errors import InputError

FILES = (
    "SHA256SUMS", "card.json", "golden.npz", "model.fp32.onnx", "model.int8.cpu.onnx", "model.int8.tensorrt.onnx",
    "report.html", "report.json",
)  # fmt: skip


def change_card(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the card and write the checksum that belongs to it."""
    content = json.loads((folder / "card.json").read_text())
    change(content)
    (folder / "card.json").write_text(json.dumps(content))
    digest = hashlib.sha256((folder / "card.json").read_bytes()).hexdigest()
    lines = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if not line.endswith("  card.json")]
    (folder / "SHA256SUMS").write_text("\n".join([*lines, f"{digest}  card.json"]) + "\n")


def test_a_bundle_comes_back_as_it_was_written(tiny_bundle: Bundle) -> None:
    assert tuple(sorted(path.name for path in tiny_bundle.folder.iterdir())) == FILES
    opened = open_bundle(tiny_bundle.folder)
    assert opened.modality == tiny_bundle.modality
    assert opened.task == TASKS["binary"]
    assert tuple(opened.graphs) == KEYS
    assert opened.graph_for("fp32").name == "model.fp32.onnx"
    assert opened.graph_for("int8").name == "model.int8.cpu.onnx"
    assert opened.graph_for("int8", "tensorrt").name == "model.int8.tensorrt.onnx"
    assert opened.failed_gates == []
    np.testing.assert_array_equal(opened.golden()["input"], values())
    assert opened.report()["schema"] == "edge.report/1"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils")
def test_coreutils_accepts_the_checksums(tiny_bundle: Bundle) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tiny_bundle.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(FILES) - 1


def test_the_same_build_writes_the_same_bytes(make_bundle: Callable[..., Bundle]) -> None:
    sums = [(make_bundle(name).folder / "SHA256SUMS").read_text() for name in ("one", "two")]
    assert sums[0] == sums[1]


def test_failed_gates_are_marked_in_the_card(make_bundle: Callable[..., Bundle]) -> None:
    gates = ({"name": "drop", "passed": False}, {"name": "parity", "passed": True}, {"name": "energy", "passed": None})
    assert make_bundle(gates=gates).failed_gates == ["drop"]


def test_a_bundle_of_one_precision_says_what_it_has(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(keys=("fp32",))
    with pytest.raises(InputError, match=r"has no graph int8\.cpu; it has fp32"):
        bundle.graph_for("int8")
    with pytest.raises(InputError, match="precision 'int4' is not known; use fp32, fp16 or int8"):
        bundle.graph_for("int4")


@pytest.mark.parametrize("name", [name for name in FILES if name != "SHA256SUMS"])
def test_one_changed_byte_is_found_and_the_file_named(tiny_bundle: Bundle, name: str) -> None:
    path = tiny_bundle.folder / name
    content = bytearray(path.read_bytes())
    at = content.find(b"tiny") if name == "card.json" else len(content) // 2
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        open_bundle(tiny_bundle.folder)
    with pytest.raises(InputError, match=rf"the file {name} of the bundle .* was changed"):
        verify_checksums(tiny_bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tiny_bundle: Bundle, name: str) -> None:
    (tiny_bundle.folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name}.* is missing"):
        open_bundle(tiny_bundle.folder)


@pytest.mark.parametrize("href", ["../model.fp32.onnx", "/etc/passwd", "a/../../x.onnx"])
def test_a_path_that_leaves_the_bundle_is_refused(tiny_bundle: Bundle, href: str) -> None:
    change_card(tiny_bundle.folder, lambda card: card["assets"]["fp32"].update(href=href))
    with pytest.raises(InputError, match=f"the path '{href}' leaves its folder"):
        open_bundle(tiny_bundle.folder)


def test_a_link_that_leaves_the_bundle_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    (tiny_bundle.folder / "model.fp32.onnx").rename(outside)
    (tiny_bundle.folder / "model.fp32.onnx").symlink_to(outside)
    with pytest.raises(InputError, match=r"model\.fp32\.onnx' leaves its folder"):
        open_bundle(tiny_bundle.folder)


def test_checksums_of_a_file_outside_are_refused(tiny_bundle: Bundle) -> None:
    with open(tiny_bundle.folder / "SHA256SUMS", "a") as file:
        file.write(f"{'0' * 64}  ../secret\n")
    with pytest.raises(InputError, match=r"'\.\./secret' leaves its folder"):
        open_bundle(tiny_bundle.folder)


def test_a_file_without_a_checksum_is_refused(tiny_bundle: Bundle) -> None:
    sums = tiny_bundle.folder / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "golden" not in line))
    with pytest.raises(InputError, match=r"has no line for golden\.npz"):
        open_bundle(tiny_bundle.folder)
    sums.write_text("abc\n")
    with pytest.raises(InputError, match="a line that is no checksum: 'abc'"):
        open_bundle(tiny_bundle.folder)


def test_an_unknown_schema_version_names_the_known_one(tiny_bundle: Bundle) -> None:
    change_card(tiny_bundle.folder, lambda card: card["properties"].update({"edge:schema": "edge.bundle/2"}))
    with pytest.raises(InputError, match=r"schema 'edge\.bundle/2' is not known.*reads edge\.bundle/1"):
        open_bundle(tiny_bundle.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"properties": {}}', '{"properties": 3}'])
def test_a_card_that_is_none_is_refused(tiny_bundle: Bundle, content: str) -> None:
    (tiny_bundle.folder / "card.json").write_text(content)
    with pytest.raises(InputError, match=r"card\.json"):
        open_bundle(tiny_bundle.folder)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        open_bundle(tmp_path / "none")
    with pytest.raises(InputError, match=r"is not a bundle: card\.json is missing"):
        open_bundle(tmp_path)


def test_a_folder_that_holds_something_else_is_left_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_text("cat")
    with pytest.raises(InputError, match="holds something else"):
        rewrite(tiny_bundle, other)
    assert [path.name for path in other.iterdir()] == ["cat.jpg"]


def rewrite(bundle: Bundle, folder: Path, **changes: np.ndarray) -> Bundle:
    return write_bundle(
        folder, card=card(bundle.task), graphs=bundle.graphs, golden={**bundle.golden(), **changes},
        report=bundle.report(), report_html="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": values(0)}, "must hold samples"),
        ({"input": values(16).astype(np.float64)}, "input is float64"),
        ({"expected.fp32": np.ones((16, 3), np.float32)}, r"expected\.fp32 is float32 of shape \[16, 3\]"),
        ({"expected.int4": np.ones((16, 2), np.float32)}, "must hold samples under"),
    ],
)
def test_golden_vectors_that_do_not_fit_leave_nothing_behind(
    tiny_bundle: Bundle, tmp_path: Path, changes: dict[str, np.ndarray], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        rewrite(tiny_bundle, tmp_path / "new", **changes)
    assert sorted(tmp_path.iterdir()) == before


def test_a_bundle_replaces_the_one_before(tiny_bundle: Bundle) -> None:
    (tiny_bundle.folder / "stale.plan").write_text("old")
    assert not (rewrite(tiny_bundle, tiny_bundle.folder).folder / "stale.plan").exists()


def test_graphs_that_the_card_does_not_name_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    graphs = {"fp32": tiny_bundle.graphs["fp32"]}
    with pytest.raises(InputError, match=r"the card names the graphs .*int8\.cpu.*not \['fp32'\]"):
        write_bundle(tmp_path / "new", card=card(tiny_bundle.task), graphs=graphs, golden={}, report={}, report_html="")
