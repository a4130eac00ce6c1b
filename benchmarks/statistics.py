"""What may be said about a list of latencies.

A percentile is given only where there are enough samples to be 99 % sure of it. LoadGen of MLPerf (loadgen/
early_stopping.cc) asks: if the true p-percentile were above a bound, how likely do at most t of n queries exceed
it? That is the lower tail of a binomial distribution, and with one query allowed above (t = 1) the smallest n with

    p^n + n (1 - p) p^(n-1)  <=  1 - 0.99

is 11, 64, 130, 662 and 6636 for p50, p90, p95, p99 and p99.9.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.99


def samples_needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """The number of samples from which `percentile` (0-1, ends excluded) may be reported."""
    p, few, many = percentile, 1, 2
    while _chance_of_one_above(p, many) > 1 - confidence:
        few, many = many, 2 * many
    while many - few > 1:  # the chance falls with n, so halve the interval that holds the first n that is enough
        middle = (few + many) // 2
        few, many = (middle, many) if _chance_of_one_above(p, middle) > 1 - confidence else (few, middle)
    return many


def _chance_of_one_above(p: float, n: int) -> float:
    """Chance that at most one of `n` samples lies above the true `p`-percentile."""
    return float(p**n + n * (1 - p) * p ** (n - 1))


def percentile(samples: npt.ArrayLike, p: float) -> float | None:
    """The smallest sample that at least the share `p` of all samples does not exceed; None if there are too few.

    A sample that was met, not a value between two (nearest rank): what LoadGen reports, and never below the truth.
    """
    values = np.asarray(samples, dtype=np.float64)
    return float(np.quantile(values, p, method="inverted_cdf")) if len(values) >= samples_needed(p) else None


def summarise(samples: Sequence[float] | npt.ArrayLike) -> dict[str, float | int | None]:
    """p50, p90, p99 and mean in the unit of `samples`, their number `n` and coefficient of variation `cv` (sd / mean).

    A percentile is None where samples are too few for it; mean needs one sample, cv two.
    """
    values = np.asarray(samples, dtype=np.float64)
    n = len(values)
    mean = float(values.mean()) if n else None
    return {
        "p50": percentile(values, 0.50),
        "p90": percentile(values, 0.90),
        "p99": percentile(values, 0.99),
        "mean": mean,
        "n": n,
        "cv": float(values.std(ddof=1)) / mean if mean and n > 1 else None,
    }


def histogram(samples: npt.ArrayLike, bins: int = 40) -> dict[str, list[float] | list[int]] | None:
    """Counts over equal steps of log latency: {"edges": bins + 1 values, "counts": bins}; None without samples.

    Steps are logarithmic because latency has a long tail to the right; what is slower than 1.1 times the 99th
    percentile goes into the last bin, which keeps one stray interruption from squeezing all others into the first.
    """
    values = np.asarray(samples, dtype=np.float64)
    if not len(values):
        return None
    low, high = values.min(), np.quantile(values, 0.99, method="inverted_cdf")
    edges = np.geomspace(low, 1.1 * high, bins + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}
