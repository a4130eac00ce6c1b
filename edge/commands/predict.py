"""`edge predict`."""

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="OUT.csv, OUT.npz or OUT.tif.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), help="[default: int8 if the bundle has it]")
@click.option("--backend", help="The engine. [default: what `edge bench --choose` found here, else onnxruntime]")
@click.option("--threads", default=1, show_default=True, help="Threads of the engine.")
@click.option("--batch", default=256, show_default=True, help="Samples per run.")
@click.option("--stride", type=int, help="Pixels from cell to cell of a map. [default: the window of an image, else 1]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout: what was done.")
def command(
    bundle: Path, source: Path, out: Path, precision: str | None, backend: str | None, threads: int, batch: int,
    stride: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Predict samples, or the map of a whole scene, with a bundle.

    Values are what the sensor gives, in the card's units. Missing are NaN, an empty cell, and the nodata value that the
    training data was imported with.

    \b
    FILE.npz  the array named after the modality, or the only array: (n, *shape of a sample)
    FILE.npy  the same, or one sample
    FILE.csv  a header, one sample per row. Columns of a vector: <band>. Columns of a series: <band>_t<step>, steps
              counted from 0, as B02_t0, B03_t0 ... B02_t1; or those of the table that the training data came from.
              Any order; every one must be there. Other columns, such as an id, are copied to the output. Images do
              not fit in a table.
    FILE.tif  or .png, .jpg: an image of a sample's size; its own nodata value and scale are applied (extra `raster`)
    FOLDER    .npy, .npz, GeoTIFF, PNG and JPEG files, by name; the output says `file`
    OUT.csv   kept columns, then prediction and probability_<class> per class, or prediction and unit
    OUT.npz   prediction (n, outputs), and classes or unit

    A map, OUT.tif, is made of a whole scene: every pixel is a sample, and of image students every window, side by side
    or --stride pixels apart. It is a cloud-optimised GeoTIFF on the scene's coordinates: number and probability of the
    class (names in the tags), or the value. Bands are found by their names, else taken in order.

    \b
    SCENE.tif  the bands of a sample; of a series those of all steps, <band>_t<step>
    FOLDER     of a series: one GeoTIFF for each step, in the order of their names (step-9, step-10)

    \b
    Examples:
      edge predict RUN/bundles/optical-int8 fields.csv -o predictions.csv
      edge predict RUN/bundles/sar-int8 scene.tif -o map.tif
    """
    from edge.deploy.bundle import open_bundle
    from edge.deploy.choice import chosen_for_cpu
    from edge.deploy.predict import predict
    from edge.deploy.samples import source_size

    opened = open_bundle(bundle)
    if opened.failed_gates:
        click.echo(f"Warning: this bundle failed gates of its build: {', '.join(opened.failed_gates)}", err=True)
    backend = backend or chosen_for_cpu(opened)
    options = {"precision": precision, "backend": backend, "threads": threads, "batch": batch, "stride": stride}
    if sys.stderr.isatty() and source.exists():
        with click.progressbar(length=source_size(source), label="predict", file=sys.stderr) as bar:
            done = predict(opened, source, out, progress=bar.update, **options)  # type: ignore[arg-type]
            bar.update((bar.length or 0) - bar.pos)  # headers take bytes, too
    else:
        done = predict(opened, source, out, **options)  # type: ignore[arg-type]
    if done["empty"]:
        click.echo(f"Warning: {done['empty']:,} samples hold no value at all; their predictions say nothing.", err=True)
    if (outside := done["outside_calibration"]) and outside["values"]:
        band = max(outside["bands"], key=outside["bands"].__getitem__)
        click.echo(
            f"Warning: {outside['values']:,} values ({100 * outside['share']:.3g}%) lie outside of what INT8 was "
            f"calibrated for, most of them in {band}; they are cut off there. Compare with --precision fp32.",
            err=True,
        )
    if done.get("bands_by_position"):
        names = ", ".join(band.name for band in opened.modality.bands)
        steps = ", step by step" if opened.modality.kind == "series" else ""
        click.echo(f"Note: the scene names no bands; they were taken in this order: {names}{steps}.", err=True)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        missing = f" ({done['missing']:,} more cells are missing)" if done.get("missing") else ""
        what = f"{done['precision']} on {backend}"
        click.echo(f"{done['samples']:,} samples{missing}, {what}, {done['seconds']:.1f} s: {done['out']}", err=True)
