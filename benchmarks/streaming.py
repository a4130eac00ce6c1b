"""Train on a set that is larger than the memory may be: how much memory it takes, and how fast it goes.

    python -m edge.benchmarks.streaming                     # 20 GB, some minutes, no disk: the files are sparse
    python -m edge.benchmarks.streaming --gigabytes 4

One epoch of `edge train` with all four losses on vectors of 2,048 and 512 values, small students, so that reading is
most of the work. Prints a table and one line of JSON. Bar: 20 GB within 2 GiB of resident memory (VmHWM), labels, torch
and Python included. A sparse file is read through the page cache as any other, at the speed of a disk that is never the
bottleneck: 'samples/s' is what the processor allows.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge.benchmarks.machine import OtherLoad, machine_facts, peak_rss_mb
from edge.files import write_json

if TYPE_CHECKING:
    from edge.train.paired import PairedSet

BANDS = {"spectrum": 2048, "lidar": 512}
FILLED = 5000  # rows with numbers in them; all others are the zeros of a sparse file
BATCH, BAR_MB = 1024, 2048


def sparse_set(folder: Path, gigabytes: float) -> "PairedSet":
    """A paired set of this size in `folder` that takes next to no disk: noise in some rows, zeros in the others."""
    from edge.sensors import Band, Modality
    from edge.tasks import Task
    from edge.train.paired import MARKER, SCHEMA, open_paired_set

    generator, n = np.random.default_rng(0), int(gigabytes * 1e9 / (4 * sum(BANDS.values())))
    for name, bands in BANDS.items():
        with open(folder / f"{name}.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (n, bands)})
            start = file.tell()
            file.truncate(start + 4 * n * bands)
            for i in generator.integers(0, n, FILLED):
                file.seek(start + 4 * bands * int(i))
                file.write(generator.normal(size=bands).astype(np.float32).tobytes())
    labels: dict[str, np.ndarray] = {
        "target": generator.normal(size=n).astype(np.float32),
        "groups": np.arange(n),
        "split": np.arange(n) % 10 // 8 + (np.arange(n) % 10 // 9),  # eight tenths train, one validates, one tests
    }
    for name, values in labels.items():
        np.save(folder / f"{name}.npy", values)
    shapes = {name: (n, bands) for name, bands in BANDS.items()} | dict.fromkeys(labels, (n,))
    modalities = {
        name: Modality(name, tuple(Band(f"b{i}") for i in range(bands)), ("band",), (bands,))
        for name, bands in BANDS.items()
    }
    document = {
        "schema": SCHEMA, "name": "sparse", "samples": n, "task": Task("regression").to_json(), "source": {},
        "default_modalities": list(BANDS), "modalities": {key: value.to_json() for key, value in modalities.items()},
        "arrays": {
            name: {"file": f"{name}.npy", "shape": shape, "bytes": (folder / f"{name}.npy").stat().st_size}
            for name, shape in shapes.items()
        },
    }  # fmt: skip
    write_json(folder / MARKER, document)
    return open_paired_set(folder)


def train_once(data: "PairedSet", run: Path) -> dict[str, Any]:
    """One epoch: what it took."""
    from edge.recipe import Model, Recipe, Training
    from edge.train.training import train

    students = Model(width=32, hidden=64, embedding=32)
    recipe = Recipe(method="mdico", model=students, training=Training(epochs=1, batch=BATCH))
    begin, load = time.perf_counter(), OtherLoad()
    (epoch,) = train(data, recipe, run).facts["history"]
    return {
        "bytes": sum(array.nbytes for array in data.arrays.values()),
        "samples": len(data),
        "epoch_s": epoch["seconds"],
        "samples_per_s": epoch["samples_per_s"],
        "all_s": round(time.perf_counter() - begin, 2),
        "peak_rss_mb": peak_rss_mb(),
        "other_cores": load.cores(),
    }


@click.command()
@click.option("--gigabytes", default=20.0, show_default=True, help="Size of the set.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the sparse files go. [default: temporary]")
def main(gigabytes: float, folder: Path | None) -> None:
    """Train one epoch from disk."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        (Path(place) / "set").mkdir()
        found = train_once(sparse_set(Path(place) / "set", gigabytes), Path(place) / "run")
    row_bytes = 4 * sum(BANDS.values())
    click.echo(f"{found['bytes'] / 1e9:.1f} GB, {found['samples']:,} samples of {row_bytes:,} bytes, batch {BATCH}")
    click.echo(f"statistics, epoch, validation {found['all_s']:8.1f} s")
    click.echo(f"epoch                         {found['epoch_s']:8.1f} s   (training part, eight tenths)")
    rate = found["samples_per_s"]
    click.echo(f"throughput                    {rate:8.0f} samples/s, {rate * row_bytes / 1e6:.0f} MB/s")
    click.echo(f"peak resident memory          {found['peak_rss_mb']:8.0f} MiB (bar for 20 GB: {BAR_MB})")
    click.echo(json.dumps({"benchmark": "streaming", "batch": BATCH, **found, "machine": machine_facts()}))


if __name__ == "__main__":
    main()
