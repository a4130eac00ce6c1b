import h5py
import numpy as np
import rasterio

from edge.benchmarks.crop_scene import VARIABLES, read, write_months


def test_a_scene_becomes_reflectance_backscatter_and_a_geotiff_for_each_month(tmp_path):
    stored = np.full((2, 3, 4), 10_000, np.uint16)
    stored[1, 0, 0] = 65535
    with h5py.File(tmp_path / "scene.nc", "w") as file:
        for band in (*VARIABLES["optical"], *VARIABLES["sar"]):
            file[band] = stored.view(np.int16)  # so netCDF stores unsigned numbers
        file["x"], file["y"] = np.arange(664005.0, 664045, 10), np.arange(5612115.0, 5612085, -10)
        file["crs"] = 0
        file["crs"].attrs["crs_wkt"] = np.bytes_(rasterio.crs.CRS.from_epsg(32631).to_wkt())
    series, place = read(tmp_path / "scene.nc")
    assert series["optical"].shape == (2, 9, 3, 4)
    assert series["sar"].shape == (2, 2, 3, 4)
    assert series["optical"][0, 0, 0, 0] == 10_000
    assert series["sar"][0, 0, 0, 0] == -3  # dB: 20 x 4 - 83
    assert np.isnan(series["sar"][1, :, 0, 0]).all()
    assert np.isnan(series["optical"]).sum() == 9
    write_months(tmp_path / "months", series["sar"], VARIABLES["sar"], place)
    assert sorted(path.name for path in (tmp_path / "months").iterdir()) == ["00.tif", "01.tif"]
    with rasterio.open(tmp_path / "months" / "01.tif") as file:
        assert file.descriptions == ("VV", "VH")
        assert file.crs.to_epsg() == 32631
        assert file.bounds == (664000, 5612090, 664040, 5612120)
        np.testing.assert_array_equal(file.read(), series["sar"][1])
