import os
from pathlib import Path

import pytest
from full_disk import room_for

from edge.files import files_ending, replacing, replacing_folder, write_json, write_text


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced to the disk and what gets its name, in the order of both."""
    happened: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        happened.append(f"sync {os.fstat(handle).st_size}")
        sync(handle)

    def named(path: Path, target: Path) -> Path:
        happened.append(f"name {Path(target).name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", named)
    return happened


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, order: list[str]) -> None:
    write_text(tmp_path / "a.txt", "12345")
    assert order == ["sync 5", "name a.txt"]
    with replacing(tmp_path / "a.txt", durable=False) as temporary:
        temporary.write_text("1234567")
    assert order[2:] == ["name a.txt"]
    assert (tmp_path / "a.txt").read_text() == "1234567"


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, order: list[str]) -> None:
    with replacing_folder(tmp_path / "set", "about.json") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "x").write_text("123")
        (temporary / "y").write_text("12345")
    assert sorted(order[:2]) == ["sync 3", "sync 5"]
    assert order[2:] == ["name set"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"n": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.json", "half \ud800")
    assert (tmp_path / "a.json").read_text() == '{\n  "n": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_finds_no_room_names_its_file(tmp_path: Path) -> None:
    with room_for(1000), pytest.raises(OSError, match="too large") as error:
        write_text(tmp_path / "a.txt", "x" * 2000)
    assert error.value.filename == str(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_files_are_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    names = [
        "1.tif",
        "2.tif",
        "10.tif",
        "2020-1-9.TIF",
        "2020-1-10.tif",
        "a.tif",
        "b2c10.tif",
        "b10c2.tif",
        "b010c2.tif",
    ]
    for name in [*names, "b010c2.tif", ".hidden.tif", "other.csv"]:
        (tmp_path / name).touch()
    found = [path.name for path in files_ending(tmp_path, (".tif",))]
    assert found == [*names[:7], "b010c2.tif", "b10c2.tif"]
