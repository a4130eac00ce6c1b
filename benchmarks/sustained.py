"""An engine under load for minutes: what heat and clocks make of its latency.

Runs follow each other without a pause. Latencies are summarised window by window, so that half an hour at 20,000 runs
a second needs no memory to speak of.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edge.benchmarks.joules import per_sample_mj
from edge.benchmarks.latency import Run, undisturbed, warm_up
from edge.benchmarks.statistics import percentile

WINDOWS = 120
WINDOW_S = 1.0  # at least
TENTHS = 10


def sustain(
    run: Run, batch: int, seconds: float, notify: Callable[[str], None] = lambda message: None
) -> dict[str, Any]:
    """The entry of a report's `sustained` for one run of `batch` samples that is repeated for so long.

    `windows`: `t_s` (its middle, from the start), `n` runs, `p50`, `p90`, `p99` and `mean` in milliseconds (None where
    runs are too few), `temperature_c` and `power_w` (None where no sensor says). `slowdown`: the median p50 of the last
    tenth of the windows over that of the first. `energy_mj` per sample and `power` as in edge.benchmarks.energy.
    """
    from edge.benchmarks.power import monitor

    windows: list[dict[str, Any]] = []
    with undisturbed():
        warm_up(run, 0.3)
        with monitor() as watch:
            begin = time.perf_counter()
            while (now := time.perf_counter() - begin) < seconds:
                windows.append(_window(run, begin, min(max(WINDOW_S, seconds / WINDOWS), seconds - now)))
                if len(windows) * TENTHS % WINDOWS == 0:
                    notify(f"{windows[-1]['t_s']:.0f} s of {seconds:.0f}: p50 {windows[-1]['p50']} ms")
            elapsed = time.perf_counter() - begin
        found = watch.result()
    for window in windows:
        window |= _sensors(found["series"], window["t_s"], window.pop("seconds"))
    queries = sum(window["n"] for window in windows)
    power = {key: value for key, value in found.items() if key not in ("series", "energy_j")}
    energy, error = per_sample_mj(found, queries * batch, elapsed)
    return {
        "batch": batch,
        "duration_s": elapsed,
        "queries": queries,
        "windows": windows,
        "slowdown": slowdown([window["p50"] for window in windows]),
        "energy_mj": energy,
        "power": power | {"energy_mj_error": error},
    }


def slowdown(medians: list[float | None]) -> float | None:
    """Median of the last tenth over median of the first (at least one window each); None if one of them is unknown."""
    count = max(1, len(medians) // TENTHS)
    first, last = medians[:count], medians[-count:]
    if not medians or None in first or None in last:
        return None
    return float(np.median(np.array(last, float)) / np.median(np.array(first, float)))


def _window(run: Run, begin: float, seconds: float) -> dict[str, Any]:
    clock = time.perf_counter
    start, samples = clock(), []
    end, after = start + seconds, start
    while after < end:
        before = clock()
        run()
        after = clock()
        samples.append((after - before) * 1e3)
    return {
        "t_s": (start + after) / 2 - begin,
        "seconds": after - start,
        "n": len(samples),
        "p50": percentile(samples, 0.50),
        "p90": percentile(samples, 0.90),
        "p99": percentile(samples, 0.99),
        "mean": float(np.mean(samples)),
    }


def _sensors(series: dict[str, list[Any]], middle: float, seconds: float) -> dict[str, float | None]:
    """The highest temperature and the mean power that were read within one window; None where none was."""
    inside = [i for i, t in enumerate(series["t_s"]) if abs(t - middle) <= seconds / 2]
    heat = [value for i in inside if (value := series["temperature_c"][i]) is not None]
    watts = [value for i in inside if (value := series["power_w"][i]) is not None]
    return {"temperature_c": max(heat, default=None), "power_w": sum(watts) / len(watts) if watts else None}
