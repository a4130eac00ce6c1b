"""`edge data show`: what is in a paired set, as a dictionary and as text (edge.train.picture draws it)."""

import hashlib
from typing import Any

import numpy as np

from edge.sensors import Modality
from edge.train.dates import season_counts
from edge.train.paired import PairedSet, blocks
from edge.train.paired_checks import SPLITS

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MANY, ENDS = 40, 8  # of more bands than MANY, as imaging spectrometers have, a terminal gets the ENDS at both ends


def describe(data: PairedSet) -> dict[str, Any]:
    """Everything a user asks before training, ready for JSON.

    `missing` is the fraction of a band's values that are NaN, samples without the modality included; `absent` is the
    number of those samples. Arrays are read in blocks.
    """
    return {
        "name": data.name,
        "folder": str(data.folder),
        "samples": len(data),
        "fingerprint": data.fingerprint,
        "task": data.task.to_json(),
        "target": _describe_target(data),
        "groups": len(np.unique(data.groups)),
        "repeats": repeats(data),
        "folds": None if data.fold is None else np.bincount(data.fold).tolist(),
        "split": None if data.split is None else _counts(data.split),
        "date": None if data.date is None else _describe_dates(data.date),
        "default_modalities": list(data.default_modalities),
        "modalities": {name: _describe_modality(data, modality) for name, modality in data.modalities.items()},
        "source": data.source,
    }


def as_text(facts: dict[str, Any]) -> str:
    """The dictionary of `describe` as lines for a terminal."""
    task, target = facts["task"], facts["target"]
    lines = [
        f"{facts['name']}: {facts['samples']} samples, {facts['groups']} groups",
        *_group_warnings(facts),
        *(f"  {key}: {value}" for key, value in facts["source"].items()),
        f"{task['kind']} of {task['name']} [{task['unit']}]: "
        + ", ".join(f"{key} {_number(value)}" for key, value in target.items()),
    ]
    if facts["folds"]:
        lines.append("folds: " + ", ".join(map(str, facts["folds"])))
    if facts["split"]:
        lines.append("split: " + ", ".join(f"{side} {count}" for side, count in facts["split"].items()))
    if facts["date"]:
        seasons = ", ".join(f"{season} {count}" for season, count in facts["date"]["seasons"].items() if count)
        lines.append(f"dates: {facts['date']['first']} .. {facts['date']['last']}: {seasons}")
    for name, entry in facts["modalities"].items():
        chosen = " (default)" if name in facts["default_modalities"] else ""
        shape = " x ".join(f"{size} {axis}" for size, axis in zip(entry["shape"], entry["dims"], strict=True))
        lines += ["", f"{name}{chosen}: {entry['kind']}, {shape}, {entry['sensor'] or 'no sensor named'}"]
        if entry["absent"]:
            lines.append(f"  {entry['absent']} samples lack it")
        lines.append(f"  {'band':<16} {'unit':<20} {'missing':>8} {'min':>10} {'mean':>10} {'max':>10}")
        lines += _band_lines(entry["bands"])
    return "\n".join(lines)


def _group_warnings(facts: dict[str, Any]) -> list[str]:
    """What lets a test sample be known from training."""
    found = []
    if facts["groups"] == facts["samples"]:
        found.append("  warning: no groups are named, so samples of one place may be trained on and tested on")
    if facts["repeats"]:
        found.append(
            f"  warning: {facts['repeats']} samples equal another one in every value and stand in another group, "
            "so they may be trained on and tested on"
        )
    return found


def repeats(data: PairedSet) -> int:
    """How many samples equal an earlier one of another group in every value of every modality."""
    first: dict[bytes, int] = {}
    count = 0
    for i, group in enumerate(data.groups.tolist()):
        digest = hashlib.blake2b(digest_size=16)
        for array in data.arrays.values():
            digest.update(array[i].tobytes())
        count += first.setdefault(digest.digest(), group) != group
    return count


def _band_lines(bands: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"  {band['name']:<16} {band['unit']:<20} {band['missing']:>8.1%} "
        f"{_number(band['min']):>10} {_number(band['mean']):>10} {_number(band['max']):>10}"
        for band in bands
    ]
    if len(bands) > MANY:
        lines[ENDS:-ENDS] = [f"  ... {len(bands) - 2 * ENDS} more bands: --json lists them all"]
    return lines


def _describe_target(data: PairedSet) -> dict[str, float]:
    if data.task.kind == "regression":
        names = ("min", "5 %", "25 %", "median", "75 %", "95 %", "max")
        values = np.quantile(data.target, QUANTILES).tolist()
        moments = {"mean": float(data.target.mean()), "sd": float(data.target.std())}
        return dict(zip(names, values, strict=True)) | moments
    if data.task.kind == "multilabel":
        counts = data.target.sum(axis=0)
    else:
        counts = np.bincount(data.target, minlength=len(data.task.classes))
    return dict(zip(data.task.classes, counts.tolist(), strict=True))


def _counts(split: np.ndarray) -> dict[str, int]:
    return dict(zip(SPLITS, np.bincount(split, minlength=len(SPLITS)).tolist(), strict=True))


def _describe_dates(days: np.ndarray) -> dict[str, Any]:
    known = days[~np.isnat(days)]
    return {"first": str(known.min()), "last": str(known.max()), "seasons": season_counts(days)}


def _describe_modality(data: PairedSet, modality: Modality) -> dict[str, Any]:
    array = data.arrays[modality.name]
    bands = len(modality.bands)
    valid, total, absent = np.zeros(bands, np.int64), np.zeros(bands), 0
    low, high = np.full(bands, np.inf), np.full(bands, -np.inf)
    for rows in blocks(array.shape):
        flat = np.moveaxis(array[rows], modality.band_axis + 1, -1).reshape(rows.stop - rows.start, -1, bands)
        here = ~np.isnan(flat)
        absent += int((~here.any(axis=(1, 2))).sum())
        valid += here.sum(axis=(0, 1))
        total += np.where(here, flat, 0).sum(axis=(0, 1), dtype=np.float64)
        low = np.fmin(low, np.where(here, flat, np.inf).min(axis=(0, 1)))
        high = np.fmax(high, np.where(here, flat, -np.inf).max(axis=(0, 1)))
    missing, mean = 1 - valid / (array.size // bands), total / valid
    return {
        "sensor": modality.sensor,
        "kind": modality.kind,
        "dims": list(modality.dims),
        "shape": list(modality.shape),
        "absent": absent,
        "bands": [
            {**band.to_json(), "missing": m, "min": a, "mean": b, "max": c}
            for band, m, a, b, c in zip(
                modality.bands, missing.tolist(), low.tolist(), mean.tolist(), high.tolist(), strict=True
            )
        ],
    }


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
