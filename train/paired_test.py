"""Is one method better than another? A paired test over the same folds and seeds.

What counts as one observation (a unit):

    grouped            the mean difference of a fold over the seeds. The folds are the same for every seed, so seeds of
                       one fold share their test samples; taking fold x seed as independent would multiply n by the
                       seeds without new evidence (Hurlbert 1984, https://doi.org/10.2307/1942661).
    random, published  fold and seed: every seed cuts folds of its own.
    fixed              a seed. The test then speaks of seeds on this one split, and says nothing of other places.

Folds share most of their training samples, so their differences are correlated and an ordinary paired t test finds
differences that are not there (Dietterich 1998, https://doi.org/10.1162/089976698300017197). `p` is that of the
corrected resampled t test (Nadeau & Bengio 2003, https://doi.org/10.1023/A:1024068626366; for repeated k-fold
cross-validation Bouckaert & Frank 2004, https://doi.org/10.1007/978-3-540-24775-3_3):

    t = mean / sqrt((1/n + n_test / n_learnt) s^2),  n - 1 degrees of freedom

with the n units' differences, their variance s^2, and as n_learnt all samples that a training sees, validation too.
On a fixed split nothing is resampled and the correction is 0. The uncorrected paired t test and Wilcoxon's signed-rank
test over the same units stand beside it. All are two-sided.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge.errors import BackendMissing

NAME = "corrected resampled t test (Nadeau & Bengio 2003), two-sided"
UNITS = {"grouped": "fold", "random": "fold x seed", "published": "fold x seed", "fixed": "seed"}


def paired_test(
    differences: Mapping[tuple[int, int], float], protocol: str, test_share: float, level: float = 0.95
) -> dict[str, Any]:
    """The test of `differences`, from (fold, seed) to method minus reference; `test_share` is n_test / n_learnt.

    Gives `pairs` (how many differences), `n` (how many units), `unit`, the mean `difference` over units, its interval
    `ci95`, `p`, and beside it `p_uncorrected` (paired t) and `p_wilcoxon`. One unit tells nothing of spread: the
    interval and every p are null. Units that all agree have p = 1 if the difference is 0, else p = 0.
    """
    stats = statistics_library()
    values = _units(differences, protocol)
    n, mean = len(values), float(np.mean(values))
    found = {"pairs": len(differences), "n": n, "unit": UNITS[protocol], "difference": mean}
    if n < 2:
        return found | {"ci95": None, "p": None, "p_uncorrected": None, "p_wilcoxon": None}
    correction = 0.0 if protocol == "fixed" else test_share
    spread = float(np.std(values, ddof=1))
    error, plain = spread * math.sqrt(1 / n + correction), spread / math.sqrt(n)
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return found | {
        "ci95": [mean - reach, mean + reach],
        "p": _p(stats, mean, error, n),
        "p_uncorrected": _p(stats, mean, plain, n),
        "p_wilcoxon": float(stats.wilcoxon(values).pvalue) if np.any(values) else 1.0,
    }


def statistics_library() -> Any:
    """scipy.stats, for Student's t and Wilcoxon's distribution."""
    try:
        from scipy import stats
    except ImportError:
        raise BackendMissing("scipy is not installed; pip install 'edge-colearn[train]'") from None
    return stats


def _units(differences: Mapping[tuple[int, int], float], protocol: str) -> np.ndarray:
    if protocol != "grouped":
        return np.array(list(differences.values()))
    folds = sorted({fold for fold, _ in differences})
    return np.array([np.mean([value for (of, _), value in differences.items() if of == fold]) for fold in folds])


def _p(stats: Any, mean: float, error: float, n: int) -> float:
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, n - 1))
