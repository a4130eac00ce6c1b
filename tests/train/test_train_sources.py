import csv
import gzip
import hashlib
import http.server
import json
import shutil
import threading

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import r2_score, recall_score

from edge.errors import InputError
from edge.train import sources
from edge.train.datasets import local_copy, resolve
from edge.train.dates import season_counts
from edge.train.download import download
from edge.train.sources import fetch, known, load, needs_files
from edge.train.sources.simulated import simulate
from edge.train.splits import grouped_folds


def test_the_sources_are_the_files_in_the_folder():
    assert known() == (
        "cropharvest-binary",
        "cropharvest-multi",
        "idtrees",
        "lfmc",
        "ombria",
        "presto-algae-blooms",
        "presto-fuel-moisture",
        "simulated",
        "simulated-regression",
        "treesatai-ts",
        "worldcereal-crop",
        "worldcereal-global",
        "worldcereal-types",
    )
    for name in known():
        source = load(name)
        assert source.TITLE
        assert source.LICENCE
        assert source.CITATION


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(InputError, match=r"'lfmx' is not known; known sources: .*lfmc, .*, simulated-regression"):
        load("lfmx")


# --- the simulated set


def test_the_same_seed_gives_the_same_bits(small_paired, tmp_path):
    again = simulate(tmp_path / "again", n=180, seed=3)
    assert again.fingerprint == small_paired.fingerprint  # holds the SHA-256 of every array
    assert simulate(tmp_path / "other", n=180, seed=4).fingerprint != again.fingerprint


def test_the_simulated_set_has_the_shape_of_cropharvest(small_paired):
    assert small_paired.arrays["optical"].shape == (180, 12, 12)
    assert small_paired.arrays["sar"].shape == (180, 12, 2)
    assert [band.name for band in small_paired.modalities["sar"].bands] == ["VV", "VH"]


def test_simulated_values_are_physical(small_paired, small_paired_regression):
    optical, sar = small_paired.arrays["optical"], small_paired.arrays["sar"]
    reflectance, ndvi = optical[..., :11], optical[..., 11]
    assert 0 < np.nanmin(reflectance) < np.nanmax(reflectance) < 0.8
    names = [band.name for band in small_paired.modalities["optical"].bands]
    red, nir = optical[..., names.index("B04")], optical[..., names.index("B08")]
    np.testing.assert_allclose(ndvi, (nir - red) / (nir + red), rtol=1e-5)
    assert -35 < np.nanmin(sar) < np.nanmax(sar) < 0
    assert np.nanmean(sar[..., 1]) < np.nanmean(sar[..., 0]) - 4  # VH lies below VV
    assert 0 < small_paired_regression.target.min() < small_paired_regression.target.max() < 40  # t/ha


def test_clouds_take_all_bands_of_a_month_and_more_of_them_in_winter(tmp_path):
    missing = np.isnan(simulate(tmp_path / "set", n=1200).arrays["optical"])
    np.testing.assert_array_equal(missing.any(axis=2), missing.all(axis=2))
    by_month = missing[..., 0].mean(axis=0)
    assert by_month[[0, 1, 11]].mean() > by_month[[5, 6, 7]].mean() + 0.2


def test_some_samples_lack_one_modality_and_none_lacks_both(tmp_path):
    data = simulate(tmp_path / "set", n=600)
    optical, sar = data.present("optical"), data.present("sar")
    assert (~sar).sum() == 12  # 2 %
    assert (~optical).sum() >= 12  # a field may be cloudy all year as well
    assert (optical | sar).all()


def cross_validated(data, names):
    """Predictions of a random forest on the named modalities, by grouped folds, with missing values as medians."""
    folds = grouped_folds(data.groups, 3)
    inputs = np.concatenate([data.arrays[name].reshape(len(data), -1) for name in names], axis=1)
    predicted = np.zeros(len(data))
    for fold in range(3):
        train, test = folds != fold, folds == fold
        filled = np.where(np.isnan(inputs), np.nanmedian(inputs[train], axis=0), inputs)
        kind = RandomForestRegressor if data.task.kind == "regression" else RandomForestClassifier
        forest = kind(60, max_features="sqrt", random_state=0).fit(filled[train], data.target[train])
        predicted[test] = forest.predict(filled[test])
    return predicted


