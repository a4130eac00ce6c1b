import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import torch

from edge.compress.compression import _save_features, load_features
from edge.train.analysis import table, write_analysis
from edge.train.structure import PARTS


def test_after_compression_the_table_has_both_precisions(two, tmp_path):
    trained = dataclasses.replace(two.trained, folder=tmp_path)
    rows = write_analysis(trained, two.data, two.compressed.folder)
    floats, integers = ([row for row in rows if row["precision"] == name] for name in ("fp32", "int8"))
    named = [[(row["measure"], row["part"], row["modality"], row["n"]) for row in part] for part in (floats, integers)]
    assert named[0] == named[1]
    assert [row["value"] for row in floats] != [row["value"] for row in integers]
    picture = ET.parse(tmp_path / "structure.svg").getroot()  # noqa: S314 - ours
    assert len(picture.findall("{*}g")) == 8
    header, _, line = table(rows).splitlines()[:3]
    assert header.split() == ["measure", "part", "modality", "FP32", "INT8", "chance", "n"]
    assert line.startswith("modality probe")


def test_what_was_compressed_from_another_training_is_not_compared(two, tmp_path):
    other = dataclasses.replace(two.trained, folder=tmp_path, facts={**two.trained.facts, "fingerprint": "another"})
    assert {row["precision"] for row in write_analysis(other, two.data, two.compressed.folder)} == {"fp32"}


def test_the_features_that_are_kept_are_those_of_the_fake_quantized_students(two):
    _, test = load_features(two.compressed.folder, ("optical", "sar"))
    for name, view in test.items():
        assert set(view.index) == set(two.split.test[two.data.present(name)[two.split.test]])
        with torch.no_grad():
            features = two.live({name: two.samples.inputs[name][view.index]})[name]
        for part in PARTS:
            np.testing.assert_allclose(view.parts[part], getattr(features, part), atol=1e-5)


def test_a_test_part_that_lacks_a_modality_is_kept_without_it(two, tmp_path):
    without = np.flatnonzero(~two.data.present("sar"))
    assert len(without)
    _save_features(tmp_path, two.live, two.samples, dataclasses.replace(two.split, test=without))
    train, test = load_features(tmp_path, ("optical", "sar"))
    assert list(train) == ["optical", "sar"]
    assert list(test) == ["optical"]
