import itertools
import math

import pytest

from edge.benchmarks.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Scale, round_values


@pytest.mark.parametrize(
    ("fastest", "slowest", "names"),
    [
        (0.0363, 0.111, ["0.03", "0.05", "0.07", "0.1"]),  # the LFMC students
        (0.03, 30, ["0.03", "0.1", "0.3", "1", "3", "10", "30"]),
        (1, 1e6, ["1", "100", "10000", "1e+06"]),
        (0.1, 0.1, ["0.08", "0.1", "0.12"]),
    ],
)
def test_latencies_are_named_in_even_steps(fastest: float, slowest: float, names: list[str]) -> None:
    assert [f"{tick:g}" for tick in Scale([fastest, slowest], [0.5]).latencies()] == names


def test_names_on_the_axis_never_touch_and_never_leave_the_picture() -> None:
    for fastest in (0.0123, 0.069, 0.1, 1.7, 95.0):
        for ratio in (1.0, 1.05, 1.3, 2.0, 5.0, 40.0, 1e3, 1e5):
            scale = Scale([fastest, fastest * ratio], [0.5])
            ticks = scale.latencies()
            assert 2 <= len(ticks) <= 8, (fastest, ratio, ticks)
            # 7.7 units is a digit of a usual font at 14.5 units; half a digit stays free.
            ends = [(scale.x(t) - 3.85 * len(f"{t:g}"), scale.x(t) + 3.85 * len(f"{t:g}")) for t in ticks]
            assert all(after[0] - before[1] >= 3.85 for before, after in itertools.pairwise(ends))
            assert ends[-1][1] <= WIDTH


def test_the_scale_is_logarithmic_across_and_linear_up() -> None:
    scale = Scale([0.1, 10.0], [0.2, 0.6])
    assert scale.x(1.0) == pytest.approx((scale.x(0.1) + scale.x(10.0)) / 2)
    assert scale.y(0.4) == pytest.approx((scale.y(0.2) + scale.y(0.6)) / 2)
    assert LEFT < scale.x(0.1) < scale.x(10.0) < RIGHT
    assert TOP < scale.y(0.6) < scale.y(0.2) < BOTTOM
    assert round_values(0.13, 0.58, 5) == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert math.isclose(scale.metrics()[0], 0.2)