@pytest.mark.parametrize(("task", "floor", "ceiling"), [("classification", 1 / 6, 0.95), ("regression", 0.0, 0.9)])
def test_optical_beats_sar_and_both_beat_each(tmp_path, task, floor, ceiling):
    data = simulate(tmp_path / "set", task=task, n=1200)

    def score(*names):
        predicted = cross_validated(data, names)
        if task == "regression":
            return r2_score(data.target, predicted)
        return recall_score(data.target, predicted, average="macro")

    sar, optical, both = score("sar"), score("optical"), score("optical", "sar")
    assert floor + 0.15 < sar
    assert sar + 0.03 < optical
    assert optical + 0.03 < both < ceiling


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"task": "segmentation"}, "use classification or regression"), ({"n": 100}, "too few for 60 sites; use 120")],
)
def test_simulate_refuses_what_it_cannot_make(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        simulate(tmp_path / "set", **arguments)


# --- live fuel moisture


def test_lfmc_has_the_modalities_of_the_paper(real_data, tmp_path):
    data = fetch("lfmc", tmp_path / "set", real_data("lfmc"))
    assert {name: modality.shape for name, modality in data.modalities.items()} == {
        "optical": (4, 8),
        "sar": (4, 3),
        "soil": (3,),
        "topography": (2,),
        "canopy_height": (1,),
        "land_cover": (12,),
    }
    assert len(data) == 2578
    assert len(np.unique(data.groups)) == 150
    assert data.default_modalities == ("optical", "sar")
    assert data.target.mean() == pytest.approx(103.99, abs=0.005)
    assert data.target.std() == pytest.approx(39.56, abs=0.005)
    assert set(data.fold) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(data.arrays["land_cover"].sum(axis=1), 1)
    sar = data.arrays["sar"]
    np.testing.assert_allclose(sar[..., 2], sar[..., 1] - sar[..., 0], atol=1e-4)  # vh_vv is the difference in dB
    assert (~data.present("soil")).sum() == 49  # -999 in the source
    assert season_counts(data.date) == {"DJF": 268, "MAM": 291, "JJA": 1247, "SON": 772, "unknown": 0}
    assert (str(data.date.min()), str(data.date.max())) == ("2015-06-30", "2019-01-31")


def test_lfmc_has_no_sample_twice(real_data, tmp_path):
    data = fetch("lfmc", tmp_path / "set", real_data("lfmc"))
    rows = np.concatenate([data.arrays[name].reshape(len(data), -1) for name in ("optical", "sar")], axis=1)
    assert len(np.unique(rows, axis=0)) == len(data)


def test_the_csv_of_lfmc_gives_the_arrays_of_the_npz(real_data, tmp_path):
    raw = real_data("lfmc")
    if not (raw / "training_features.csv.gz").is_file():
        pytest.skip(f"{raw / 'training_features.csv.gz'} is not here")
    (tmp_path / "raw").mkdir()
    shutil.copy(raw / "training_features.csv.gz", tmp_path / "raw")
    npz, table = fetch("lfmc", tmp_path / "npz", raw), fetch("lfmc", tmp_path / "csv", tmp_path / "raw")
    assert table.modalities == npz.modalities
    for name in npz.modalities:
        np.testing.assert_allclose(table.arrays[name], npz.arrays[name], rtol=1e-6)  # the CSV has seven digits
    np.testing.assert_allclose(table.target, npz.target, rtol=1e-6)
    np.testing.assert_array_equal(table.groups, npz.groups)
    np.testing.assert_array_equal(table.date, npz.date)


def lfmc_rows():
    """Rows as in training_features.csv: two sites, the last row a second one for its site and date."""
    rng = np.random.default_rng(0)
    times, bands = (
        ("t-3", "t-2", "t-1", "t"),
        ["red", "green", "blue", "swir", "nir", "ndvi", "ndwi", "nirv", "vv", "vh", "vh_vv"],
    )
    rows = []
    for site, date, cover in (("b", "6/30/15", 70), ("a", "7/31/15", 50), ("a", "6/30/15", 70), ("b", "6/30/15", 50)):
        row = {f"{band}({time})": float(rng.normal()) for time in times for band in bands}
        row |= {f"{name}(t)": float(rng.normal()) for name in ("slope", "elevation", "canopy_height", "sand", "clay")}
        rows.append(row | {"silt(t)": float(rng.normal()), "forest_cover(t)": cover, "percent(t)": 80.0 + len(rows)})
        rows[-1] |= {"site": site, "date": date}
    return rows


def test_the_public_geojson_files_and_the_csv_give_the_same(tmp_path):
    rows = lfmc_rows()
    (tmp_path / "geojson" / "deep").mkdir(parents=True)
    (tmp_path / "csv").mkdir()
    for i, row in enumerate(rows):
        feature = {"type": "Feature", "properties": row, "geometry": {"type": "Point", "coordinates": [-115.9, 42.4]}}
        (tmp_path / "geojson" / "deep" / f"feature_{i:04}.geojson").write_text(json.dumps(feature))
    with gzip.open(tmp_path / "csv" / "training_features.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    json_set = fetch("lfmc", tmp_path / "a", tmp_path / "geojson")
    csv_set = fetch("lfmc", tmp_path / "b", tmp_path / "csv")
    assert json_set.fingerprint == csv_set.fingerprint
    # Sorted by site and date; of the two rows for site b on one date the first stays.
    assert json_set.target.tolist() == [82, 81, 80]
    assert json_set.groups.tolist() == [0, 0, 1]
    assert [str(day) for day in json_set.date] == ["2015-06-30", "2015-07-31", "2015-06-30"]
    assert json_set.arrays["optical"][0, 3, 0] == np.float32(rows[2]["red(t)"])
    assert json_set.arrays["sar"][2, 0, 1] == np.float32(rows[0]["vh(t-3)"])
    assert json_set.arrays["land_cover"].tolist() == [[0, 1], [1, 0], [0, 1]]


def test_lfmc_without_files_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"cannot be downloaded directly.*edge data fetch lfmc --from FOLDER"):
        fetch("lfmc", tmp_path / "set")
    with pytest.raises(InputError, match=r"holds neither lfmc.npz nor training_features.csv"):
        fetch("lfmc", tmp_path / "set", tmp_path)
    with pytest.raises(InputError, match=r"--from .*nowhere is not a folder"):
        fetch("lfmc", tmp_path / "set", tmp_path / "nowhere")


def test_a_csv_that_lacks_a_column_is_refused(tmp_path):
    (tmp_path / "training_features.csv").write_text("site,date\na,2015-06-30\n")
    with pytest.raises(InputError, match=r"the raw files of lfmc lack the column 'red\(t-3\)'"):
        fetch("lfmc", tmp_path / "set", tmp_path)


# --- downloads, from a server in this process


@pytest.fixture
def server(tmp_path):
    """A web server with the file `data.bin`; gives its address and counts the requests."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "data.bin").write_bytes(b"pixels" * 1000)
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "www"))

        def log_message(self, *arguments):
            requests.append(arguments)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()
        thread.join()


CHECKSUM = hashlib.sha256(b"pixels" * 1000).hexdigest()
MD5 = "md5:" + hashlib.md5(b"pixels" * 1000, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("checksum", [CHECKSUM, MD5])
def test_a_download_is_checked_and_not_repeated(server, tmp_path, checksum):
    address, requests = server
    for _ in range(2):
        download(f"{address}/data.bin", tmp_path / "raw" / "data.bin", checksum)
    assert (tmp_path / "raw" / "data.bin").read_bytes() == b"pixels" * 1000
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("path", "checksum", "message"),
    [
        ("/data.bin", "0" * 64, rf"has checksum {CHECKSUM}, expected 0000"),
        ("/data.bin", "md5:" + "0" * 32, rf"has checksum {MD5}, expected md5:0000"),
        ("/none.bin", None, r"could not be downloaded \(HTTP Error 404.*--from FOLDER"),
    ],
)
def test_a_download_that_fails_leaves_nothing(server, tmp_path, path, checksum, message):
    with pytest.raises(InputError, match=message):
        download(server[0] + path, tmp_path / "raw" / "data.bin", checksum)
    assert list((tmp_path / "raw").iterdir()) == []


def test_without_a_network_the_way_out_is_named(tmp_path):
    with pytest.raises(InputError, match=r"could not be downloaded .*--from FOLDER"):
        download("http://127.0.0.1:9/data.bin", tmp_path / "data.bin", None)
    with pytest.raises(InputError, match="is no http address"):
        download("file:///etc/passwd", tmp_path / "data.bin", None)


def test_fetch_downloads_into_the_cache_and_converts_from_there(server, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    source = load("simulated")
    monkeypatch.setattr(source, "ADDRESSES", {f"{server[0]}/data.bin": CHECKSUM})
    given = []
    monkeypatch.setattr(source, "convert", lambda raw, folder: given.append((raw, folder)))
    sources.fetch("simulated", tmp_path / "set")
    assert given == [(tmp_path / "cache" / "raw" / "simulated", tmp_path / "set")]
    assert (given[0][0] / "data.bin").is_file()


# --- resolve


@pytest.fixture
def no_local_data(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_DATA", str(tmp_path / "no-data"))


def test_a_folder_is_opened(small_paired, tmp_path):
    assert resolve(str(small_paired.folder), tmp_path).fingerprint == small_paired.fingerprint


def test_a_simulated_set_is_made_once(tmp_path):
    first = resolve("simulated-regression", tmp_path)
    written = (first.folder / "dataset.json").stat().st_mtime_ns
    assert first.folder == tmp_path / "simulated-regression"
    assert first.task.kind == "regression"
    assert len(first) == 2400
    resolve("simulated-regression", tmp_path)
    assert (first.folder / "dataset.json").stat().st_mtime_ns == written


def test_the_cache_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    assert resolve("simulated").folder == tmp_path / "cache" / "simulated"


def test_a_source_with_a_local_copy_is_converted(tmp_path, monkeypatch):
    (tmp_path / "data" / "lfmc").mkdir(parents=True)
    with open(tmp_path / "data" / "lfmc" / "training_features.csv", "w", newline="") as file:
        rows = lfmc_rows()
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setenv("EDGE_DATA", str(tmp_path / "data"))
    assert len(resolve("lfmc", tmp_path / "cache")) == 3


def test_a_source_that_is_not_here_names_the_fetch_line(no_local_data, tmp_path):
    with pytest.raises(InputError, match="'lfmc' is not here yet; run `edge data fetch lfmc`"):
        resolve("lfmc", tmp_path / "cache")


def test_what_is_no_data_set_names_the_known_ones(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"neither a folder nor a known source; .* lfmc, .*simulated, simulated-regression"
    ):
        resolve("lmfc", tmp_path)
    with pytest.raises(InputError, match=r"empty' holds no dataset.json"):
        resolve(str(tmp_path / "empty"), tmp_path)


def test_all_but_the_simulated_sets_need_files():
    assert [name for name in known() if not needs_files(name)] == ["simulated", "simulated-regression"]


def test_sources_made_from_the_same_files_share_their_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_DATA", str(tmp_path))
    for folder in ("worldcereal", "presto_algae_blooms", "lfmc"):
        (tmp_path / folder).mkdir()
    for name in ("worldcereal-crop", "worldcereal-global", "worldcereal-types"):
        assert local_copy(name) == tmp_path / "worldcereal"
    assert local_copy("presto-algae-blooms") == tmp_path / "presto_algae_blooms"
    assert local_copy("presto-fuel-moisture") is None
    assert local_copy("lfmc") == tmp_path / "lfmc"
