"""Power, temperature and clocks while something runs.

    with monitor() as watch:
        run_the_benchmark()
    watch.result()["energy_j"]

A thread reads the power `rate_hz` times a second and, because they change slowly and cost more to read, temperatures
and clocks twice a second. Before the block begins, the power of the idle machine is read for a few seconds, so that
what inference adds can be told from what the machine draws anyway: where power can be read, entering takes that long.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.benchmarks import nvml
from edge.benchmarks.joules import Power, joules_of
from edge.benchmarks.meters import Found, find_meters
from edge.benchmarks.thermal import Sensors, clock_drop, hottest

RATE_HZ = 20.0
SLOW_S = 0.5  # between two readings of temperatures and clocks
IDLE_S = 3.0
SETTLE_S = 1.0  # INA3221 and NVML average over up to a second: what ran before must be out of the mean
SHORTEST_S = 10.0  # a window below this says little: sensors are slow and hold 10 to 100 readings a second


class Monitor:
    """Readings taken by a thread between `start` and `stop`, and what follows from them."""

    def __init__(self, meters: Found, sensors: Sensors, card: nvml.Card | None, rate_hz: float = RATE_HZ) -> None:
        self._meters, self._sensors, self._card, self._period = meters, sensors, card, 1.0 / rate_hz
        self._power: list[list[tuple[float, float]]] = [[] for _ in meters.meters]  # (seconds, reading), by meter
        self._heat: list[tuple[float, dict[str, float]]] = []
        self._clocks: dict[str, list[tuple[float, float]]] = {}
        self._slowed: set[str] | None = None
        self._events: list[int] = []
        self._idle: Power | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="power", daemon=True)
        self._begin = self._end = 0.0

    @property
    def reads_power(self) -> bool:
        """Whether there is a power sensor; without one, waiting for a window of ten seconds is in vain."""
        return bool(self._meters.meters)

    def measure_idle(self, seconds: float) -> None:
        """Read the power of the machine at rest, after a second in which it comes to rest."""
        time.sleep(SETTLE_S)
        self._begin = time.perf_counter()
        while (now := time.perf_counter()) - self._begin < seconds:
            self._read_power()
            time.sleep(max(0.0, now + self._period - time.perf_counter()))
        self._read_power()
        self._idle = self._total()
        self._power = [[] for _ in self._power]

    def start(self) -> None:
        """Begin: one reading now, the others in the thread."""
        self._begin = time.perf_counter()
        self._read_power()
        self._read_slow()
        self._thread.start()

    def stop(self) -> None:
        """End with a last reading; `result` may be called from now on."""
        self._stop.set()
        self._thread.join()
        self._read_power()
        self._read_slow()
        self._end = time.perf_counter()

    def result(self) -> dict[str, Any]:
        """What was seen from `start` to `stop`.

        `power_w` mean and `energy_j` of the whole window; `idle_w` before it; `source` of the power, such as
        "ina3221:VDD_IN", "rapl:package-0" or "nvml"; `rate_hz`, how often power was really read; `temperature_c`, by
        zone a list with the highest; `clock_drop` and `throttled`; `notes`; `series` with `t_s` from the start,
        `power_w` and `temperature_c` (that of the hottest zone) at these moments. None is what cannot be read here.
        `power_w_error` and `idle_w_error` are standard errors.
        """
        power = self._total()
        drops = {name: drop for name, read in self._clocks.items() if (drop := clock_drop(*zip(*read, strict=True)))}
        return {
            "power_w": power and power.mean_w,
            "power_w_error": power and power.error_w,
            "energy_j": power and power.energy_j,
            "idle_w": self._idle and self._idle.mean_w,
            "idle_w_error": self._idle and self._idle.error_w,
            "source": "+".join(meter.source for meter in self._meters.meters) if power else None,
            "rate_hz": power and power.rate_hz,
            "temperature_c": self._highest(),
            "clock_drop": bool(drops) if self._clocks else None,
            "throttled": self._throttled(),
            "notes": [*self._meters.notes, *self._doubts(power, drops)],
            "series": self._series(power),
        }

    def _follow(self) -> None:
        due, slow_due = time.perf_counter() + self._period, time.perf_counter() + SLOW_S
        while not self._stop.wait(max(0.0, due - time.perf_counter())):
            self._read_power()
            if time.perf_counter() >= slow_due:
                self._read_slow()
                slow_due += SLOW_S
            due = max(due + self._period, time.perf_counter())

    def _read_power(self) -> None:
        for meter, readings in zip(self._meters.meters, self._power, strict=True):
            before = time.perf_counter()
            value = meter.read()
            if value is not None:
                readings.append(((before + time.perf_counter()) / 2 - self._begin, value))

    def _read_slow(self) -> None:
        now = time.perf_counter() - self._begin
        heat, clocks = self._sensors.temperatures(), self._sensors.clocks()
        slowed = [self._sensors.slowed_by(), self._card.slowed_by() if self._card else None]
        if self._card:
            if (celsius := self._card.celsius()) is not None:
                heat["nvml"] = celsius
            if (megahertz := self._card.megahertz()) is not None:
                clocks["nvml"] = megahertz
        self._heat.append((now, heat))
        for name, value in clocks.items():
            self._clocks.setdefault(name, []).append((now, value))
        for names in slowed:
            if names is not None:
                self._slowed = (self._slowed or set()) | set(names)
        if (events := self._sensors.events()) is not None:
            self._events.append(events)

    def _total(self) -> Power | None:
        return joules_of(self._meters.meters, self._power)

    def _highest(self) -> dict[str, list[float]]:
        zones = sorted({zone for _, heat in self._heat for zone in heat})
        return {zone: [max(heat[zone] for _, heat in self._heat if zone in heat)] for zone in zones}

    def _throttled(self) -> bool | None:
        if self._slowed is None and not self._events:
            return None
        return bool(self._slowed) or bool(self._events and self._events[-1] > self._events[0])

    def _doubts(self, power: Power | None, drops: dict[str, tuple[float, float]]) -> list[str]:
        found = [
            f"the clock of the {name} fell from {high:.0f} to {low:.0f} MHz" for name, (high, low) in drops.items()
        ]
        if self._slowed:
            found.append(f"slowed down by: {', '.join(sorted(self._slowed))}")
        if self._events and self._events[-1] > self._events[0]:
            found.append(f"the machine counted {self._events[-1] - self._events[0]} throttling events")
        if self._meters.meters and power is None:
            found.append("the power sensor gave fewer than two readings")
        elif power and (seconds := self._end - self._begin) < SHORTEST_S:
            found.append(f"power was read for {seconds:.1f} s only; {SHORTEST_S:.0f} s or more can be trusted")
        return found

    def _series(self, power: Power | None) -> dict[str, list[Any]]:
        times = power.t_s if power else [t for t, _ in self._heat]
        hot, at = [], 0
        for t in times:
            while at + 1 < len(self._heat) and self._heat[at + 1][0] <= t:
                at += 1
            hot.append(hottest(self._heat[at][1]))
        return {"t_s": times, "power_w": power.watts if power else [None] * len(times), "temperature_c": hot}


@contextlib.contextmanager
def monitor(root: Path = Path("/"), *, rate_hz: float = RATE_HZ, idle_s: float = IDLE_S) -> Iterator[Monitor]:
    """Watch the machine whose file tree is at `root` during the block; ask for `result()` after it.

    Where power can be read, `idle_s` seconds (and one to settle) are spent on the idle machine first; 0 for none.
    """
    found = find_meters(root)
    card = nvml.open_card([], root) if root == Path("/") else None
    watch = Monitor(found, Sensors(root), card, rate_hz)
    try:
        if found.meters and idle_s > 0:
            watch.measure_idle(idle_s)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()
    finally:
        for meter in found.meters:
            meter.close()
        if card:
            card.close()


def idle_power(seconds: float = SHORTEST_S, root: Path = Path("/")) -> float | None:
    """Mean watts while this process sleeps for so long; None where power cannot be read."""
    with monitor(root, idle_s=0) as watch:
        time.sleep(seconds)
    mean: float | None = watch.result()["power_w"]
    return mean
