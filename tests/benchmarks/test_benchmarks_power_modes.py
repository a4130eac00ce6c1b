"""A stand-in for nvpmodel (tests/board_trees.py) that changes the mode, refuses to, or only says that it did."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from board_trees import TREES, build, nvpmodel, program

from edge.benchmarks import power_modes
from edge.benchmarks.power_modes import check_modes, restored
from edge.deploy.boards import power_mode
from edge.errors import BackendMissing, FitError, InputError


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return build(tmp_path, "orin-nano")  # in the mode 25W


def asked(board: Path) -> list[str]:
    """What nvpmodel was told to do."""
    log = board / "nvpmodel.log"
    return log.read_text().splitlines() if log.exists() else []


def test_each_mode_is_reached_in_turn_and_the_first_comes_back(board: Path) -> None:
    said: list[str] = []
    with restored(["MAXN_SUPER", "15W"], board, said.append) as modes:
        seen = [(name, power_mode(board)) for name in modes]
    assert seen == [("MAXN_SUPER", "MAXN_SUPER"), ("15W", "15W")]
    assert power_mode(board) == "25W"
    assert asked(board) == ["set 2", "set 0", "set 1"], "names are turned into this board's numbers"
    assert said == ["power mode MAXN_SUPER", "power mode 15W", "power mode 25W, as it was"]


@pytest.mark.parametrize("failure", [RuntimeError("the engine failed"), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_happens_the_mode_comes_back(board: Path, failure: BaseException) -> None:
    def measure() -> None:
        with restored(["15W", "MAXN_SUPER"], board) as modes:
            for _ in modes:
                raise failure

    with pytest.raises(type(failure)):
        measure()
    assert power_mode(board) == "25W"
    assert asked(board) == ["set 0", "set 1"]


@pytest.fixture
def measuring(board: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has changed the mode to 15W and measures; it heeds Ctrl-C, even if the tests ignore it."""
    code = f"""
import signal, time
from pathlib import Path
from edge.benchmarks.power_modes import restored
signal.signal(signal.SIGINT, signal.default_int_handler)
with restored(["15W"], Path({str(board)!r})) as modes:
    for mode in modes:
        print(mode, flush=True)
        time.sleep(60)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "15W\n"
        yield child
        child.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_process_that_is_stopped_restores_the_mode(
    board: Path, measuring: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    measuring.send_signal(number)
    assert measuring.wait(timeout=20) == code
    assert power_mode(board) == "25W"


def test_a_second_ctrl_c_does_not_stop_the_way_back(board: Path, measuring: subprocess.Popen[str]) -> None:
    """nvpmodel takes a while, and Ctrl-C reaches it as well, for it belongs to the terminal's group."""
    script = (board / "usr/sbin/nvpmodel").read_text()
    program(
        board, "nvpmodel", script.replace('-m) echo "set', f'-m) touch {board}/begun; sleep 0.3; echo "set').rstrip()
    )
    os.killpg(measuring.pid, signal.SIGINT)
    while not (board / "begun").exists():
        time.sleep(0.01)
    os.killpg(measuring.pid, signal.SIGINT)
    measuring.wait(timeout=20)
    assert power_mode(board) == "25W"


def test_a_mode_that_needs_a_reboot_is_declined_and_said(board: Path) -> None:
    (board / "reboot-3").touch()
    said = "in the power mode 25W, not 7W; 7W needs a reboot: sudo nvpmodel -m 3"
    with pytest.raises(FitError, match=said), restored(["7W"], board) as modes:
        next(modes)
    assert asked(board) == ["set 3", "answer no"], "the board is never rebooted, and nothing is left to restore"
    assert power_mode(board) == "25W"


def test_a_change_that_silently_does_nothing_is_an_error(board: Path) -> None:
    (board / "stuck").touch()
    said = "in the power mode 25W, not 15W; nvpmodel said: nothing"
    with pytest.raises(FitError, match=said), restored(["15W"], board) as modes:
        next(modes)


def test_a_mode_that_does_not_come_back_is_an_error(board: Path) -> None:
    with pytest.raises(FitError, match="in the power mode 15W, not 25W"), restored(["15W"], board) as modes:
        (board / next(modes)).with_name("stuck").touch()


def test_an_unknown_mode_is_refused_before_anything_changes(board: Path) -> None:
    said = "no power mode '30W'; it has 15W, 25W, MAXN_SUPER, 7W"
    with pytest.raises(InputError, match=said), restored(["15W", "30W"], board):
        pytest.fail("it must not begin")
    assert asked(board) == []


def test_a_mode_that_could_not_be_restored_is_not_left(board: Path) -> None:
    program(board, "nvpmodel", "#!/bin/sh\necho 'NV Power Mode: CUSTOM'\n")
    with pytest.raises(FitError, match=r"'CUSTOM', which is not in /etc/nvpmodel\.conf"):
        check_modes(["15W"], board)


def test_off_a_jetson_the_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendMissing, match="nvpmodel, which comes with JetPack"):
        check_modes(["15W"], tmp_path)


def test_a_user_asks_sudo(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PATH, as on a board: a sudo that says what it was asked, and nvpmodel."""
    sudo(board, monkeypatch)
    with restored(["15W"], board) as modes:
        next(modes)
    assert asked(board) == ["sudo -v", "sudo", "set 0", "sudo", "set 1"]


def test_sudo_is_kept_from_forgetting_while_it_is_measured(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sudo(board, monkeypatch)
    monkeypatch.setattr(power_modes, "SUDO_RENEWED_S", 0.01)
    with restored(["15W"], board) as modes:
        next(modes)
        while asked(board).count("sudo -n -v") < 2:
            time.sleep(0.01)
    assert power_mode(board) == "25W"


def test_where_sudo_refuses_nothing_is_changed(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sudo(board, monkeypatch, refuses=True)
    with pytest.raises(FitError, match="needs root, and sudo refuses"), restored(["15W"], board):
        raise AssertionError
    assert asked(board) == ["sudo -v"]


def sudo(board: Path, monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
    """A stand-in for it, and we are not root."""
    code = f"""#!/bin/sh
case "$*" in *-v) echo "sudo $*" >> {board}/nvpmodel.log; exit {int(refuses)} ;; esac
echo sudo >> {board}/nvpmodel.log
exec "$@"
"""
    program(board, "sudo", code.rstrip())
    monkeypatch.setenv("PATH", f"{board / 'usr/sbin'}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_names_and_numbers_are_those_of_each_board(tmp_path: Path) -> None:
    for name, tree in TREES.items():
        root = build(tmp_path, name)
        assert check_modes(tree.modes, root) == tree.modes[tree.mode]
    nvpmodel(tmp_path / "thor", ("MAXN", "120W"), 0)
    assert check_modes(["120W"], tmp_path / "thor") == "MAXN"
