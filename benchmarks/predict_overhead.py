"""What `edge predict` costs beside ONNX Runtime called in a bare loop over the same samples.

    python -m edge.benchmarks.predict_overhead runs/edge/bundles/optical-int8          # 100,000 samples, two minutes
    python -m edge.benchmarks.predict_overhead BUNDLE --samples 10000 --repeats 1      # a look

The bundle's golden inputs are repeated into a .npy, a .npz, a folder of .npy files with 100 samples each and a .csv;
each is predicted into a .npz, the .npy into a .csv, too. The samples as pixels of a GeoTIFF (tiles, not compressed)
become a map, unless they are images; that needs the extra `raster`. The bare loop has its samples in memory and keeps
its outputs there. All take turns, and the medians of their ratios to the bare loop of the same turn are given, beside
the seconds that reading, checking, running and writing take on their own, one after the other. The aim is a ratio of
1.1 for arrays (.npy, .npz). `predict` reads ahead while the engine runs, so that on two idle cores a ratio is below the
sum of stages.
"""

import contextlib
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge.benchmarks.latency import Array, undisturbed
from edge.benchmarks.machine import OtherLoad, machine_facts
from edge.benchmarks.report import columns
from edge.deploy.bundle import Bundle, open_bundle
from edge.deploy.engine import Tensor, check_inputs, open_engine
from edge.deploy.predict import predict, write_answers
from edge.deploy.raster import raster_library
from edge.deploy.samples import Samples, read_samples
from edge.deploy.samples_csv import csv_columns
from edge.errors import InputError
from edge.files import write_json

BATCH = 256
PER_FILE = 100


def sources(folder: Path, bundle: Bundle, samples: int) -> dict[str, tuple[Path, Path]]:
    """Source and output by name, the sources filled with `samples` samples."""
    golden = bundle.golden()["input"]
    x = np.ascontiguousarray(golden[np.arange(samples) % len(golden)])
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", **{bundle.modality.name: x})  # type: ignore[arg-type]
    (folder / "x").mkdir()
    for start in range(0, samples, PER_FILE):
        np.save(folder / "x" / f"{start:09d}.npy", x[start : start + PER_FILE])
    out = folder / "out.npz"
    found = {".npy": (folder / "x.npy", out), ".npz": (folder / "x.npz", out), "folder": (folder / "x", out)}
    if bundle.modality.kind != "image":
        _write_table(folder / "x.csv", bundle, x)
        found |= {".csv": (folder / "x.csv", out), ".npy to .csv": (folder / "x.npy", folder / "out.csv")}
        _write_scene(folder / "x.tif", bundle, x)
        found["scene to map"] = (folder / "x.tif", folder / "out.tif")
    return found


def _write_scene(path: Path, bundle: Bundle, x: Array) -> None:
    """A row of pixels for PER_FILE samples."""
    rasterio = raster_library()
    names = csv_columns(bundle.modality)
    pixels = x.reshape(-1, PER_FILE, len(names)).transpose(2, 0, 1)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(names), height=pixels.shape[1], width=PER_FILE, dtype="float32",
        nodata=np.nan, transform=rasterio.Affine(10, 0, 0, 0, -10, 0), tiled=True, blockxsize=256, blockysize=256,
    ) as file:  # fmt: skip
        file.descriptions = names
        file.write(pixels)


def _write_table(path: Path, bundle: Bundle, x: Array) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(csv_columns(bundle.modality))
        for row in x.reshape(len(x), -1).tolist():
            writer.writerow(["" if value != value else f"{value:.7g}" for value in row])


