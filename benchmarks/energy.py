"""Energy per sample: a run repeated for ten seconds while the power of the board is read.

The window is long because the sensors are slow (10 to 100 readings a second), and one engine runs at a time because
power cannot be told apart between two. What the machine draws when it is idle is subtracted.
"""

import time
from typing import Any

from edge.benchmarks.joules import per_sample_mj
from edge.benchmarks.latency import Run, undisturbed, warm_up

WINDOW_S = 10.0


def energy_of(run: Run, batch: int, window_s: float = WINDOW_S) -> dict[str, Any]:
    """`energy_mj` per sample, None where no power can be read, and `power`, what the monitor said.

    `power` is a `Monitor.result` without its series; `queries`, the number of runs in the window, and
    `energy_mj_error`, the standard error of `energy_mj`, are added. Its `notes` say why power could not be read.
    """
    from edge.benchmarks.power import monitor

    with undisturbed():
        warm_up(run, 0.3)
        with monitor() as watch:
            queries, seconds = repeat(run, window_s if watch.reads_power else 0.0)
        found = watch.result()
    energy, error = per_sample_mj(found, queries * batch, seconds)
    power = {key: value for key, value in found.items() if key not in ("series", "energy_j")}
    return {"energy_mj": energy, "power": power | {"queries": queries, "energy_mj_error": error}}


def repeat(run: Run, seconds: float) -> tuple[int, float]:
    """Run until `seconds` have passed; how often, and how long it took: not at all for 0."""
    count, begin, now = 0, time.perf_counter(), 0.0
    while now < seconds:
        run()
        count += 1
        now = time.perf_counter() - begin
    return count, now
