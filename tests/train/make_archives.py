"""Small archives with the folder structure and the file formats of public ones, for the tests of the sources.

CropHarvest as in Zenodo record 7257688, TreeSatAI Time Series as in huggingface.co/datasets/IGNF/TreeSatAI-Time-Series.
"""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from make_samples import write_geotiff

CROPHARVEST_BANDS = 18


def cropharvest_points() -> list[dict]:
    """Properties of eight points in two label sets; one is of a test region, two have no crop group."""
    groups = ["cereals", "non_crop", None, "sugar", "cereals", None, "non_crop", "other"]
    return [
        {
            "harvest_date": None,
            "planting_date": None,
            "label": None if group is None else "a crop",
            "classification_label": group,
            "index": i % 5,
            "is_crop": int(group != "non_crop"),
            "lat": [8.1, 8.4, 8.6, 8.1, -3.0, -3.2, 45.0, 45.1][i],
            "lon": [1.1, 1.4, 1.1, 1.2, 30.0, 30.1, -0.1, 0.1][i],
            "dataset": "togo" if i < 5 else "geowiki-landcover-2017",
            "collection_date": "2019-01-01T00:00:00",
            "export_end_date": f"20{20 - i}-02-01T00:00:00",
            "is_test": i == 4,
        }
        for i, group in enumerate(groups)
    ]


def cropharvest_array(point: dict) -> np.ndarray:
    """(12, 18) float64 features whose values tell the point and the band; elevation and slope do not change."""
    seed = point["index"] + 10 * (point["dataset"] == "togo")
    values = seed + np.arange(CROPHARVEST_BANDS) / 100 + np.arange(12)[:, None] / 10
    values[:, 15:17] = values[0, 15:17]
    return values


def make_cropharvest(folder: Path, *, packed: bool, without: str = "3_togo.h5") -> None:
    """`labels.geojson`, and the features as `features.tar.gz` (packed) or as a folder, all but the file `without`."""
    points = cropharvest_points()
    features = [
        {"type": "Feature", "properties": p, "geometry": {"type": "Point", "coordinates": [p["lon"], p["lat"]]}}
        for p in points
    ]
    folder.mkdir(parents=True)
    (folder / "labels.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    arrays = folder / "features" / "arrays"
    arrays.mkdir(parents=True)
    write_hdf5(folder / "features" / "normalizing_dict.h5", {"mean": np.zeros(CROPHARVEST_BANDS)})
    for point in points:
        name = f"{point['index']}_{point['dataset']}.h5"
        if name != without:
            write_hdf5(arrays / name, {"array": cropharvest_array(point)})
    if packed:
        with tarfile.open(folder / "features.tar.gz", "w:gz") as archive:
            archive.add(folder / "features", "features")
        (folder / "features").rename(folder / "unused")


TREESAT_LABELS = {
    "Fagus_sylvatica_6_154201_BI_NLF.tif": [["Fagus", 0.80], ["Quercus", 0.20]],
    "Picea_abies_3_4_WEFL_NLF.tif": [["Picea", 0.93], ["Fagus", 0.07]],
    "Cleared_2_5_WEFL_NLF.tif": [["Cleared", 0.50], ["Quercus", 0.08]],
    "Pinus_nigra_1_6_WEFL_NLF.tif": [["Pinus", 0.07]],  # no genus above the least area
    "Quercus_robur_5_7_WEFL_NLF.tif": [["Quercus", 1.0]],
}
TREESAT_SPLIT = {"train": (0, 1, 3), "val": (2,), "test": (4,)}  # positions in TREESAT_LABELS


def treesat_series(patch: int) -> tuple[np.ndarray, np.ndarray]:
    """`sen-2-data` (T, 10, 6, 6) int16 and `sen-2-masks` (T, 2, 6, 6) uint8 of patch 0, 1, ..., T = 3 + patch."""
    rng = np.random.default_rng(patch)
    steps = 3 + patch
    return (
        rng.integers(1, 4000, (steps, 10, 6, 6)).astype(np.int16),
        rng.integers(0, 100, (steps, 2, 6, 6)).astype(np.uint8),
    )


def treesat_image(patch: int) -> np.ndarray:
    """(4, 304, 304) uint8."""
    return np.random.default_rng(patch).integers(0, 256, (4, 304, 304)).astype(np.uint8)


def make_treesatai(folder: Path, *, packed: bool) -> None:
    """Labels, split, aerial images and series as folders, or as zip files (packed)."""
    for name in ("labels", "split", "aerial", "sentinel-ts"):
        (folder / name).mkdir(parents=True)
    (folder / "labels" / "TreeSatBA_v9_60m_multi_labels.json").write_text(json.dumps(TREESAT_LABELS))
    names = list(TREESAT_LABELS)
    for side, patches in TREESAT_SPLIT.items():
        (folder / "split" / f"{side}_filenames.lst").write_text("".join(f"{names[patch]}\n" for patch in patches))
    for patch, name in enumerate(names):
        write_geotiff(folder / "aerial" / name, treesat_image(patch))
        data, masks = treesat_series(patch)
        products = np.array([f"S2A_MSIL2A_201701{day + 1:02d}T103421".encode() for day in range(len(data))])
        write_hdf5(
            folder / "sentinel-ts" / f"{name.removesuffix('.tif')}_2017.h5",
            {"sen-2-data": data, "sen-2-masks": masks, "sen-2-products": products},
        )
    if packed:
        for name in ("labels", "split", "aerial", "sentinel-ts"):
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                for file in sorted((folder / name).iterdir()):
                    archive.write(file, f"{name}/{file.name}")
            (folder / name).rename(folder / f"{name}-unused")


def write_hdf5(path: Path, data_sets: dict[str, np.ndarray]) -> None:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in data_sets.items():
            file.create_dataset(name, data=values)
    path.write_bytes(buffer.getvalue())
