import json

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_bundles import MEAN, OPTICAL, SPREAD, TASKS, build, card, values

from edge.cli import main
from edge.deploy.bundle import open_bundle, write_bundle
from edge.deploy.calibrated import calibrated
from edge.errors import InputError
from edge.sensors import Band, Modality


def with_limits(entry=None):
    bands = {
        band.name: {"low": float(MEAN[i] - 2 * SPREAD[i]), "high": float(MEAN[i] + 2 * SPREAD[i])}
        for i, band in enumerate(OPTICAL.bands)
    }
    made = card(TASKS["binary"])
    made["properties"]["edge:calibration"] = {"bands": bands if entry is None else entry}
    return made


def test_values_outside_are_counted_by_band_and_missing_ones_are_not() -> None:
    counter = calibrated(with_limits(), OPTICAL)
    samples = values(6)
    samples[...] = MEAN
    samples[0, 1, 0] = 2001  # the limit is 2000
    samples[3, :, 1] = [-0.1, np.nan, 0.9]
    counter.count(samples[:2])
    counter.count(samples[2:])
    assert counter.to_json() == {"values": 3, "share": 3 / 36, "bands": {"B04": 1, "ndvi": 2}}


def test_the_bands_of_an_image_stand_first() -> None:
    rgb = Modality("rgb", (Band("R"), Band("G")), ("band", "y", "x"), (2, 3, 3))
    made = with_limits({"R": {"low": 0, "high": 1}, "G": {"low": 0, "high": 5}})
    counter = calibrated(made, rgb)
    counter.count(np.full((2, 2, 3, 3), 3, np.float32))
    assert counter.to_json()["bands"] == {"R": 18}


def test_a_card_without_limits_counts_nothing_and_a_broken_one_is_refused() -> None:
    assert calibrated(card(TASKS["binary"]), OPTICAL) is None
    assert calibrated(with_limits({band.name: {"min": 1.0} for band in OPTICAL.bands}), OPTICAL) is None
    with pytest.raises(InputError, match="edge:calibration is not whole"):
        calibrated(with_limits({"B04": {"low": 0, "high": 1}}), OPTICAL)


def test_predict_says_how_many_values_int8_cut_off(tmp_path) -> None:
    bundle = build(tmp_path / "plain")
    again = tmp_path / "bundle"
    write_bundle(
        again, card=with_limits(), graphs=bundle.graphs, golden=bundle.golden(), report=bundle.report(), report_html=""
    )
    samples = np.clip(values(8), MEAN - SPREAD, MEAN + SPREAD)
    samples[0, :, 0] = 1e4
    np.save(tmp_path / "x.npy", samples)
    assert open_bundle(again)
    asked = ["predict", str(again), str(tmp_path / "x.npy"), "-o", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(main, [*asked, "--json"])
    assert json.loads(result.stdout)["outside_calibration"] == {"values": 3, "share": 3 / 48, "bands": {"B04": 3}}
    assert "3 values (6.25%) lie outside of what INT8 was calibrated for, most of them in B04" in result.stderr
    result = CliRunner().invoke(main, [*asked, "--precision", "fp32", "--json"])
    assert json.loads(result.stdout)["outside_calibration"] is None
    assert "Warning" not in result.stderr
