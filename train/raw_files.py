"""Raw files as publishers give them - npz, images, HDF5 - read for the converters in edge.train.sources."""

import io
import zipfile
from pathlib import Path

import numpy as np

from edge.deploy.raster import open_image
from edge.errors import BackendMissing, InputError


def raw_file(raw: Path | None, name: str, by_hand: str) -> Path:
    """The file `name` in the folder `raw`; InputError, with the advice `by_hand`, if it is not there."""
    if raw is None:
        raise InputError(f"the raw file {name} is needed. {by_hand}")
    if not (raw / name).is_file():
        raise InputError(f"{raw} holds no {name}. {by_hand}")
    return raw / name


def read_npz(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays named in `shapes`, which are without the samples' axis; InputError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in shapes}
    except (KeyError, ValueError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not the expected file: {error}") from None
    samples = min((len(array) for array in arrays.values() if array.ndim), default=0)
    for name, array in arrays.items():
        if array.shape != (samples, *shapes[name]):
            raise InputError(f"{path}: array {name!r} has shape {array.shape}, expected {(samples, *shapes[name])}")
    return arrays


def decode_image(data: bytes, name: str) -> np.ndarray:
    """The bands (band, y, x) of a GeoTIFF, PNG or JPEG whose bytes are `data`; `name` is for the error message."""
    with open_image(data, name) as raster:
        return np.asarray(raster.read())


def decode_hdf5(data: bytes, names: tuple[str, ...], name: str) -> list[np.ndarray]:
    """The data sets `names` of an HDF5 file whose bytes are `data`; `name` is for the error message."""
    try:
        import h5py
    except ImportError:
        raise BackendMissing("h5py is not installed; pip install 'edge-colearn[h5]'") from None
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return [np.asarray(file[key]) for key in names]
    except (OSError, KeyError) as error:
        raise InputError(f"{name} is not the expected HDF5 file: {error}") from None


def block_mean(image: np.ndarray, step: int) -> np.ndarray:
    """Means over `step` x `step` pixels: (..., y, x) to (..., y / step, x / step) float32; the sides must divide."""
    *front, height, width = image.shape
    blocks = image.reshape(*front, height // step, step, width // step, step)
    return np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float32))
