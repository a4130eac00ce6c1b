"""The sources that are made from real folders (skipped where they are not here) and from archives (made small here)."""

import csv
import shutil
import sys
import zipfile

import numpy as np
import pytest
from make_archives import (
    TREESAT_LABELS,
    cropharvest_array,
    cropharvest_points,
    make_cropharvest,
    make_treesatai,
    treesat_image,
    treesat_series,
    write_hdf5,
)

from edge.errors import BackendMissing, InputError
from edge.train.raw_files import block_mean, decode_image
from edge.train.sources import fetch, load
from edge.train.sources.idtrees import covered_pixels, crown_window, mean_spectrum
from edge.train.sources.treesatai_ts import genera_above, patch_means
from edge.train.sources.worldcereal_global import cells
from edge.train.splits import split_indices


def shapes(data):
    return {name: modality.shape for name, modality in data.modalities.items()}


# --- WorldCereal and Presto


@pytest.mark.parametrize(
    ("name", "samples", "groups", "outputs"), [("worldcereal-crop", 3621, 60, 2), ("worldcereal-types", 3063, 58, 8)]
)
def test_worldcereal_has_the_samples_of_its_readme(real_data, tmp_path, name, samples, groups, outputs):
    data = fetch(name, tmp_path / "set", real_data("worldcereal"))
    assert shapes(data) == {"optical": (18, 9), "sar": (18, 2), "weather": (18, 2), "topography": (2,)}
    assert len(data) == samples
    assert len(np.unique(data.groups)) == groups
    assert data.task.n_outputs == outputs
    assert data.default_modalities == ("optical", "sar")
    assert set(data.fold) == {0, 1, 2, 3, 4}
    if outputs == 2:
        assert data.target.sum() == 2319  # temporary crops
    else:
        assert np.bincount(data.target).min() >= 75
        assert "other" not in data.task.classes


def test_worldcereal_values_are_in_their_units_and_missing_months_are_nan(real_data, tmp_path):
    data = fetch("worldcereal-crop", tmp_path / "set", real_data("worldcereal"))
    assert np.isnan(data.arrays["optical"]).mean() == pytest.approx(0.052, abs=0.001)
    assert -15 < np.nanmedian(data.arrays["sar"][..., 0]) < -8  # VV, dB
    temperature, rain = data.arrays["weather"][..., 0], data.arrays["weather"][..., 1]
    assert 240 < np.nanmin(temperature) < np.nanmax(temperature) < 310  # K
    assert 750 < np.nansum(rain[:, :12], axis=1).mean() < 1250  # mm a year
    months = np.nanmean(temperature, axis=0)
    assert data.modalities["weather"].times[int(months.argmax())] in ("2017-07", "2018-07")
    assert data.modalities["weather"].times[int(months.argmin())] in ("2017-12", "2018-01")


def test_the_worldwide_samples_of_both_files_are_one_set_whose_neighbours_share_a_cell(real_data, tmp_path):
    data = fetch("worldcereal-global", tmp_path / "set", real_data("worldcereal"))
    assert shapes(data) == {"optical": (12, 9), "sar": (12, 2), "weather": (12, 2), "topography": (2,)}
    assert len(data) == 1000
    assert data.target.sum() == 123 + 128  # land cover 11 in the two files
    assert data.date.min() == np.datetime64("2016-11-01")
    assert np.isnan(data.arrays["optical"]).mean() == pytest.approx(0.082, abs=0.001)
    temperature, rain = data.arrays["weather"][..., 0], data.arrays["weather"][..., 1]
    assert 230 < np.nanmin(temperature) < np.nanmax(temperature) < 320  # K
    assert 500 < np.nansum(rain, axis=1).mean() < 1500  # mm a year
    vv, vh = data.arrays["sar"][..., 0], data.arrays["sar"][..., 1]
    assert np.nanmean(vh) < np.nanmean(vv) - 4
    parts = split_indices(data, 0, 5)
    assert not set(data.groups[parts.train]) & set(data.groups[np.r_[parts.validation, parts.test]])


def test_places_of_a_cell_of_two_degrees_are_one_group():
    latitude, longitude = np.array([0.1, 1.9, -0.1, 0.1, 2.0]), np.array([10.0, 11.9, 10.0, -10.1, 10.0])
    found = cells(latitude, longitude)
    assert found[0] == found[1]
    assert len(set(found[1:].tolist())) == 4


