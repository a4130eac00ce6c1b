"""MLPerf's server: queries arrive by chance, and the highest rate at which 99 % are answered within a bound is sought.

Arrivals are a Poisson process: the gaps are exponential, so that they come in bursts, as requests from people or
from sensors that know nothing of each other do. Latency counts from the moment a query was due, not from the moment
that the server got round to it: a server that falls behind cannot hide it (Tene's "coordinated omission").
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.benchmarks.statistics import late_allowed, samples_needed

Floats = npt.NDArray[np.float64]
PERCENTILE = 0.99
# A rate is known to within this share; finer is below what two runs differ by.
PRECISION = 0.05
# The smallest rate that is tried, as a share of the highest throughput.
LOWEST = 1 / 64
# A queue that grows shows only after a while: at 2 % too much it reaches the bound after 50 times the bound.
BOUNDS_PER_ATTEMPT = 50
SLEEP_S = 0.002  # sleeping is late by some 50 microseconds, so the last two milliseconds are spent waiting awake


class Clock(Protocol):
    """Time for `serve`; a test has one of its own."""

    def now(self) -> float:
        """Seconds."""

    def wait_until(self, moment: float) -> None:
        """Return at `moment`, or at once if it has passed."""


class Monotonic:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Sleep for the most part, then watch the clock."""
        left = moment - time.perf_counter()
        if left > SLEEP_S:
            time.sleep(left - SLEEP_S)
        while time.perf_counter() < moment:
            pass


@dataclass(frozen=True)
class Attempt:
    """A rate (queries per second) that was tried: how many queries were answered, how many of them late."""

    rate: float
    seconds: float
    latencies: Floats = field(repr=False)
    late: int
    held: bool

    def to_json(self) -> dict[str, Any]:
        """The entry in the report's `attempts`."""
        return {"rate_per_s": self.rate, "queries": len(self.latencies), "late": self.late, "held": self.held}


def poisson_arrivals(rate: float, count: int, seed: int) -> Floats:
    """Moments in seconds, ascending, at which `count` queries arrive: sums of exponential gaps of mean 1 / rate."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def serve(
    arrivals: Floats,
    answer: Callable[[int], object],
    largest: int,
    clock: Clock,
    bound_s: float = math.inf,
    allowed: int = 0,
) -> Floats:
    """Seconds from each arrival to its answer; `answer(k)` answers the k queries that have waited longest.

    Whatever waits is answered together, at most `largest` at a time. The result ends early when more than `allowed`
    queries took longer than `bound_s`: nothing that follows changes the verdict.
    """
    due, begin, done, late = arrivals.tolist(), clock.now(), 0, 0
    latencies = np.empty(len(due))
    while done < len(due):
        clock.wait_until(begin + due[done])
        now = clock.now() - begin
        last = min(max(bisect_right(due, now, done), done + 1), done + largest)
        answer(last - done)
        now = clock.now() - begin
        latencies[done:last] = now - arrivals[done:last]
        if now - due[done] > bound_s:  # the one that waited longest
            late += int(np.count_nonzero(latencies[done:last] > bound_s))
            if late > allowed:
                return latencies[:last]
        done = last
    return latencies


def attempt(
    rate: float, seconds: float, bound_s: float, answer: Callable[[int], object], largest: int, clock: Clock, seed: int
) -> Attempt:
    """Serve for so long, and for as many queries as a p99 needs; LoadGen's rule says whether the bound held."""
    count = max(samples_needed(PERCENTILE), math.ceil(rate * max(seconds, BOUNDS_PER_ATTEMPT * bound_s)))
    arrivals = poisson_arrivals(rate, count, seed)
    allowed = late_allowed(count, PERCENTILE)
    latencies = serve(arrivals, answer, largest, clock, bound_s, allowed)
    late = int(np.count_nonzero(latencies > bound_s))
    duration = float(arrivals[len(latencies) - 1] + latencies[-1])
    return Attempt(rate, duration, latencies, late, late <= allowed)


def highest_rate(try_rate: Callable[[float, int], Attempt], most: float) -> tuple[Attempt | None, list[Attempt]]:
    """The highest rate up to `most` (per second) that holds the bound, and all attempts in their order.

    Halves the interval between a rate that holds and one that does not. The verdict over one run is partly luck, so
    the rate that was found must hold in a second run with other arrivals, or gives way to lower ones that do. None
    where not even `LOWEST * most` holds.
    """
    tried: list[Attempt] = []

    def holds(rate: float) -> bool:
        tried.append(try_rate(rate, len(tried)))
        return tried[-1].held

    high, low = most, most / 2
    while not holds(low):
        high, low = low, low / 2
        if low < LOWEST * most:
            return None, tried
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    while not holds(low):
        low /= 1 + PRECISION
        if low < LOWEST * most:
            return None, tried
    return tried[-1], tried
