"""`edge data`: paired sets in, out and shown."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge.train.layout import Layout
    from edge.train.paired import PairedSet

_PATH = click.Path(path_type=Path)
_layout = click.option("--layout", required=True, type=_PATH, help="JSON file that says what the data means.")
_date = click.option(
    "--date",
    metavar="COLUMN",
    help="Column (npz: array) with the day of each sample, such as 2019-06-30. [default: `date` of the layout]",
)
_out = click.option("--out", "-o", required=True, type=_PATH, help="New folder for the paired set.")

# \b keeps click from rewrapping the paragraph that follows.
_IMPORT_HELP = """Make a paired set from your own files.

\b
A layout is a small JSON file that says what they hold, here a table with the columns field, crop, day, VV, B04(t-1),
B08(t-1), B04(t) and B08(t):
  {"name": "my-fields", "task": {"kind": "multiclass"}, "target": "crop", "groups": "field", "date": "day",
   "modalities": {
     "optical": {"bands": ["B04", "B08"], "unit": "reflectance", "times": ["t-1", "t"],
                 "columns": "{band}({time})"},
     "sar": {"bands": ["VV"], "unit": "dB"}}}

Example: edge data import table fields.csv --layout layout.json -o my-fields
"""


@click.group()
def command() -> None:
    """Import, show and fetch paired sets.

    Example: edge data show simulated
    """


@command.group(name="import", help=_IMPORT_HELP)
def import_() -> None:
    """See _IMPORT_HELP."""


@import_.command(name="table")
@click.argument("table", type=_PATH)
@_layout
@_date
@_out
def import_table(table: Path, layout: Path, date: str | None, out: Path) -> None:
    """From a .csv or .parquet file.

    One row per sample, groups of columns per modality.

    Example: edge data import table fields.csv --layout layout.json -o my-fields
    """
    from edge.train.import_table import import_table as run

    _say_written(run(table, _read(layout, date), out))


@import_.command(name="folders")
@click.argument("root", type=_PATH)
@click.option("--labels", required=True, type=_PATH, help="CSV or Parquet file with the column `name` and the target.")
@_layout
@_date
@_out
def import_folders(root: Path, labels: Path, layout: Path, date: str | None, out: Path) -> None:
    """From one folder per modality with images or .npy files.

    ROOT holds the folders; their GeoTIFF, PNG, JPEG or .npy files are matched by name.

    Example: edge data import folders plots --labels plots.csv --layout layout.json -o my-plots
    """
    from edge.errors import BackendMissing
    from edge.train.import_folders import import_folders as run

    try:
        from tqdm import tqdm
    except ImportError:
        raise BackendMissing("tqdm is not installed; pip install 'edge-colearn[train]'") from None
    with tqdm(desc="files", disable=None) as bar:
        _say_written(run(root, labels, _read(layout, date), out, say=_say, tick=bar.update))


@import_.command(name="npz")
@click.argument("file", type=_PATH)
@_layout
@_date
@_out
def import_npz(file: Path, layout: Path, date: str | None, out: Path) -> None:
    """From a .npz file.

    One array per modality, the labels in arrays of their own.

    Example: edge data import npz fields.npz --layout layout.json -o my-fields
    """
    from edge.train.import_npz import import_npz as run

    _say_written(run(file, _read(layout, date), out))


@command.command()
@click.argument("data")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--picture", type=_PATH, help="Write a picture of the data (.png, .svg or .pdf).")
def show(data: str, as_json: bool, picture: Path | None) -> None:
    """Show what a paired set holds.

    Modalities, shapes, missing values, class counts, groups, dates. DATA: a folder or a name.

    Example: edge data show lfmc --picture lfmc.png
    """
    from edge.train.datasets import resolve
    from edge.train.show import as_text, describe

    opened = resolve(data)
    facts = describe(opened)
    click.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))
    if picture is not None:
        from edge.train.picture import draw

        draw(opened, picture)
        _say(f"picture: {picture}")


@command.command()
@click.argument("name")
@click.option("--from", "from_folder", type=_PATH, help="Convert the raw files in this folder; nothing is downloaded.")
@click.option("--out", "-o", type=_PATH, help="Where to write it. [default: the cache, EDGE_CACHE or ~/.cache]")
def fetch(name: str, from_folder: Path | None, out: Path | None) -> None:
    """Get a known data set, by download or from a local copy.

    It is downloaded, checked and converted, with --from converted only.

    Example: edge data fetch lfmc --from ~/Downloads/lfmc
    """
    from edge.files import cache_folder
    from edge.train.sources import fetch as run
    from edge.train.sources import load

    source = load(name)
    _say(f"{source.TITLE}\nlicence: {source.LICENCE}\ncite: {source.CITATION}")
    _say_written(run(name, out or cache_folder() / name, from_folder))


def _read(file: Path, date: str | None) -> "Layout":
    from edge.train.layout import read_layout

    layout = read_layout(file)
    return layout if date is None else dataclasses.replace(layout, date=date)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _say_written(data: "PairedSet") -> None:
    shapes = ", ".join(f"{name} {list(modality.shape)}" for name, modality in data.modalities.items())
    _say(f"{len(data)} samples of {shapes}\npaired set: {data.folder}\nlook at it: edge data show {data.folder}")
