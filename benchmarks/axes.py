"""The frame of the Pareto picture: where a latency and a metric lie, and which round values its axes name."""

import itertools
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 480, 346
LEFT, RIGHT, TOP, BOTTOM = 60, 466, 38, 288  # the frame inside the axes
CHARACTER, GAP = 8.5, 18.0  # a digit's width in the widest of the usual fonts, and the least space between two names


class Scale:
    """From milliseconds (logarithmic) and metric (linear) to places in the picture, with room around what is drawn."""

    def __init__(self, latencies: Sequence[float], metrics: Sequence[float]) -> None:
        fastest, slowest = min(latencies), max(latencies)
        room = max(0.12 * math.log(slowest / fastest), 0.25)
        self.left, self.right = math.log(fastest) - room, math.log(slowest) + room
        low, high = min(metrics), max(metrics)
        room = max(0.08 * (high - low), 0.005)
        self.low, self.high = low - room, high + room

    def x(self, latency: float) -> float:
        """Across, in units of the picture."""
        return LEFT + (math.log(latency) - self.left) / (self.right - self.left) * (RIGHT - LEFT)

    def y(self, metric: float) -> float:
        """Down, in units of the picture."""
        return BOTTOM - (metric - self.low) / (self.high - self.low) * (BOTTOM - TOP)

    def latencies(self) -> list[float]:
        """Round latencies for the axis: as many of an even choice as have room beside each other."""
        decades = range(math.floor(self.left / math.log(10)), math.ceil(self.right / math.log(10)) + 1)
        # A logarithmic axis has even steps of these digits; one over a fraction of a decade, of round values.
        fine: tuple[tuple[float, ...], ...] = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3))
        choices = [[d * 10.0**e for e in decades for d in digits] for digits in fine]
        choices += [[10.0**e for e in decades if e % every == 0] for every in (1, 2, 3)]
        choices += [round_values(math.exp(self.left), math.exp(self.right), steps) for steps in (5, 4, 3, 2, 1)]
        fitting = [ticks for ticks in map(self._inside, choices) if self._room_for(ticks)]
        return max(fitting, key=lambda ticks: min(len(ticks), 3), default=[])

    def _inside(self, latencies: Sequence[float]) -> list[float]:
        """Those whose name stands within the picture."""
        inside = (value for value in latencies if value > 0 and self.left <= math.log(value) <= self.right)
        return [value for value in inside if self.x(value) + _half(value) <= WIDTH]

    def _room_for(self, latencies: Sequence[float]) -> bool:
        pairs = itertools.pairwise(latencies)
        return all(self.x(b) - _half(b) - self.x(a) - _half(a) >= GAP for a, b in pairs)

    def metrics(self) -> list[float]:
        """Round metrics for the axis, about five."""
        return round_values(self.low, self.high, 5)


def _half(latency: float) -> float:
    """Half the width of its name."""
    return CHARACTER * len(f"{latency:g}") / 2


def round_values(low: float, high: float, steps: int) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten from `low` to `high`, with at most `steps` steps between them."""
    raw = (high - low) / steps
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
