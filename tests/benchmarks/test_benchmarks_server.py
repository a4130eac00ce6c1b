import numpy as np
import pytest
from scipy import stats

from edge.benchmarks.server import Attempt, attempt, highest_rate, poisson_arrivals, serve


class Virtual:
    """A clock that goes on only when it is told to; `answer` takes `service` seconds for any batch."""

    def __init__(self, service: float = 0.0) -> None:
        self.time, self.service, self.batches = 100.0, service, []

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def answer(self, count: int) -> None:
        self.batches.append(count)
        self.time += self.service


def test_gaps_between_arrivals_are_exponential_and_counts_are_poisson() -> None:
    arrivals = poisson_arrivals(200.0, 20_000, seed=3)
    gaps = np.diff(arrivals, prepend=0.0)
    assert (gaps > 0).all()
    assert stats.kstest(gaps, "expon", args=(0, 1 / 200.0)).pvalue > 0.01
    counts = np.bincount(arrivals.astype(int))[:-1]  # in each whole second
    assert counts.mean() == pytest.approx(200, rel=0.03)
    assert counts.var() == pytest.approx(200, rel=0.4)
    assert np.array_equal(arrivals, poisson_arrivals(200.0, 20_000, seed=3))
    assert not np.array_equal(arrivals, poisson_arrivals(200.0, 20_000, seed=4))


def test_a_queue_worked_out_by_hand() -> None:
    """Arrivals at 1, 1.5, 1.6 and 9; each answer takes 1: they end at 2, 3, 4 and 10."""
    clock = Virtual(service=1.0)
    latencies = serve(np.array([1.0, 1.5, 1.6, 9.0]), clock.answer, 1, clock)
    np.testing.assert_allclose(latencies, [1.0, 1.5, 2.4, 1.0])
    assert clock.batches == [1, 1, 1, 1]


def test_what_waits_is_answered_together() -> None:
    """The first alone from 1 to 2; the two that came meanwhile together until 3, and the fourth with nobody."""
    clock = Virtual(service=1.0)
    latencies = serve(np.array([1.0, 1.5, 1.6, 9.0]), clock.answer, 8, clock)
    np.testing.assert_allclose(latencies, [1.0, 1.5, 1.4, 1.0])
    assert clock.batches == [1, 2, 1]
    clock = Virtual(service=1.0)
    serve(np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]), clock.answer, 2, clock)
    assert clock.batches == [1, 2, 2, 1]


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_the_mean_wait_is_that_of_an_m_d_1_queue(load: float) -> None:
    """Pollaczek and Khinchine: with a constant service time D the mean wait is load D / (2 (1 - load))."""
    service = 0.01
    clock = Virtual(service)
    latencies = serve(poisson_arrivals(load / service, 200_000, seed=0), clock.answer, 1, clock)
    assert latencies.mean() - service == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


def test_serving_ends_when_the_verdict_is_known() -> None:
    clock = Virtual(service=1.0)
    latencies = serve(np.arange(1.0, 101.0) / 10, clock.answer, 1, clock, bound_s=1.5, allowed=3)
    assert np.count_nonzero(latencies > 1.5) == 4
    assert len(latencies) < 10


def test_an_attempt_has_queries_enough_for_p99_and_its_verdict_is_loadgens() -> None:
    quick = attempt(10.0, 1.0, 0.1, Virtual(0.001).answer, 1, clock := Virtual(0.001), seed=0)
    assert len(quick.latencies) == 662
    assert clock.time >= 100.0
    slow = Virtual(0.2)
    late = attempt(10.0, 1.0, 0.1, slow.answer, 1, slow, seed=0)
    assert not late.held
    assert late.late == 2  # one of 662 may be late


def test_the_search_finds_the_highest_rate_that_holds() -> None:
    def try_rate(rate: float, seed: int) -> Attempt:
        return Attempt(rate, 1.0, np.zeros(1), 0, rate <= 137.0)

    best, tried = highest_rate(try_rate, 400.0)
    assert best is not None
    assert 137.0 / 1.05 <= best.rate <= 137.0
    assert best is tried[-1]
    assert highest_rate(lambda rate, seed: Attempt(rate, 1.0, np.zeros(1), 9, False), 400.0)[0] is None


def test_a_rate_that_held_by_luck_gives_way() -> None:
    """It holds once at 300 and never again above 100."""
    seen: list[float] = []

    def try_rate(rate: float, seed: int) -> Attempt:
        seen.append(rate)
        return Attempt(rate, 1.0, np.zeros(1), 0, rate <= 100.0 or (rate == 200.0 and len(seen) == 1))

    best, _ = highest_rate(try_rate, 400.0)
    assert best is not None
    assert 95.0 < best.rate <= 100.0


def test_the_server_finds_the_rate_of_a_constant_service_time() -> None:
    """M/D/1 with D = 10 ms: 99 % stay within the bound at the rate that is found, and not at 1.2 times that rate."""
    service, bound = 0.01, 0.05

    def try_rate(rate: float, seed: int) -> Attempt:
        clock = Virtual(service)
        return attempt(rate, 600.0, bound, clock.answer, 1, clock, seed)

    best, _ = highest_rate(try_rate, 1 / service)
    assert best is not None
    assert np.quantile(best.latencies, 0.99) <= bound
    clock = Virtual(service)
    more = serve(poisson_arrivals(1.2 * best.rate, 100_000, seed=9), clock.answer, 1, clock)
    assert np.quantile(more, 0.99) > bound
