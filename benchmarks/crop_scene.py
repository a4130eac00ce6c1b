"""Two students of cropland on a real scene: what each sees with its sensor alone, as a picture.

    edge data fetch worldcereal-global --from ../shared/data/worldcereal
    edge build --data worldcereal-global --modality optical --int8 --out runs/worldcereal-global
    edge build --data worldcereal-global --modality sar --int8 --out runs/worldcereal-global
    python -m edge.benchmarks.crop_scene runs/worldcereal-global SCENE.nc

SCENE.nc is `scenes_dev/worldcereal_preprocessed_inputs_100px.nc` of ../shared/data: 100 x 100 pixels of 10 m in
Belgium, the twelve months from 2020-11 (WorldCereal, MIT licence; contains modified Copernicus Sentinel data). They
become a GeoTIFF for each month, `edge predict` makes a map of them for each student, and the picture shows both beside
July in true colours. Nobody has labelled the scene, so the picture is for looking at; how often the two agree says how
far one sensor can stand in for the other, not who is right. Needs the extras `raster`, `h5` and `plot`.
"""

import json
import tempfile
from pathlib import Path

import click
import numpy as np

from edge.deploy.bundle import open_bundle
from edge.deploy.predict import predict
from edge.deploy.raster import open_image, raster_library
from edge.files import replacing

VARIABLES = {
    "optical": [f"S2-L2A-{band}" for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")],
    "sar": ["S1-SIGMA0-VV", "S1-SIGMA0-VH"],
}
MISSING = 65535
TRUE_COLOURS = [2, 1, 0]  # B04, B03, B02
BRIGHTEST = 2500  # reflectance x 10000
JULY = 8  # months after 2020-11


def read(scene: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The series (month, band, y, x) of each sensor in the students' units, and where they lie, as rasterio says it."""
    import h5py

    rasterio = raster_library()
    with h5py.File(scene) as file:
        stored = {
            name: np.stack([file[band][:].view(np.uint16) for band in bands], 1) for name, bands in VARIABLES.items()
        }
        x, y, wkt = file["x"][:2], file["y"][:2], file["crs"].attrs["crs_wkt"].decode()
    values = {name: np.where(array == MISSING, np.nan, array).astype(np.float32) for name, array in stored.items()}
    values["sar"] = 20 * np.log10(values["sar"]) - 83  # how WorldCereal stores backscatter
    step_x, step_y = x[1] - x[0], y[1] - y[0]
    place = rasterio.Affine(step_x, 0, x[0] - step_x / 2, 0, step_y, y[0] - step_y / 2)  # x and y are centres
    return values, {"crs": wkt, "transform": place}


def write_months(folder: Path, series: np.ndarray, bands: list[str], place: dict[str, object]) -> None:
    """A GeoTIFF for each month of `series` (month, band, y, x)."""
    rasterio = raster_library()
    folder.mkdir()
    _, count, height, width = series.shape
    for month, values in enumerate(series):
        with rasterio.open(
            folder / f"{month:02d}.tif", "w", driver="GTiff", count=count, height=height, width=width, dtype="float32",
            nodata=np.nan, **place,
        ) as file:  # fmt: skip
            file.descriptions = [band.split("-")[-1] for band in bands]
            file.write(values)


def draw(path: Path, colours: np.ndarray, maps: dict[str, np.ndarray], classes: tuple[str, ...]) -> None:
    """The scene (3, y, x), 0 to 1, and the classes (y, x) that each student sees."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    palette = ["#d9d4c7", "#2f7d32"]
    figure = Figure(figsize=(9.6, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(maps))
    axes[0].imshow(colours.transpose(1, 2, 0), interpolation="nearest")
    axes[0].set_title("Sentinel-2, July 2021", fontsize=9)
    for axis, (name, classified) in zip(axes[1:], maps.items(), strict=True):
        axis.imshow(classified, cmap=ListedColormap(palette), vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(f"{name} student, INT8", fontsize=9)
    for axis in axes:
        axis.set_axis_off()
    legend = [Patch(facecolor=colour, label=name) for colour, name in zip(palette, classes, strict=True)]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(classes), fontsize=9, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("scene", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/crop-scene.png"),
              show_default=True)  # fmt: skip
def main(run: Path, scene: Path, out: Path) -> None:
    """Map SCENE with both students of RUN and draw the maps."""
    series, place = read(scene)
    maps = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, bands in VARIABLES.items():
            bundle = open_bundle(run / "bundles" / f"{name}-int8")
            months, result = Path(folder, name), Path(folder, f"{name}.tif")
            write_months(months, series[name], bands, place)
            done = predict(bundle, months, result)
            with open_image(result, str(result)) as raster:
                maps[name] = raster.read(1)
            print(f"{name}: {done['samples']:,} pixels in {done['seconds']:.2f} s")
    draw(out, np.clip(series["optical"][JULY, TRUE_COLOURS] / BRIGHTEST, 0, 1), maps, bundle.task.classes)
    agree = maps["optical"] == maps["sar"]
    print(json.dumps({"picture": str(out), "agreement": round(float(agree.mean()), 3)}))


if __name__ == "__main__":
    main()
