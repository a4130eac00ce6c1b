"""Over ssh to a real sshd on this machine: nothing is faked but the distance."""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from tiny_bundles import build

from edge.deploy.remote import _unpack, ask_device, build_on, check_host
from edge.errors import FitError, GateError, InputError
from edge.train.sources.simulated import simulate

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host named `board`: an sshd of our own on a high port, with its own keys; yields its home."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd here: apt-get install openssh-server")
    if os.getuid() == 0:  # root's sshd asks for this folder
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home, keys = tmp_path / "home", tmp_path / "keys"
    for folder in (home, keys, tmp_path / "bin"):
        folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {keys / 'host'}\nAuthorizedKeysFile {keys / 'user.pub'}\n"
        f"PidFile none\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
        f"SetEnv HOME={home} PATH={path}\n"
    )
    (tmp_path / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {keys / 'user'}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {tmp_path / 'known'}\n  StrictHostKeyChecking accept-new\n"
        f"  LogLevel ERROR\n"
    )
    # The configuration of this test instead of ~/.ssh/config.
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path / "config"} "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=log)
    try:
        _wait(port, server, tmp_path / "log")
        yield home
    finally:
        server.terminate()
        server.wait(10)


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(100):
        assert server.poll() is None, log.read_text()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch x", "me@-l", "board; reboot", "board reboot", "$(id)@board", "a@b@c", "", "board\n"]
)
def test_what_is_no_plain_host_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="--on is"):
        check_host(host)


@pytest.mark.parametrize("host", ["board", "nvidia@192.168.55.1", "me@fe80::1", "some_user@orin-nano.local"])
def test_hosts_that_ssh_takes_are_taken(host: str) -> None:
    assert check_host(host) == host


def test_only_known_files_of_what_a_board_sends_are_kept(tmp_path: Path) -> None:
    sent = BytesIO()
    with tarfile.open(fileobj=sent, mode="w") as tar:
        for name in ("./report.json", "./../evil", "./.bashrc", "/etc/evil"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            tar.addfile(entry, BytesIO(b"{}"))
        link = tarfile.TarInfo("./engine.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    _unpack(sent.getvalue(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_results_without_a_report_leave_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text('{"schema": "edge.report/1"}')
    with pytest.raises(InputError, match="no report"):
        _unpack(b"\0" * 10240, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == {"schema": "edge.report/1"}


@pytest.mark.slow
def test_a_host_that_does_not_answer_is_an_input_error(board: Path) -> None:
    with pytest.raises(InputError, match="cannot be asked"):
        ask_device("nobody-knows.invalid")


@pytest.mark.slow
def test_a_bundle_is_installed_verified_and_measured_over_there_and_the_second_time_nothing_is_installed(
    board: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = build(tmp_path / "optical-int8").folder
    out = build_on("board", bundle, tmp_path / "out", seconds=0.05)
    report = json.loads((out / "report.json").read_text())
    assert {row["precision"] for row in report["results"]} == {"fp32", "int8"}
    assert all(row["latency_ms"]["p50"] > 0 for row in report["results"])
    checks = json.loads((out / "verify.json").read_text())["checks"]
    assert {check["passed"] for check in checks if check["name"] != "card"} == {True}
    venv = board / ".local/share/edge-colearn/venv"
    assert str(venv) in capfd.readouterr().err
    stamp = (venv / "edge-stamp").stat().st_mtime_ns
    (board / ".cache/edge-colearn/remote/optical-int8/results/report.json").unlink()
    script = 'sh "$HOME"/.cache/edge-colearn/remote/optical-int8/jetson.sh --seconds 0.05'
    again = subprocess.run(["ssh", "board", script], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "installing" not in again.stderr
    assert (venv / "edge-stamp").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_the_board_stops_with_this_program_and_a_folder_in_use_is_left_alone(board: Path, tmp_path: Path) -> None:
    bundle = build(tmp_path / "optical-int8").folder
    place = board / ".cache/edge-colearn/remote/optical-int8"
    code = "from pathlib import Path; from edge.deploy.remote import build_on; "
    code += f"build_on('board', Path({str(bundle)!r}), Path({str(tmp_path / 'out')!r}), seconds=60)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as client:
        for _ in range(1200):
            if (place / "results" / "verify.json").exists():  # what follows takes a minute
                break
            time.sleep(0.1)
        with pytest.raises(FitError, match="the pack cannot be copied"):
            build_on("board", bundle, tmp_path / "other")
        assert (place / "results" / "verify.json").exists()
        os.killpg(client.pid, signal.SIGINT)
    for _ in range(100):
        if _flock(place) == 0:
            break
        time.sleep(0.1)
    assert _flock(place) == 0, "jetson.sh has ended, and what it started"


def _flock(place: Path) -> int:
    return subprocess.run(["flock", "-n", f"{place}.lock", "true"], check=False).returncode


@pytest.mark.slow
def test_what_was_measured_before_something_failed_comes_back(board: Path, tmp_path: Path) -> None:
    bundle = build(tmp_path / "optical-int8").folder
    place = board / ".cache/edge-colearn/remote/optical-int8"
    build_on("board", bundle, tmp_path / "out", seconds=0.05)
    edge = board / ".local/share/edge-colearn/venv/bin/edge"
    edge.rename(edge.with_name("real"))
    edge.write_text(f'#!/bin/sh\n[ "$1" != bench ] || {{ {edge.with_name("real")} "$@"; exit 3; }}\n')
    edge.chmod(0o755)
    with pytest.raises(GateError, match="see above"):
        build_on("board", bundle, tmp_path / "again", seconds=0.05)
    assert json.loads((tmp_path / "again" / "report.json").read_text())["results"]
    assert (place / "bundle").is_dir()


@pytest.mark.slow
def test_edge_build_with_on_brings_the_boards_report_back(board: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "set", n=200, seed=3)
    small = {"width": 16, "hidden": 32, "embedding": 16}
    recipe = {"model": small, "training": {"epochs": 2}, "compression": {"epochs": 1}, "max_drop": 1}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    words = ["build", "--modality", "optical", "--int8", "--on", "board", "--json", "--out", str(tmp_path / "run")]
    words += ["--target", "jetson-orin-nano"]  # else INT8 must be the faster one, which so small a student may not be
    words += ["--data", str(tmp_path / "set"), "--recipe", str(tmp_path / "recipe.json")]
    done = subprocess.run([sys.executable, "-m", "edge", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["on"]) == tmp_path / "run/on/board/optical-int8-jetson-orin-nano"
    assert json.loads((Path(found["on"]) / "report.json").read_text()) == found["report_on"]
    assert {row["precision"] for row in found["report_on"]["results"]} == {"fp32", "int8"}
    assert found["report_on"]["results"] != found["report"]["results"]  # measured over there, not copied
    assert all(row["scores"] for row in found["report_on"]["results"])  # the test samples went along
    assert "jetson.sh: done" in done.stderr
