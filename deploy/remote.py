"""Build and measure on a board over ssh: a pack goes there, jetson.sh runs there, its results come back.

Plain `ssh` and `tar`: keys, ports and jump hosts are those of ~/.ssh/config. ssh never asks for a password (BatchMode).
Over there a bundle's pack lies in ~/.cache/edge-colearn/remote/NAME, and is replaced by the next one of that name.
"""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from edge.deploy.pack import write_pack
from edge.deploy.wheels import Device
from edge.errors import BackendMissing, EdgeError, FitError, GateError, InputError
from edge.files import inside, replacing_folder

# A name of ~/.ssh/config, a host name or an address (IPv6 has colons), a user before it. No option, no shell word.
_HOST = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.:_-]*")
_RESULTS = ("report.json", "report.html", "doctor.json", "verify.json", "engine.json")
_BUSY = "an earlier --on of this bundle is still at work here: wait for it, or stop jetson.sh"
_LARGEST = 64 << 20  # bytes of results; a report has some kB
_ERRORS: dict[int, type[EdgeError]] = {2: InputError, 3: GateError, 4: FitError, 5: BackendMissing}
_ASK = "import json, os, platform, sys; print(json.dumps([sys.version_info[:2], platform.machine(), \
os.confstr('CS_GNU_LIBC_VERSION')]))"


def build_on(host: str, bundle: Path, out: Path, *, data: Path | None = None, seconds: float = 1.0) -> Path:
    """Install edge on `host`, verify, build and time the bundle's engines there; return `out`, with the report in it.

    `host` is USER@HOST or a name of ~/.ssh/config; `data` a .npz for accuracy. What is said there appears on stderr.
    InputError: no such host, no login. FitError, BackendMissing, GateError: as `edge` over there says.
    """
    device = ask_device(host)
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "pack.tar.gz"
        write_pack(archive, bundle, device=device, data=data)
        folder = f'"$HOME"/.cache/edge-colearn/remote/{shlex.quote(bundle.resolve().name)}'
        # Whole or not at all over there, too: unpacked beside its place, then moved; not while a script runs in it.
        unpack = (
            f"set -e; rm -rf {folder}.new; mkdir -p {folder}.new; tar -xzf - -C {folder}.new --strip-components 1; "
            f"exec 9>>{folder}.lock; flock -n 9 || {{ echo {shlex.quote(_BUSY)} >&2; exit 4; }}; "
            f"rm -rf {folder}; mv {folder}.new {folder}"
        )
        with open(archive, "rb") as file:
            done = subprocess.run(_ssh(host, unpack), stdin=file, check=False)
        _check(host, done.returncode, "the pack cannot be copied")
    # With a terminal (-tt) over there the script ends with this program, or with the line. What it prints is for people
    # and goes to stderr here, for --json has stdout for itself.
    script = f"exec flock -n {folder}.lock sh {folder}/jetson.sh --seconds {seconds:g}"
    ran = subprocess.run(_ssh(host, script, "-tt"), stdin=subprocess.DEVNULL, stdout=2, check=False)
    done = subprocess.run(_ssh(host, f"tar -cf - -C {folder}/results ."), capture_output=True, check=False)
    if ran.returncode:
        with contextlib.suppress(EdgeError):  # what was measured before it failed
            _unpack(done.stdout, out)
    _check(host, ran.returncode, "see above")
    _check(host, done.returncode, "the results cannot be fetched")
    return _unpack(done.stdout, out)


def check_host(host: str) -> str:
    """Return `host`; InputError unless it is a plain USER@HOST or HOST."""
    if not _HOST.fullmatch(host):
        raise InputError(f"--on is {host!r}; give USER@HOST or a name of ~/.ssh/config (ports and keys stand there)")
    return host


def ask_device(host: str) -> Device:
    """The Python and the platform of `host`. InputError if it cannot be asked, FitError if wheels cannot be for it."""
    check_host(host)
    if shutil.which("ssh") is None:
        raise BackendMissing("ssh is not installed; sudo apt-get install openssh-client")
    words = _ssh(host, f"python3 -c {shlex.quote(_ASK)}")
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"{host} cannot be asked: {done.stderr.strip()[-300:]}; `ssh {host} python3 --version` must work"
        )
    try:
        (major, minor), machine, libc = json.loads(done.stdout.splitlines()[-1])
        glibc = re.fullmatch(r"glibc 2\.(\d+)", libc or "")
    except (ValueError, IndexError, TypeError):
        raise InputError(f"{host} answers {done.stdout[-200:]!r}; its shell must print nothing by itself") from None
    if (major, minor) < (3, 10) or glibc is None or machine not in ("aarch64", "x86_64"):
        raise FitError(
            f"{host} has Python {major}.{minor}, {machine}, {libc}; edge needs Python 3.10 or newer (JetPack 6 or 7) "
            "and glibc, on aarch64 or x86_64"
        )
    return Device(f"{major}.{minor}", f"manylinux_2_{glibc[1]}_{machine}").check()


def _ssh(host: str, script: str, *options: str) -> list[str]:
    return ["ssh", *options, "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "--", host, script]


def _check(host: str, code: int, what: str) -> None:
    if code:
        raise _ERRORS.get(code, InputError)(f"{host}: {what} (exit code {code})")


def _unpack(archive: bytes, out: Path) -> Path:
    """The results that we know by name; what a board sends is not trusted with any other place."""
    if len(archive) > _LARGEST:
        raise InputError(f"the results take {len(archive) >> 20} MiB; that is no report")
    with replacing_folder(out, "report.json") as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            file = tar.extractfile(entry) if entry.isfile() and name in _RESULTS else None
            if file:
                inside(folder, name).write_bytes(file.read())
        if not (folder / "report.json").is_file():
            raise InputError("no report.json came back; an earlier one is kept")
    return out
