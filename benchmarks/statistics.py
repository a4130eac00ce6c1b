"""What may be said about a list of latencies.

LoadGen of MLPerf (loadgen/early_stopping.cc, https://github.com/mlcommons/inference) asks: if the true p-percentile
were above a bound, how likely would at most t of n queries exceed it? That is the lower tail of a binomial
distribution, and n queries of which t are above are enough when

    P(X <= t) <= 1 - 0.99,   X ~ Binomial(n, 1 - p)

With one query allowed above (t = 1) the smallest n is 11, 64, 130, 662 and 6636 for p50, p90, p95, p99 and p99.9: from
there on a percentile is given. Its 95 % interval lies between two order statistics, whose ranks come from the same
distribution and which need no assumption about the shape of the latencies (David & Nagaraja, Order Statistics, 3rd ed.,
7.1). Both take the samples as independent: latencies that drift together are said by `drift`, not by the interval.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.99
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
Floats = npt.NDArray[np.float64]


@functools.cache
def samples_needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """The number of samples from which `percentile` (0-1, ends excluded) may be reported."""
    few, many = 1, 2
    while late_allowed(many, percentile, confidence) < 1:
        few, many = many, 2 * many
    while many - few > 1:  # the chance falls with n, so halve the interval that holds the first n that is enough
        middle = (few + many) // 2
        few, many = (few, middle) if late_allowed(middle, percentile, confidence) >= 1 else (middle, many)
    return many


def late_allowed(queries: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """How many of so many queries may exceed a bound that `percentile` is within: LoadGen's t; -1 if none may."""
    first, cumulated = _tail(queries, 1 - percentile)
    return first - 1 + int(np.searchsorted(cumulated, 1 - confidence, side="right"))


def _tail(n: int, chance: float) -> tuple[int, Floats]:
    """(k0, P(X <= k0), P(X <= k0 + 1) ...) where X ~ Binomial(n, chance); what lies outside is below 1e-20.

    Each probability follows from the one before it; the first comes from log-gamma.
    """
    mean, width = n * chance, 12 * math.sqrt(n * chance * (1 - chance)) + 60
    first, last = max(0, math.floor(mean - width)), min(n, math.ceil(mean + width))
    k = np.arange(first, last, dtype=np.float64)
    steps = np.log((n - k) / (k + 1)) + math.log(chance / (1 - chance))
    start = math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
    start += first * math.log(chance) + (n - first) * math.log1p(-chance)
    return first, np.minimum(np.cumsum(np.exp(start + np.r_[0.0, np.cumsum(steps)])), 1.0)


def percentile(samples: npt.ArrayLike, p: float) -> float | None:
    """The smallest sample that at least the share `p` of all samples does not exceed; None if there are too few.

    A sample that was met, not a value between two (nearest rank): what LoadGen reports, and never below the truth.
    """
    values = np.asarray(samples, dtype=np.float64)
    return float(np.quantile(values, p, method="inverted_cdf")) if len(values) >= samples_needed(p) else None


def percentile_interval(samples: npt.ArrayLike, p: float, level: float = 0.95) -> list[float] | None:
    """The two samples between which the true p-percentile lies with at least `level`; None if there are too few.

    With B of n samples not above the percentile, B ~ Binomial(n, p): the lower end is the sample of the largest rank l
    with P(B < l) <= (1 - level) / 2, the upper end the one of the smallest rank u with P(B >= u) <= (1 - level) / 2.
    """
    values, side = np.sort(np.asarray(samples, dtype=np.float64)), (1 - level) / 2
    n = len(values)
    if not n:
        return None
    first, cumulated = _tail(n, p)  # P(B <= first), P(B <= first + 1) ...
    lower = first + int(np.searchsorted(cumulated, side, side="right"))  # P(B <= lower - 1) <= side
    upper = first + int(np.searchsorted(cumulated, 1 - side, side="left")) + 1  # P(B <= upper - 1) >= 1 - side
    return [float(values[lower - 1]), float(values[upper - 1])] if lower >= 1 and upper <= n else None


def early_stopping_estimate(samples: npt.ArrayLike, p: float, confidence: float = CONFIDENCE) -> float | None:
    """LoadGen's figure for single stream (p90) and multi stream (p99): a bound that p is below with `confidence`.

    The t-th largest sample, with the largest t that n samples allow; None if they do not even allow t = 1.
    """
    values = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(values)
    allowed = late_allowed(n, p, confidence)
    return float(values[n - allowed]) if allowed >= 1 else None


def summarise(samples: Sequence[float] | npt.ArrayLike) -> dict[str, Any]:
    """Percentiles and mean in the unit of `samples`, 95 % intervals `ci95`, number `n`, `cv` = sd / mean, and `drift`.

    A percentile is None where samples are too few for it; mean needs one sample, cv two.
    """
    values = np.asarray(samples, dtype=np.float64)
    n = len(values)
    mean = float(values.mean()) if n else None
    percentiles = {name: percentile(values, p) for name, p in PERCENTILES.items()}
    return percentiles | {
        "mean": mean,
        "n": n,
        "cv": float(values.std(ddof=1)) / mean if mean and n > 1 else None,
        "ci95": {
            name: percentile_interval(values, p) for name, p in PERCENTILES.items() if percentiles[name] is not None
        },
        "drift": drift(values),
    }


def drift(samples: npt.ArrayLike) -> float | None:
    """Median of the second half over median of the first, in the order of measuring; None below 22 samples."""
    values = np.asarray(samples, dtype=np.float64)
    half = len(values) // 2
    if half < samples_needed(0.5):
        return None
    return float(np.median(values[half:]) / np.median(values[:half]))


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
