from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_bundles import build

from edge.deploy.bundle import Bundle


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Bundle:
    """A bundle with all three graphs of a small student of two classes."""
    return build(tmp_path / "optical-int8")


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """`tiny_bundles.build` into a folder of this test."""

    def make(name: str = "bundle", kind: str = "binary", **changes: object) -> Bundle:
        return build(tmp_path / name, kind, **changes)  # type: ignore[arg-type]

    return make
