import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import work_to_do

from edge.errors import EdgeError
from edge.train.processes import in_processes

PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born deaf to it
sys.path.insert(0, {here!r})
import work_to_do
from edge.train.processes import in_processes
if __name__ == "__main__":
    list(in_processes(work_to_do.mark_and_wait, [{folder!r}] * 2, 2))
"""


def until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_one_job_works_here_and_in_order():
    assert list(in_processes(lambda number: (number, os.getpid()), [3, 1, 2], 1)) == [
        (number, os.getpid()) for number in (3, 1, 2)
    ]


def test_all_items_are_done_once():
    assert sorted(in_processes(work_to_do.square, range(6), 2)) == [0, 1, 4, 9, 16, 25]


def test_each_process_has_one_thread_and_no_progress_bar():
    found = list(in_processes(work_to_do.settings, range(2), 2))
    assert all((one["threads"], one["cores"], one["terminal"]) == ("1", 1, False) for one in found)
    assert os.getpid() not in {one["pid"] for one in found}


def test_an_error_ends_the_others_at_once():
    start = time.monotonic()
    with pytest.raises(ValueError, match="two"):
        list(in_processes(work_to_do.fail_at_two, [1, 2], 2))
    assert time.monotonic() - start < 20
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_noticed():
    with pytest.raises(EdgeError, match="a process was killed from outside, most often because memory ran out"):
        list(in_processes(work_to_do.be_killed, range(4), 2))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_no_process_outlives_the_one_that_started_it(tmp_path, signal_number):
    """Ctrl-C in a terminal reaches all of them; here the first one alone is told, which is the harder case."""
    script, marks = tmp_path / "parent.py", tmp_path / "marks"
    marks.mkdir()
    script.write_text(PARENT.format(here=str(Path(__file__).parent), folder=str(marks)))
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    until(lambda: len(list(marks.iterdir())) == 2)
    children = [int(mark.name) for mark in marks.iterdir()]
    assert all(map(alive, children))
    parent.send_signal(signal_number)
    parent.communicate(timeout=20)
    until(lambda: not any(map(alive, children)))