def bare(bundle: Bundle, precision: str, x: Array) -> Callable[[], object]:
    """ONNX Runtime in a loop, with the options that our engine has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(bundle.graph_for(precision)), options, providers=["CPUExecutionProvider"]
    )
    name = bundle.modality.name
    return lambda: [session.run(None, {name: x[i : i + BATCH]})[0] for i in range(0, len(x), BATCH)]


def stages(bundle: Bundle, precision: str, source: Path, out: Path) -> dict[str, float]:
    """Seconds of each stage on its own."""
    name, seconds = bundle.modality.name, {}
    parts: list[Samples] = []
    answers: list[Array] = []
    with contextlib.closing(open_engine(bundle.graph_for(precision))) as engine:
        engine.run({name: bundle.golden()["input"]})
        tensors = [Tensor(t["name"], np.dtype(t["dtype"]), tuple(t["shape"])) for t in engine.describe()["inputs"]]
        seconds["reading"] = clocked(lambda: parts.extend(read_samples(source, bundle.modality, BATCH)))
        seconds["checking"] = clocked(lambda: _check(tensors, name, parts))
        seconds["running"] = clocked(
            lambda: answers.extend(engine.run({name: part.values})["prediction"] for part in parts)
        )
    seconds["writing"] = clocked(lambda: write_answers(out, bundle.task, zip(parts, answers, strict=True)))
    seconds["running"] -= seconds["checking"]  # `run` checks, too
    return seconds


def _check(tensors: list[Tensor], name: str, parts: list[Samples]) -> None:
    for part in parts:
        check_inputs(tensors, {name: part.values})


def clocked(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(bundle: Bundle, precision: str, samples: int, repeats: int) -> list[dict[str, Any]]:
    """One row for each kind of file."""
    with tempfile.TemporaryDirectory() as folder, undisturbed():
        files = sources(Path(folder), bundle, samples)
        loop = bare(bundle, precision, np.load(files[".npy"][0]))
        loop()
        ratios: dict[str, list[float]] = {name: [] for name in files}
        seconds: dict[str, list[float]] = {name: [] for name in ("bare loop", *files)}
        for _ in range(repeats):
            for name, (source, out) in files.items():
                base = clocked(loop)
                took = clocked(lambda s=source, o=out: predict(bundle, s, o, precision=precision))  # type: ignore[misc]
                seconds["bare loop"].append(base)
                seconds[name].append(took)
                ratios[name].append(took / base)
        parts = {name: stages(bundle, precision, *pair) for name, pair in files.items() if pair[1].suffix != ".tif"}
    rows = [{"source": "bare loop", "seconds": statistics.median(seconds["bare loop"]), "ratio": 1.0, "stages": None}]
    return rows + [
        {
            "source": name,
            "seconds": statistics.median(seconds[name]),
            "ratio": statistics.median(ratios[name]),
            "stages": parts.get(name),
        }
        for name in files
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    names = ("reading", "checking", "running", "writing")
    lines = [["source", "seconds", "times bare loop", *(f"{name} s" for name in names)]]
    for row in rows:
        parts = [f"{row['stages'][name]:.3f}" if row["stages"] else "" for name in names]
        lines.append([row["source"], f"{row['seconds']:.3f}", f"{row['ratio']:.3f}", *parts])
    return columns(lines, left=1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--samples", default=100_000, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the JSON to a file, too.")
def main(folder: Path, samples: int, repeats: int, out: Path | None) -> None:
    """Compare `edge predict` with a bare loop, for each precision of the bundle."""
    if samples < 1 or samples % PER_FILE:
        raise InputError(f"samples is {samples}; give a multiple of {PER_FILE}")
    bundle, load = open_bundle(folder), OtherLoad()
    found: dict[str, Any] = {}
    for precision in sorted({key.partition(".")[0] for key in bundle.graphs}):
        found[precision] = measure(bundle, precision, samples, repeats)
        print(f"{precision}, {samples:,} samples\n{table(found[precision])}\n")
    arrays = [row["ratio"] for rows in found.values() for row in rows if row["source"] in (".npy", ".npz")]
    print(f"aim: at most 1.1 times the bare loop for arrays; the largest is {max(arrays):.3f}")
    document = {
        "benchmark": "predict_overhead", "samples": samples, "threads": 1, "batch": BATCH,
        "other_load": load.cores(), "machine": machine_facts(), "results": found,
    }  # fmt: skip
    if out:
        write_json(out, document)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
