"""From readings of power, or of a counter of energy, to joules: the arithmetic alone.

Power is integrated with the trapezoid rule over the times at which it was really read. The error is that of a mean of
readings that follow each other: the window is cut into ten blocks and their means are taken as independent (batch
means; Law and Kelton, Simulation Modeling and Analysis). It holds what the load and the sensor's noise do to the mean,
not the sensor's own offset and gain, which NVIDIA does not publish.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edge.benchmarks.meters import Meter

BLOCKS = 10
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """`watts` (n,) at `t_s` (n,); `energy_j` and `mean_w` of the time that all meters cover; `error_w`, the standard
    error of the mean (None below twenty readings); `rate_hz`, the new readings per second of the slowest meter.
    """

    t_s: list[float]
    watts: list[float]
    energy_j: float
    mean_w: float
    error_w: float | None
    rate_hz: float


def joules_of(meters: Sequence["Meter"], readings: Sequence[Sequence[tuple[float, float]]]) -> Power | None:
    """The sum over meters of their readings [(seconds, watts or joules so far)]; None if one has fewer than two."""
    if not meters or any(len(read) < 2 for read in readings):
        return None
    tracks = [_track(meter, np.array(read, np.float64)) for meter, read in zip(meters, readings, strict=True)]
    begin, end = float(max(t[0] for t, *_ in tracks)), float(min(t[-1] for t, *_ in tracks))
    if end <= begin:
        return None
    edges = np.linspace(begin, end, BLOCKS + 1)
    totals = sum((np.interp(edges, t, joules) for t, joules, *_ in tracks), np.zeros(BLOCKS + 1))  # (BLOCKS + 1,)
    times = tracks[0][0]
    watts = sum((np.interp(times, t, power) for t, _, power, _ in tracks), np.zeros(len(times)))
    energy, seconds = float(totals[-1] - totals[0]), end - begin
    enough = min(fresh for *_, fresh in tracks) >= 2 * BLOCKS
    blocks = np.diff(totals) / np.diff(edges)
    return Power(
        t_s=times.tolist(),
        watts=watts.tolist(),
        energy_j=energy,
        mean_w=energy / seconds,
        error_w=float(np.std(blocks, ddof=1)) / math.sqrt(BLOCKS) if enough else None,
        rate_hz=min(fresh for *_, fresh in tracks) / seconds,
    )


def trapezoid(t_s: Array, watts: Array) -> Array:
    """Joules since the first reading, (n,), of power (n,) at times (n,)."""
    pieces = np.diff(t_s) * (watts[1:] + watts[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(pieces)])


def unwrap(joules: Array, wraps_at_j: float | None) -> Array:
    """A counter (n,) made to rise: where it fell it had reached `wraps_at_j` and started again at 0, once.

    Without a known range, what was counted across the fall is lost and 0 is taken for it.
    """
    steps = np.diff(joules)
    steps = np.where(steps < 0, steps + wraps_at_j if wraps_at_j else 0.0, steps)
    return np.concatenate([[0.0], np.cumsum(steps)])


def per_sample_mj(found: dict[str, Any], samples: int, seconds: float) -> tuple[float | None, float | None]:
    """Millijoules per sample above idle, and their standard error, from a monitor's result.

    (mean - idle) x seconds / samples, where `samples` were processed in `seconds`. None without power or without idle
    power: what the machine draws anyway would be taken for the model's. Never below 0, where the two are the same.
    """
    if found["power_w"] is None or found["idle_w"] is None:
        return None, None
    scale = seconds / samples * 1e3
    load, idle = found["power_w_error"], found["idle_w_error"]
    error = None if load is None or idle is None else math.hypot(load, idle) * scale
    return max(0.0, found["power_w"] - found["idle_w"]) * scale, error


def _track(meter: "Meter", read: Array) -> tuple[Array, Array, Array, int]:
    """Times, joules so far and watts of one meter, each (n,), and the number of new readings after the first."""
    t_s, values = read[:, 0], read[:, 1]
    if not meter.counts:
        return t_s, trapezoid(t_s, values), values, len(values) - 1
    joules = unwrap(values, meter.wraps_at_j)
    changed = np.concatenate([[True], np.diff(joules) > 0])
    if changed.sum() < 2:  # it counted nothing at all
        return t_s, joules, np.zeros(len(t_s)), 0
    # Between two changes of a slow counter its power is their difference, not nothing and then a peak.
    at, counted = t_s[changed], joules[changed]
    power = np.diff(counted) / np.diff(at)
    index = np.clip(np.searchsorted(at, t_s, side="left") - 1, 0, len(power) - 1)
    return t_s, np.interp(t_s, at, counted), power[index], int(changed.sum()) - 1