@pytest.mark.parametrize(
    ("name", "months", "samples", "groups"),
    [("presto-algae-blooms", 12, 1122, 205), ("presto-fuel-moisture", 3, 2313, 150)],
)
def test_presto_sets_have_the_samples_of_their_readme(real_data, tmp_path, name, months, samples, groups):
    data = fetch(name, tmp_path / "set", real_data(name.replace("-", "_")))
    assert shapes(data) == {"optical": (months, 11), "sar": (months, 2), "weather": (months, 2), "topography": (2,)}
    assert len(data) == samples
    assert len(np.unique(data.groups)) == groups
    assert data.task.kind == "regression"
    if name == "presto-algae-blooms":
        assert np.bincount(data.target.astype(int)).tolist() == [0, 246, 260, 494, 116, 6]
    vv, vh = data.arrays["sar"][..., 0], data.arrays["sar"][..., 1]
    assert vh.mean() < vv.mean() - 4
    assert 230 < data.arrays["weather"][..., 0].min() < data.arrays["weather"][..., 0].max() < 320  # K


# --- tree crowns


def test_idtrees_has_the_crowns_and_species_of_its_readme(real_data, tmp_path):
    data = fetch("idtrees", tmp_path / "set", real_data("idtrees"))
    assert shapes(data) == {"rgb": (3, 32, 32), "hyperspectral": (369,), "lidar": (1, 9, 9)}
    assert len(data) == 963
    assert data.task.n_outputs == 11
    assert np.bincount(data.target).min() == 15
    assert len(np.unique(data.groups)) == 82
    for modality in data.modalities:
        assert data.present(modality).all()
    height = np.nanmax(data.arrays["lidar"], axis=(1, 2, 3))
    assert 0 <= height.min() < 10 < height.max() < 40  # m


def test_a_window_is_centred_on_the_crown_and_missing_outside_of_the_plot():
    image = np.arange(100.0).reshape(1, 10, 10)  # pixels of 1 m
    window = crown_window(image, np.array([3.0, 4.0, 6.0, 7.0]), 1.0, 5)  # middle at column 4.5, row 5.5
    assert window[0].tolist() == image[0, 3:8, 2:7].tolist()
    corner = crown_window(image, np.array([8.0, 8.0, 10.0, 12.0]), 1.0, 4)  # middle at column 9, row 10
    assert corner[0, :2, :3].tolist() == [[87, 88, 89], [97, 98, 99]]
    assert np.isnan(corner[0, 2:]).all()
    assert np.isnan(corner[0, :, 3]).all()
    fine = crown_window(image, np.array([0.4, 0.4, 0.6, 0.6]), 0.1, 2)  # pixels of 10 cm
    assert fine[0].tolist() == [[44, 45], [54, 55]]


