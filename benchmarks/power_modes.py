"""The same measurement in several power modes of a Jetson, which is left in the mode in which it was found.

    with restored(["15W", "MAXN"]) as modes:
        for name in modes:          # the board is in mode `name` inside the loop
            measure()

`nvpmodel -m ID` changes the mode and needs root: sudo is asked once, at the start, and kept from forgetting. Numbers
mean another mode on another board, so modes are known by the names in /etc/nvpmodel.conf. Some changes need a reboot,
which nvpmodel then offers on its standard input; it is answered with no. It may fail without saying so: what counts is
the mode that it names afterwards.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from edge.deploy.boards import power_mode, power_modes
from edge.deploy.sysfs import executable
from edge.errors import BackendMissing, FitError, InputError

Notify = Callable[[str], None]
SUDO_RENEWED_S = 60.0  # sudo forgets after 15 minutes unless told otherwise, after 5 on some systems
ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # killed, or the terminal is gone: the mode is restored then, too


def check_modes(names: Sequence[str], root: Path = Path("/")) -> str:
    """The mode in which the board is now; InputError for a mode that it does not have, BackendMissing off a Jetson."""
    if executable("nvpmodel", root) is None:
        raise BackendMissing("--power-mode needs nvpmodel, which comes with JetPack on a Jetson; leave it out here")
    known, now = power_modes(root), power_mode(root)
    for name in names:
        if name not in known:
            raise InputError(f"this board has no power mode {name!r}; it has {', '.join(known) or 'none'}")
    if now not in known:
        raise FitError(
            f"`nvpmodel -q` names the mode {now!r}, which is not in /etc/nvpmodel.conf: it could not be restored"
        )
    return now


@contextlib.contextmanager
def restored(
    names: Sequence[str], root: Path = Path("/"), notify: Notify = lambda message: None
) -> Iterator[Iterator[str]]:
    """Give an iterator that changes to each mode in turn; afterwards, whatever happens, go back to the first one.

    A mode that needs a reboot raises FitError with the commands to run by hand. Ctrl-C, SIGTERM and SIGHUP restore the
    mode and then end the program as usual.
    """
    before = check_modes(names, root)

    def each() -> Iterator[str]:
        for name in names:
            notify(f"power mode {name}")
            change(name, root)
            yield name

    with _endings_raise(), _sudo_stays():
        try:
            yield each()
        finally:
            with _deaf():
                if power_mode(root) != before:
                    notify(f"power mode {before}, as it was")
                    change(before, root)


def change(name: str, root: Path = Path("/")) -> None:
    """Go to the mode `name` and look whether it was reached; FitError if not."""
    identity = power_modes(root)[name]
    command = [executable("nvpmodel", root) or "nvpmodel", "-m", str(identity)]
    if os.geteuid() != 0:
        command.insert(0, "sudo")
    done = subprocess.run(command, input="no\n", capture_output=True, text=True, check=False)
    now = power_mode(root)
    if now != name:
        said = " ".join((done.stderr + done.stdout).split())
        reboot = "Reboot required" in said
        raise FitError(
            f"the board is in the power mode {now}, not {name}"
            + (f"; {name} needs a reboot: sudo nvpmodel -m {identity}, answer yes, then run this without --power-mode"
               if reboot else f"; nvpmodel said: {said or 'nothing'}")
        )  # fmt: skip


@contextlib.contextmanager
def _sudo_stays() -> Iterator[None]:
    """Sudo asks now, and not again: it forgets after some minutes, and nobody may be there to answer by then."""
    if os.geteuid() == 0:
        yield
        return
    if subprocess.run(["sudo", "-v"], check=False).returncode:
        raise FitError("changing the power mode needs root, and sudo refuses; run `sudo -v` first, or leave it out")
    over = threading.Event()

    def renew() -> None:
        while not over.wait(SUDO_RENEWED_S):
            subprocess.run(["sudo", "-n", "-v"], stdin=subprocess.DEVNULL, capture_output=True, check=False)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _endings_raise() -> Iterator[None]:
    """Signals that would end the process at once raise SystemExit inside, so that `finally` is reached."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Neither this process nor the nvpmodel that it starts hears Ctrl-C and the like: the way back is not cut short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDINGS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
