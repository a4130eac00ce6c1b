import os
from pathlib import Path

import numpy as np
import pytest

from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.sources.simulated import simulate


@pytest.fixture(scope="session")
def small_paired(tmp_path_factory) -> PairedSet:
    """180 simulated fields: optical 12 x 12, sar 12 x 2, six crops, 56 sites; some samples lack a modality."""
    return simulate(tmp_path_factory.mktemp("paired") / "small", n=180, seed=3)


@pytest.fixture(scope="session")
def small_paired_regression(tmp_path_factory) -> PairedSet:
    return simulate(tmp_path_factory.mktemp("paired") / "small-regression", task="regression", n=180, seed=3)


@pytest.fixture
def pieces() -> dict:
    """Keyword arguments of write_paired_set for 12 samples of a series and a vector, to be spoilt by the tests."""
    rng = np.random.default_rng(0)
    return {
        "name": "tiny",
        "modalities": {
            "optical": Modality("optical", (Band("red"), Band("nir")), ("time", "band"), (3, 2)),
            "soil": Modality("soil", (Band("clay", "%"),), ("band",), (1,)),
        },
        "arrays": {"optical": rng.normal(size=(12, 3, 2)), "soil": rng.normal(size=(12, 1))},
        "target": np.arange(12) % 3,
        "task": Task("multiclass", "crop", ("oat", "rye", "pea")),
        "groups": np.arange(12) // 2,
        "source": {"title": "made for a test"},
    }


@pytest.fixture
def write(pieces, tmp_path):
    """Write the pieces, some of them replaced, to a new folder."""
    return lambda **changes: write_paired_set(tmp_path / "set", **{**pieces, **changes})


@pytest.fixture(scope="session")
def real_data():
    """Gives the folder of a real data set by name, or skips: EDGE_DATA, else ../shared/data beside the repository."""
    root = Path(os.environ.get("EDGE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"{root / name} is not here; set EDGE_DATA to a folder that holds {name}")
        return root / name

    return find