def test_a_spectrum_is_the_mean_over_the_crown_or_the_nearest_pixel_of_a_tiny_one():
    cube = np.stack([np.arange(16).reshape(4, 4), np.full((4, 4), 7)])
    assert mean_spectrum(cube, np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [11.5, 7]  # pixels 9, 10, 13, 14
    assert mean_spectrum(cube, np.array([1.9, 0.1, 2.1, 0.3])).tolist() == [1, 7]
    assert covered_pixels(-3.0, 1.2, 1.0, 4).tolist() == [0]


# --- floods


def test_an_event_of_ombria_gives_its_tiles_and_flooded_fractions(real_data, tmp_path):
    raw = real_data("ombria")
    (tmp_path / "events").mkdir()
    with open(raw / "index.csv", newline="") as file:
        tiles = [row for row in csv.DictReader(file) if row["event"] == "0"]
    with open(tmp_path / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, tiles[0])
        writer.writeheader()
        writer.writerows(tiles)
    shutil.copy(raw / "events" / "event_00.zip", tmp_path / "events")
    data = fetch("ombria", tmp_path / "set", tmp_path)
    np.testing.assert_allclose(data.target, [float(tile["flood_frac"]) for tile in tiles], atol=5e-5)
    with zipfile.ZipFile(raw / "events" / "event_00.zip") as archive:
        after = decode_image(archive.read(f"S2_after/{tiles[1]['tile']}.png"), "tile")  # (3, 256, 256)
        before = decode_image(archive.read(f"S1_before/{tiles[1]['tile']}.png"), "tile")  # (1, 256, 256)
    assert [band.name for band in data.modalities["optical"].bands][5] == "B03_after"
    assert data.arrays["optical"][1, 5, 2, 3] == pytest.approx(after[2, 8:12, 12:16].mean())
    assert data.arrays["sar"][1, 0, 63, 0] == pytest.approx(before[0, 252:, :4].mean())


@pytest.mark.slow  # 1,890 pictures
def test_ombria_has_the_tiles_and_events_of_its_readme(real_data, tmp_path):
    data = fetch("ombria", tmp_path / "set", real_data("ombria"))
    assert shapes(data) == {"optical": (6, 64, 64), "sar": (2, 64, 64)}
    assert len(data) == 378
    assert len(np.unique(data.groups)) == 38
    assert np.bincount(data.split).tolist() == [166, 79, 133]
    assert len(split_indices(data).test) == 133


# --- CropHarvest


@pytest.mark.parametrize("packed", [True, False])
def test_cropharvest_binary_takes_the_labelled_points_that_have_features(tmp_path, packed):
    make_cropharvest(tmp_path / "raw", packed=packed)
    data = fetch("cropharvest-binary", tmp_path / "set", tmp_path / "raw")
    assert shapes(data) == {"optical": (12, 12), "sar": (12, 2), "weather": (12, 2), "topography": (2,)}
    assert data.task.classes == ("non_crop", "crop")
    points = cropharvest_points()
    kept = [points[i] for i in (5, 6, 7, 0, 1, 2)]  # by label set; 3 has no features, 4 is for tests
    assert data.target.tolist() == [point["is_crop"] for point in kept]
    arrays = np.stack([cropharvest_array(point) for point in kept])
    np.testing.assert_allclose(data.arrays["sar"], arrays[..., :2], rtol=1e-6)
    np.testing.assert_allclose(data.arrays["optical"], arrays[..., [*range(2, 13), 17]], rtol=1e-6)
    np.testing.assert_allclose(data.arrays["weather"], arrays[..., 13:15], rtol=1e-6)
    np.testing.assert_allclose(data.arrays["topography"], arrays[:, 0, 15:17], rtol=1e-6)
    assert [f"{day}T00:00:00" for day in data.date] == [point["export_end_date"] for point in kept]
    names = [band.name for band in data.modalities["optical"].bands]
    assert names[0] == "B02"
    assert names[-2:] == ["B12", "NDVI"]


def test_points_in_one_cell_of_half_a_degree_are_one_group(tmp_path):
    make_cropharvest(tmp_path / "raw", packed=False)
    data = fetch("cropharvest-binary", tmp_path / "set", tmp_path / "raw")
    geowiki, west, east, togo, near, north = data.groups
    assert togo == near  # 8.1, 1.1 and 8.4, 1.4
    assert north != togo  # 8.6, 1.1
    assert west != east  # -0.1 and 0.1 degrees of longitude
    assert len({geowiki, west, togo}) == 3


def test_cropharvest_multi_takes_the_points_with_a_crop_group(tmp_path):
    make_cropharvest(tmp_path / "raw", packed=True)
    data = fetch("cropharvest-multi", tmp_path / "set", tmp_path / "raw")
    assert data.task.classes == ("non_crop", "cereals", "other")  # sugar has no features here
    assert [data.task.classes[i] for i in data.target] == ["non_crop", "other", "cereals", "non_crop"]


def test_cropharvest_has_ten_classes_in_the_order_of_its_authors():
    assert len(load("cropharvest-multi").CROPS) == 10
    assert load("cropharvest-multi").CROPS[:2] == ("non_crop", "cereals")


def test_cropharvest_says_what_is_wrong_with_its_files(tmp_path):
    raw = tmp_path / "raw"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no labels.geojson. Get labels.geojson and features.tar.gz from https"):
        fetch("cropharvest-binary", tmp_path / "set", tmp_path / "empty")
    make_cropharvest(raw, packed=True)
    whole = (raw / "features.tar.gz").read_bytes()
    (raw / "features.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"features.tar.gz is not a readable archive.*download it again"):
        fetch("cropharvest-binary", tmp_path / "set", raw)
    (raw / "features.tar.gz").unlink()
    with pytest.raises(InputError, match=r"holds no features.tar.gz"):
        fetch("cropharvest-binary", tmp_path / "set", raw)
    (raw / "unused").rename(raw / "features")
    write_hdf5(raw / "features" / "arrays" / "0_togo.h5", {"array": np.zeros((12, 17))})
    with pytest.raises(InputError, match=r"0_togo.h5: `array` has shape \(12, 17\), expected \(12, 18\)"):
        fetch("cropharvest-binary", tmp_path / "set", raw)
    write_hdf5(raw / "features" / "arrays" / "0_togo.h5", {"other": np.zeros((12, 18))})
    with pytest.raises(InputError, match=r"0_togo.h5 is not the expected HDF5 file"):
        fetch("cropharvest-binary", tmp_path / "set", raw)
    assert not (tmp_path / "set").exists()


def test_without_h5py_the_line_that_installs_it_is_named(tmp_path, monkeypatch):
    make_cropharvest(tmp_path / "raw", packed=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BackendMissing, match=r"pip install 'edge-colearn\[h5\]'"):
        fetch("cropharvest-binary", tmp_path / "set", tmp_path / "raw")


# --- TreeSatAI


@pytest.mark.parametrize("packed", [True, False])
def test_treesatai_takes_patches_with_genera_in_the_published_split(tmp_path, packed):
    make_treesatai(tmp_path / "raw", packed=packed)
    data = fetch("treesatai-ts", tmp_path / "set", tmp_path / "raw")
    assert shapes(data) == {"optical": (146, 12), "aerial": (4, 152, 152)}
    patches = (0, 1, 2, 4)  # training, training, validation, test; 3 has no genus above 7 %
    assert data.split.tolist() == [0, 0, 1, 2]
    assert data.task.classes == ("Cleared", "Fagus", "Picea", "Quercus")
    assert data.target.tolist() == [[0, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]]
    for row, patch in enumerate(patches):
        means = np.concatenate([part.mean(axis=(2, 3)) for part in treesat_series(patch)], axis=1)  # (T, 12)
        np.testing.assert_allclose(data.arrays["optical"][row, -len(means) :], means, rtol=1e-6)
        assert np.isnan(data.arrays["optical"][row, : -len(means)]).all()
        image = treesat_image(patch)
        assert data.arrays["aerial"][row, 3, 151, 0] == pytest.approx(image[3, 302:, :2].mean())
    assert [band.common_name for band in data.modalities["aerial"].bands] == ["nir", "green", "blue", "red"]


def test_a_patch_without_a_series_lacks_the_modality(tmp_path):
    make_treesatai(tmp_path / "raw", packed=False)
    (tmp_path / "raw" / "sentinel-ts" / f"{next(iter(TREESAT_LABELS)).removesuffix('.tif')}_2017.h5").unlink()
    data = fetch("treesatai-ts", tmp_path / "set", tmp_path / "raw")
    assert data.present("optical").tolist() == [False, True, True, True]
    assert data.present("aerial").all()


def test_pixels_without_data_do_not_count_and_a_step_without_any_is_missing():
    data, masks = np.full((3, 10, 6, 6), 1000), np.full((3, 2, 6, 6), 40)
    data[1, :, :3] = 0  # the upper half
    masks[1, 1, :3] = 100
    data[2] = 0
    means = patch_means(data, masks)
    assert means[0].tolist() == means[1].tolist() == [1000] * 10 + [40, 40]
    assert np.isnan(means[2]).all()


def test_a_genus_counts_above_seven_percent():
    chosen = genera_above([("Abies", 0.07), ("Tilia", 0.0701)])
    assert np.flatnonzero(chosen).tolist() == [14]


def test_treesatai_says_what_is_missing(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(
        InputError, match=r"holds neither the folder labels nor labels.zip. Get the zip files from https"
    ):
        fetch("treesatai-ts", tmp_path / "set", tmp_path / "raw")
    make_treesatai(tmp_path / "other", packed=True)
    (tmp_path / "other" / "split.zip").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"split.zip is not a readable archive"):
        fetch("treesatai-ts", tmp_path / "set", tmp_path / "other")
    make_treesatai(tmp_path / "third", packed=False)
    (tmp_path / "third" / "split" / "val_filenames.lst").write_text("unknown.tif\n")
    with pytest.raises(InputError, match=r"labels and split are not the expected files: KeyError\('unknown.tif'\)"):
        fetch("treesatai-ts", tmp_path / "set", tmp_path / "third")


# --- wrong folders


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("worldcereal-crop", "can_aafc_2017_monthly.npz"),
        ("worldcereal-types", "can_aafc_2017_monthly.npz"),
        ("worldcereal-global", "global_cropland.npz"),
        ("presto-algae-blooms", "algae_blooms.npz"),
        ("presto-fuel-moisture", "fuel_moisture.npz"),
        ("idtrees", "plots.npz"),
        ("ombria", "index.csv"),
    ],
)
def test_a_folder_without_the_file_or_with_another_one_is_refused(tmp_path, name, file):
    raw = tmp_path / "raw"
    raw.mkdir()
    with pytest.raises(InputError, match=rf"holds no {file}.*--from FOLDER"):
        fetch(name, tmp_path / "set", raw)
    if file.endswith(".npz"):
        np.savez(raw / file, nothing=np.zeros(3))
    else:
        (raw / file).write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=rf"{file} is not the expected"):
        fetch(name, tmp_path / "set", raw)
    assert not (tmp_path / "set").exists()


def test_block_means_are_means_of_blocks():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert block_mean(image, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert block_mean(image, 2).dtype == np.float32
