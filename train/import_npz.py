"""Arrays in one .npz become a paired set: one array per modality, and the labels (see edge.train.layout)."""

import zipfile
from pathlib import Path

import numpy as np

from edge.deploy.raster import mark_missing
from edge.errors import InputError
from edge.train.layout import Layout, describe_modality, nearest, read_labels, write_imported
from edge.train.paired import PairedSet


def import_npz(file: Path, layout: Layout, folder: Path) -> PairedSet:
    """Read `file` as `layout` says and write the paired set to `folder`.

    Arrays: (n, bands), (n, times, bands) or (n, bands, y, x). Without modalities in the layout every array that is not
    a label is one. InputError: no such file, an array that is not there or holds objects, and whatever write_paired_set
    refuses.
    """
    arrays = _read_npz(file)

    def array(name: str) -> np.ndarray:
        if name not in arrays:
            raise InputError(f"{file} has no array {name!r}; {nearest(name, list(arrays))}")
        return arrays[name]

    labels = read_labels(layout, array)
    targets = layout.target if isinstance(layout.target, list) else [layout.target]
    taken = {*targets, layout.groups, layout.fold, layout.split, layout.date}
    entries = layout.modalities or {name: {} for name in arrays if name not in taken}
    values = {name: array(entry.get("array", name)) for name, entry in entries.items()}
    for name, value in values.items():
        if value.dtype.kind not in "biuf" or value.ndim < 2:
            raise InputError(
                f"{file}: array {name!r} is {value.dtype} {value.shape}, expected numbers (samples, ...); let the "
                "layout name the arrays that are modalities"
            )
    modalities = {
        name: describe_modality(name, entries[name], value.shape[1:], nodata=layout.nodata)
        for name, value in values.items()
    }
    cleaned = {name: mark_missing(value, layout.nodata) for name, value in values.items()}
    return write_imported(folder, layout, labels, modalities, cleaned, {"file": file.name})


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise InputError(f"{file} is not a file")
    try:
        npz = np.load(file, allow_pickle=False)
        if isinstance(npz, np.ndarray):
            raise InputError(f"{file} is a single array; save the arrays together with numpy.savez")
        with npz:
            return dict(npz)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is not a readable .npz file: {error}") from None
