import numpy as np
import pytest

from edge.train.mapped import MappedRows, rows_of


@pytest.fixture
def stored(tmp_path):
    """Rows of 1,200 bytes, so that several lie on a page and some across two; as an array and as its file's rows."""
    values = np.random.default_rng(0).normal(size=(97, 10, 30)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    return values, MappedRows(np.load(tmp_path / "a.npy", mmap_mode="r"))


@pytest.mark.parametrize(
    "index",
    [
        slice(None), slice(3, 9), slice(90, 200), slice(9, 9),
        np.array([5]), np.array([96, 0, 50, 50, 3]), np.array([], dtype=np.int64), np.arange(97) % 3 == 0,
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_those_of_the_array_in_the_order_that_was_asked_for(stored, index):
    values, rows = stored
    assert rows.shape == values.shape
    assert len(rows) == 97
    found = rows[index]
    np.testing.assert_array_equal(found, values[index])
    assert found.flags.owndata or found.base.flags.owndata  # a copy: the map may go


def test_the_pages_that_are_asked_for_cover_the_rows_and_little_else(stored):
    _, rows = stored
    start, stride = 128, 1200
    for index in (np.arange(97), np.array([0, 1, 40, 41, 96]), np.array([7])):
        runs = list(rows._runs(index))
        pages = {page for first, last in runs for page in range(first, last + 1)}
        wanted = {byte // 4096 for i in index for byte in range(start + i * stride, start + (i + 1) * stride)}
        assert pages == wanted
        assert len(runs) == 1 + sum(page + 1 not in pages for page in sorted(pages)[:-1])


def test_what_is_no_whole_memory_map_is_taken_as_it_is(stored, tmp_path):
    array = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert isinstance(rows_of(array), MappedRows)
    assert rows_of(array[3:]).base is not None  # a part of a map: its offset is not known
    assert not isinstance(rows_of(array[3:]), MappedRows)
    assert not isinstance(rows_of(stored[0]), MappedRows)
    with pytest.raises(ValueError, match="a whole memory map"):
        MappedRows(array[3:])
