"""Work in several processes, one thread each, that never outlives whoever asked for it.

Processes are spawned, not forked: a fork of a process that has used OpenMP or torch can hang. A process that is killed
(for lack of memory, say) is noticed, which a multiprocessing.Pool would wait for without end.
"""

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from edge.errors import EdgeError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Generator[Result, None, None]:
    """`work` of each item, as they finish; with one job in this process and in order.

    `work` is a module's function, items and results can be pickled. Ctrl-C, an exception out of `work` and a generator
    that is closed end all processes at once, so `work` must leave its files whole at any time. EdgeError: a process
    was killed.
    """
    if jobs == 1 or len(items) < 2:
        yield from map(work, items)
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, len(items)), multiprocessing.get_context("spawn"), initializer=_settle)
    try:
        for future in as_completed([pool.submit(work, item) for item in items]):
            yield future.result()
    except BrokenProcessPool:
        raise EdgeError(
            "a process was killed from outside, most often because memory ran out; what is done is kept, the same "
            "command continues, and a smaller --jobs needs less memory"
        ) from None
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _settle() -> None:
    """In a new process, before numpy and torch are imported."""
    for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        os.environ[library] = "1"  # the last is joblib's, by which scikit-learn's trees grow
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process sees to the rest
    sys.stderr = _NotATerminal(sys.stderr.buffer, line_buffering=True)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


class _NotATerminal(io.TextIOWrapper):
    """Messages pass; progress bars, which ask for a terminal, stay silent: there is one for all processes."""

    def isatty(self) -> bool:
        return False


def _end_with_the_parent() -> None:
    """Also a parent that was killed takes us along: otherwise we would write where its successor works."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - only called in a child
    parent.join()
    os._exit(1)
