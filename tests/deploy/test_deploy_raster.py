import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.deploy.raster import open_image, read_raster
from edge.errors import InputError

VIRTUAL = """<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="0">{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>
</VRTRasterBand></VRTDataset>"""
PNG, JPEG = {"driver": "PNG"}, {"driver": "JPEG"}


def secret(folder: Path) -> Path:
    rasterio = pytest.importorskip("rasterio")
    file = folder / "secret.tif"
    with rasterio.open(
        file, "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8", transform=rasterio.Affine.scale(2)
    ) as raster:
        raster.write(np.full((1, 4, 4), 7, np.uint8))
    return file


def test_a_virtual_raster_that_is_called_tif_reads_no_other_file(tmp_path: Path) -> None:
    virtual = tmp_path / "harmless.tif"
    virtual.write_text(VIRTUAL.format(secret(tmp_path)))
    with pytest.raises(InputError, match="no GeoTIFF, PNG or JPEG"):
        read_raster(virtual, None)
    with pytest.raises(InputError, match="no GeoTIFF, PNG or JPEG"), open_image(virtual.read_bytes(), "a member"):
        pass


def test_a_mask_beside_the_image_is_no_way_round(tmp_path: Path) -> None:
    image = secret(tmp_path)
    Path(f"{image}.msk").write_text(VIRTUAL.format("/vsicurl/http://example.org/a.tif"))
    with pytest.raises(InputError, match=r"secret\.tif\.msk is not a readable image: no GeoTIFF"):
        read_raster(image, None)


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    with pytest.raises(InputError, match=r"absent\.tif is not a readable image"):
        read_raster(tmp_path / "absent.tif", None)


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, PNG, JPEG])
def test_every_kind_of_image_is_read(tmp_path: Path, options: dict[str, str]) -> None:
    shutil = pytest.importorskip("rasterio.shutil")
    file = tmp_path / "copy.tif"
    shutil.copy(secret(tmp_path), file, **{"driver": "GTiff", **options})
    values, names = read_raster(file, None)
    assert (values.tolist(), names) == ([[[7.0] * 4] * 4], ())


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "GTiff"])
@pytest.mark.parametrize("fault", ["cut off", "damaged"])
def test_an_image_that_is_not_whole_is_refused_in_every_thread(tmp_path: Path, driver: str, fault: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = np.kron(np.random.default_rng(0).integers(0, 255, (3, 16, 16), np.uint8), np.ones((1, 16, 16), np.uint8))
    options: dict[str, Any] = {"driver": driver, "width": 256, "height": 256, "count": 3, "dtype": "uint8"}
    if driver == "GTiff":
        options["compress"] = "deflate"
    file = tmp_path / "photo"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(file, "w", **options) as raster:
            raster.write(pixels)
    assert read_raster(file, None)[0].shape == (3, 256, 256)
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + (b"" if fault == "cut off" else bytes(range(200)) + whole[middle + 200 :]))
    with ThreadPoolExecutor(1) as thread:
        for run in (lambda: read_raster(file, None), lambda: thread.submit(read_raster, file, None).result()):
            with pytest.raises(InputError, match=r"photo is not a readable image: .+"):
                run()
