import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_nvml
import pytest
from board_trees import build, write

from edge.benchmarks import power, sustained, thermal
from edge.benchmarks.energy import energy_of
from edge.benchmarks.power import idle_power, monitor

CURRENT = "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr1_input"
KEYS = {
    "power_w", "power_w_error", "energy_j", "idle_w", "idle_w_error", "source", "rate_hz", "temperature_c",
    "clock_drop", "throttled", "notes", "series",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_real_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(power, "SETTLE_S", 0.0)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return build(tmp_path, "orin-nano")


def replace(path: Path, value: object) -> None:
    """As the kernel does it: a reader never sees half of it."""
    write(path.with_suffix(".new"), value)
    path.with_suffix(".new").replace(path)


class Changing(threading.Thread):
    """Writes into files while a monitor reads them: `change(seconds since the start)`, a hundred times a second."""

    def __init__(self, change: Callable[[float], None]) -> None:
        super().__init__()
        self._change, self._end = change, threading.Event()

    def __enter__(self) -> "Changing":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        begin = time.perf_counter()
        while not self._end.wait(0.01):
            self._change(time.perf_counter() - begin)


def test_the_energy_of_a_load_is_told_from_idle(board: Path) -> None:
    """5 V and 1 A at rest; 3 A inside the block: 15 W, of which 5 would have been drawn anyway."""
    with monitor(board, rate_hz=100, idle_s=0.3) as watch:
        replace(board / CURRENT, 3000)
        begin = time.perf_counter()
        time.sleep(0.5)
        seconds = time.perf_counter() - begin
    found = watch.result()
    assert set(found) == KEYS
    assert found["source"] == "ina3221:VDD_IN"
    assert found["idle_w"] == pytest.approx(5.0)
    assert found["power_w"] == pytest.approx(15.0, rel=0.15)  # the first reading is still idle
    assert found["energy_j"] == pytest.approx(15.0 * seconds, rel=0.2)
    assert 5 < found["rate_hz"] <= 105
    assert "only; 10 s or more can be trusted" in found["notes"][0]
    assert len(found["series"]["t_s"]) == len(found["series"]["power_w"]) == len(found["series"]["temperature_c"])


def test_a_ramp_that_a_thread_writes_is_integrated(board: Path) -> None:
    """The current rises from 1 A by 4 A a second: power is 5 + 20 t watts, whenever it is read."""
    with Changing(lambda t: replace(board / CURRENT, 1000 + 4000 * t)), monitor(board, rate_hz=100, idle_s=0) as watch:
        time.sleep(0.6)
    found = watch.result()
    t, watts = found["series"]["t_s"], found["series"]["power_w"]
    by_hand = sum((t[i + 1] - t[i]) * (watts[i + 1] + watts[i]) / 2 for i in range(len(t) - 1))
    assert found["energy_j"] == pytest.approx(by_hand)
    assert found["power_w"] == pytest.approx(by_hand / (t[-1] - t[0]))
    assert watts[-1] > watts[0] + 4
    assert found["idle_w"] is None


def test_heat_a_falling_clock_and_throttling_are_flagged(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "SLOW_S", 0.05)
    monkeypatch.setattr(thermal, "WINDOW_S", 0.2)

    def change(t: float) -> None:
        replace(board / "sys/devices/virtual/thermal/thermal_zone1/temp", 49000 + int(100000 * min(t, 0.4)))
        if t > 0.5:
            replace(board / "sys/class/devfreq/17000000.gpu/cur_freq", 306000000)
            replace(board / "sys/class/thermal/cooling_device2/cur_state", 1)
            replace(board / "sys/class/hwmon/hwmon0/oc3_event_cnt", 4)

    with Changing(change), monitor(board, idle_s=0) as watch:
        time.sleep(1.0)
    found = watch.result()
    assert found["clock_drop"] is True
    assert found["throttled"] is True
    assert found["temperature_c"]["gpu-thermal"][0] == pytest.approx(89.0)
    assert found["temperature_c"]["cpu-thermal"] == [48.0]
    assert found["series"]["temperature_c"][-1] > found["series"]["temperature_c"][0] + 20
    assert "the clock of the gpu fell from 612 to 306 MHz" in found["notes"]
    assert "slowed down by: gpu-throttle-alert" in found["notes"]
    assert "the machine counted 4 throttling events" in found["notes"]


def test_an_event_that_is_over_at_once_is_counted(board: Path) -> None:
    replace(board / "sys/class/hwmon/hwmon0/oc1_event_cnt", 5)
    with monitor(board, idle_s=0) as watch:
        replace(board / "sys/class/hwmon/hwmon0/oc1_event_cnt", 6)
    assert watch.result()["throttled"] is True
    with monitor(board, idle_s=0) as watch:
        pass
    assert watch.result()["throttled"] is False, "what was counted before is over"


def test_a_quiet_board_is_not_flagged(board: Path) -> None:
    with monitor(board, idle_s=0) as watch:
        time.sleep(0.6)
    found = watch.result()
    assert (found["clock_drop"], found["throttled"]) == (False, False)


def test_a_machine_without_sensors_is_all_none_and_says_why(tmp_path: Path) -> None:
    begin = time.perf_counter()
    with monitor(tmp_path) as watch:
        pass
    found = watch.result()
    assert time.perf_counter() - begin < 1.0, "nothing can be read, so nobody waits for the idle machine"
    assert set(found) == KEYS
    assert all(found[key] is None for key in KEYS - {"temperature_c", "notes", "series"})
    assert found["temperature_c"] == {}
    assert found["notes"] == ["no power sensor was found: neither INA3221 or INA238, tegrastats, RAPL, nor NVML"]


def test_a_counter_that_wraps_inside_the_block_is_followed(tmp_path: Path) -> None:
    """The counter starts again at 20 J, one joule after the beginning, and is advanced in steps of 0.1 J."""
    zone, joules = tmp_path / "sys/class/powercap/intel-rapl:0", [19.0]
    for name, value in {"name": "package-0", "energy_uj": 19000000, "max_energy_range_uj": 20000000}.items():
        write(zone / name, value)

    def count(_: float) -> None:
        joules.append(joules[-1] + 0.1)
        replace(zone / "energy_uj", round(joules[-1] * 1e6) % 20000000)

    with monitor(tmp_path, rate_hz=50, idle_s=0) as watch, Changing(count):
        while joules[-1] < 22:
            time.sleep(0.01)
    found = watch.result()
    assert found["source"] == "rapl:package-0"
    assert found["energy_j"] == pytest.approx(joules[-1] - 19.0)
    assert all(watts >= 0 for watts in found["series"]["power_w"])


def test_package_and_card_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real root, so that NVML is asked; whatever this machine has besides is named, too."""
    begin = time.perf_counter()
    card = fake_nvml.make(
        millijoules=lambda: int((time.perf_counter() - begin) * 50e3), celsius=66, reasons=0x04, megahertz=1500
    )
    monkeypatch.setitem(sys.modules, "pynvml", card)
    with monitor(rate_hz=50, idle_s=0.2) as watch:
        time.sleep(0.3)
    found = watch.result()
    assert "nvml" in found["source"].split("+")
    assert found["power_w"] >= 45
    assert found["temperature_c"]["nvml"] == [66.0]
    assert found["throttled"] is True
    assert "slowed down by: software power cap" in found["notes"]
    assert card.opened == 0, "NVML is let go"


def test_the_monitor_ends_when_the_block_raises(board: Path) -> None:
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the engine failed"), monitor(board, idle_s=0):
        raise RuntimeError("the engine failed")
    assert threading.active_count() == before


def test_a_sensor_that_fails_now_and_then_leaves_gaps_only(board: Path) -> None:
    def change(t: float) -> None:
        replace(board / CURRENT, "" if int(t * 20) % 2 else 1000)

    with Changing(change), monitor(board, rate_hz=100, idle_s=0) as watch:
        time.sleep(0.5)
    found = watch.result()
    assert found["power_w"] == pytest.approx(5.0)
    assert len(found["series"]["t_s"]) < 45


def test_idle_power_is_a_mean_or_none(board: Path, tmp_path: Path) -> None:
    assert idle_power(0.1, board) == pytest.approx(5.0)
    assert idle_power(0.1, tmp_path / "nowhere") is None


def test_energy_of_a_run_is_per_sample_and_above_idle(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that draws 10 W more than nothing: 10 J a second, over the samples of a second."""

    @contextlib.contextmanager
    def loaded() -> Iterator[power.Monitor]:
        with monitor(board, rate_hz=100, idle_s=0.3) as watch:
            replace(board / CURRENT, 3000)
            yield watch

    monkeypatch.setattr(power, "monitor", loaded)
    found = energy_of(lambda: time.sleep(0.002), batch=4, window_s=0.6)
    assert found["power"]["source"] == "ina3221:VDD_IN"
    assert found["power"]["idle_w"] == pytest.approx(5.0)
    assert found["power"]["power_w"] > 10.0
    joules = found["energy_mj"] * 4 * found["power"]["queries"] / 1e3
    seconds = joules / (found["power"]["power_w"] - 5.0)
    assert 0.6 <= seconds < 1.5, "of all samples in the window"
    assert found["power"]["energy_mj_error"] >= 0
    assert "series" not in found["power"]


def test_energy_that_cannot_be_read_is_none_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "monitor", lambda: monitor(tmp_path))
    begin = time.perf_counter()
    found = energy_of(lambda: None, batch=1, window_s=60.0)
    assert time.perf_counter() - begin < 5, "nobody waits for what cannot be read"
    assert found["energy_mj"] is None
    assert found["power"]["source"] is None
    assert "no power sensor" in found["power"]["notes"][0]


def test_a_sustained_run_has_power_and_temperature_by_window(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "monitor", lambda: monitor(board, rate_hz=50, idle_s=0.1))
    monkeypatch.setattr(sustained, "WINDOW_S", 0.2)
    found = sustained.sustain(lambda: time.sleep(0.001), 1, 0.6)
    assert len(found["windows"]) >= 3
    assert all(window["power_w"] == pytest.approx(5.0) for window in found["windows"])
    assert all(window["temperature_c"] == 49.0 for window in found["windows"])
