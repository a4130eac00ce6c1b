"""Energy worked out by hand, with numpy's and scipy's rules as the reference where they have one."""

import math

import numpy as np
import pytest
from scipy import integrate

from edge.benchmarks.joules import BLOCKS, joules_of, per_sample_mj, trapezoid, unwrap
from edge.benchmarks.meters import Meter

WATTS = Meter("w", lambda: None)
COUNTER = Meter("c", lambda: None, counts=True, wraps_at_j=100.0)


def test_the_trapezoid_rule_is_scipys_for_uneven_times() -> None:
    rng = np.random.default_rng(0)
    t, watts = np.sort(rng.uniform(0, 10, 50)), rng.uniform(3, 9, 50)
    ours = trapezoid(t, watts)
    assert ours[0] == 0
    np.testing.assert_allclose(ours[1:], integrate.cumulative_trapezoid(watts, t))


def test_a_ramp_from_2_to_6_watts_in_4_seconds_is_16_joules() -> None:
    power = joules_of([WATTS], [[(0.0, 2.0), (1.0, 3.0), (4.0, 6.0)]])
    assert power is not None
    assert power.energy_j == pytest.approx(16.0)
    assert power.mean_w == pytest.approx(4.0)
    assert power.rate_hz == pytest.approx(0.5)
    assert (power.t_s, power.watts) == ([0.0, 1.0, 4.0], [2.0, 3.0, 6.0])
    assert power.error_w is None, "three readings say nothing about the error"


def test_a_counter_that_wraps_goes_on_rising() -> None:
    np.testing.assert_allclose(unwrap(np.array([70.0, 90.0, 5.0, 25.0, 2.0]), 100.0), [0, 20, 35, 55, 132])


def test_without_a_range_what_passed_at_the_wrap_is_lost_but_never_negative() -> None:
    np.testing.assert_allclose(unwrap(np.array([90.0, 95.0, 5.0, 8.0]), None), [0, 5, 5, 8])


def test_a_counter_gives_its_difference_over_the_wrap() -> None:
    power = joules_of([COUNTER], [[(0.0, 90.0), (1.0, 95.0), (2.0, 0.0), (3.0, 5.0)]])
    assert power is not None
    assert power.energy_j == pytest.approx(15.0)
    assert power.watts == pytest.approx([5.0] * 4)


def test_the_power_of_a_slow_counter_has_no_peaks() -> None:
    """It is read ten times a second and changes twice: 3 J each half second are 6 W all the time."""
    read = [(i / 10, 3.0 * (i // 5)) for i in range(21)]
    power = joules_of([COUNTER], [read])
    assert power is not None
    assert power.watts == pytest.approx([6.0] * 21)
    assert power.mean_w == pytest.approx(6.0)
    assert power.rate_hz == pytest.approx(2.0), "how often it was new, not how often it was asked"


def test_meters_are_added_over_the_time_that_both_cover() -> None:
    card = [(t, 10.0) for t in (0.5, 1.5, 2.5)]
    package = [(t, 4.0 * t) for t in (0.0, 1.0, 2.0)]
    power = joules_of([WATTS, COUNTER], [card, package])
    assert power is not None
    assert power.energy_j == pytest.approx(1.5 * 14.0)
    assert power.mean_w == pytest.approx(14.0)


@pytest.mark.parametrize("readings", [[[]], [[(0.0, 1.0)]], [[(0.0, 1.0), (1.0, 1.0)], []]])
def test_too_few_readings_are_no_power(readings: list[list[tuple[float, float]]]) -> None:
    assert joules_of([WATTS] * len(readings), readings) is None
    assert joules_of([], []) is None


def test_the_error_is_that_of_the_mean_of_noise() -> None:
    """The mean of 2,000 readings with independent noise of 2 W has an error of 2 / sqrt(2000) W."""
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(200):
        read = [(i / 20, 10 + 2 * noise) for i, noise in enumerate(rng.normal(size=2000))]
        power = joules_of([WATTS], [read])
        assert power is not None
        assert power.error_w is not None
        errors.append(power.error_w)
    assert np.mean(errors) == pytest.approx(2 / math.sqrt(2000), rel=0.1)


def test_a_load_that_wanders_has_a_larger_error_than_white_noise() -> None:
    t = np.arange(400) / 20
    slow, fast = np.sin(2 * np.pi * t / 13), np.sin(2 * np.pi * t * 7)
    found = [joules_of([WATTS], [list(zip(t.tolist(), (5 + wave).tolist(), strict=True))]) for wave in (slow, fast)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].error_w is not None
    assert found[1].error_w is not None
    assert found[0].error_w > 5 * found[1].error_w
    assert BLOCKS == 10


def test_energy_per_sample_is_what_is_above_idle() -> None:
    """(8 - 3) W for 10 s over 2,000 samples is 25 mJ each; errors of 0.3 and 0.4 W are 0.5 W together, 2.5 mJ."""
    found = {"power_w": 8.0, "idle_w": 3.0, "power_w_error": 0.3, "idle_w_error": 0.4}
    assert per_sample_mj(found, 2000, 10.0) == pytest.approx((25.0, 2.5))


def test_energy_without_power_or_idle_power_is_none_and_never_below_zero() -> None:
    errors = {"power_w_error": None, "idle_w_error": 0.1}
    assert per_sample_mj({"power_w": None, "idle_w": None} | errors, 10, 1.0) == (None, None)
    assert per_sample_mj({"power_w": 5.0, "idle_w": None} | errors, 10, 1.0) == (None, None)
    assert per_sample_mj({"power_w": 5.0, "idle_w": 6.0} | errors, 10, 1.0) == (0.0, None)
