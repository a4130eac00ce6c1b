"""Work that the tests of train/processes.py hand to other processes, which import it from here."""

import os
import signal
import sys
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def settings(_: int) -> dict[str, object]:
    import joblib
    import numpy  # noqa: F401 - what reads the variable when it is loaded

    threads = os.environ["OMP_NUM_THREADS"]
    return {"pid": os.getpid(), "threads": threads, "cores": joblib.cpu_count(), "terminal": sys.stderr.isatty()}


def fail_at_two(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    time.sleep(30)
    return number


def be_killed(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def mark_and_wait(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)
