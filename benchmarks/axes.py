"""The frame of the Pareto picture: where a latency and a metric lie, and which round values its axes name."""

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 480, 346
LEFT, RIGHT, TOP, BOTTOM = 60, 466, 38, 288  # the frame inside the axes


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
        """Round latencies for the axis, in the finest steps that do not crowd it."""
        fine = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)
        steps: tuple[tuple[float, ...], ...] = (fine, (1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,))
        decades = range(math.floor(self.left / math.log(10)), math.ceil(self.right / math.log(10)) + 1)
        for digits in steps:
            ticks = [d * 10.0**e for e in decades for d in digits if self.left <= math.log(d * 10.0**e) <= self.right]
            if len(ticks) <= 6:
                break
        return ticks

    def metrics(self) -> list[float]:
        """Round metrics for the axis, about five."""
        return round_values(self.low, self.high, 5)


def round_values(low: float, high: float, steps: int) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten from `low` to `high`, with at most `steps` steps between them."""
    raw = (high - low) / steps
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
