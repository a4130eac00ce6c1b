import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge.cli import main
from edge.train.paired import open_paired_set


@pytest.fixture
def edge(tmp_path, monkeypatch):
    """Run `edge data ...` with a cache and data folders of its own."""
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_DATA", str(tmp_path / "no-data"))
    return lambda *arguments: CliRunner().invoke(main, ["data", *map(str, arguments)])


@pytest.fixture
def table(tmp_path):
    """fields.csv and layout.json as `edge data import --help` describes them."""
    rng = np.random.default_rng(0)
    bands = ["B04(t-1)", "B08(t-1)", "B04(t)", "B08(t)", "VV"]
    with open(tmp_path / "fields.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["field", "crop", "day", *bands])
        rows = ([f"f{i // 2}", ("rye", "oat")[i % 2], f"2019-0{i + 1}-15", *rng.normal(size=5)] for i in range(8))
        writer.writerows(rows)
    optical = {"bands": ["B04", "B08"], "unit": "reflectance", "times": ["t-1", "t"], "columns": "{band}({time})"}
    layout = {
        "name": "my-fields",
        "task": {"kind": "multiclass"},
        "target": "crop",
        "groups": "field",
        "modalities": {"optical": optical, "sar": {"bands": ["VV"], "unit": "dB"}},
    }
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    return ["table", tmp_path / "fields.csv", "--layout", tmp_path / "layout.json", "-o", tmp_path / "set"]


def test_a_table_is_imported_and_shown(edge, table, tmp_path):
    result = edge("import", *table)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "8 samples of optical [2, 2], sar [1]" in result.stderr
    shown = edge("show", tmp_path / "set")
    assert "my-fields: 8 samples, 4 groups" in shown.stdout
    assert "oat 4, rye 4" in shown.stdout


def test_the_column_of_the_dates_stands_in_the_layout_or_on_the_command_line(edge, table, tmp_path):
    assert edge("import", *table, "--date", "day").exit_code == 0
    shown = edge("show", tmp_path / "set")
    assert "dates: 2019-01-15 .. 2019-08-15: DJF 2, MAM 3, JJA 3\n" in shown.stdout
    fingerprint = open_paired_set(tmp_path / "set").fingerprint
    layout = json.loads((tmp_path / "layout.json").read_text())
    (tmp_path / "layout.json").write_text(json.dumps({**layout, "date": "day"}))
    assert edge("import", *table).exit_code == 0
    assert open_paired_set(tmp_path / "set").fingerprint == fingerprint
    refused = edge("import", *table, "--date", "crop")
    assert refused.exit_code == 2
    assert "column 'crop', data row 1: 'rye' is not a date; write it as 2019-06-30" in refused.stderr
    assert open_paired_set(tmp_path / "set").fingerprint == fingerprint


def test_show_json_is_one_document(edge, tmp_path):
    result = edge("show", "simulated", "--json", "--picture", tmp_path / "picture.png")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["samples"] == 2400
    assert facts["modalities"]["sar"]["bands"][0]["name"] == "VV"
    assert (tmp_path / "picture.png").is_file()
    assert "picture" in result.stderr


def test_npz_and_folders_are_imported(edge, tmp_path):
    rng = np.random.default_rng(0)
    soil, target = rng.normal(size=(6, 2)), rng.normal(size=6)
    (tmp_path / "layout.json").write_text('{"name": "six", "task": {"kind": "regression"}, "target": "y"}')
    days = np.arange("2019-01", "2019-07", dtype="datetime64[M]").astype("datetime64[D]")
    np.savez(tmp_path / "all.npz", soil=soil, y=target, day=days)
    layout = ["--layout", tmp_path / "layout.json", "--date", "day"]
    npz = edge("import", "npz", tmp_path / "all.npz", *layout, "-o", tmp_path / "a")
    assert npz.exit_code == 0, npz.output
    (tmp_path / "root" / "soil").mkdir(parents=True)
    for i in range(6):
        np.save(tmp_path / "root" / "soil" / f"plot{i}.npy", soil[i])
    rows = [f"plot{i},{target[i]},{days[i]}" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,y,day", *rows, "plot9,0.5,"]))
    files = ["--labels", tmp_path / "labels.csv", *layout, "-o", tmp_path / "b"]
    folders = edge("import", "folders", tmp_path / "root", *files)
    assert folders.exit_code == 0, folders.output
    assert "soil: 1 of 7 samples have no file and lack this modality" in folders.stderr
    one, two = open_paired_set(tmp_path / "a"), open_paired_set(tmp_path / "b")
    np.testing.assert_array_equal(one.arrays["soil"], two.arrays["soil"][:6])
    np.testing.assert_array_equal(one.target, two.target[:6])
    np.testing.assert_array_equal(one.date, two.date[:6])
    assert np.isnat(two.date[6])


def test_fetch_tells_licence_and_citation(edge, tmp_path):
    result = edge("fetch", "simulated", "-o", tmp_path / "set")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "licence: Apache-2.0" in result.stderr
    assert len(open_paired_set(tmp_path / "set")) == 2400


def test_fetch_goes_to_the_cache_by_default(edge, tmp_path):
    assert edge("fetch", "simulated").exit_code == 0
    assert (tmp_path / "cache" / "simulated" / "dataset.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing"), "known source"),
        (("fetch", "nothing"), "known sources: cropharvest-binary, cropharvest-multi"),
        (("fetch", "lfmc"), "--from FOLDER"),
        (("show", "lfmc"), "edge data fetch lfmc"),
        (("import", "table", "no.csv", "--layout", "no.json", "-o", "x"), "no.json is missing"),
    ],
)
def test_bad_input_exits_2_with_one_line(edge, tmp_path, arguments, message):
    result = edge(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "cache").exists()


def test_an_output_folder_with_something_else_is_refused(edge, table, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("mine")
    result = edge("import", *table)
    assert result.exit_code == 2
    assert "holds something else" in result.stderr
    assert (tmp_path / "set" / "thesis.txt").read_text() == "mine"


def test_a_full_disk_exits_2_and_leaves_nothing(edge, table, tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    result = edge("import", *table)
    assert result.exit_code == 2
    assert f"No space left on device: {tmp_path / 'set'}" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fields.csv", "layout.json"]
