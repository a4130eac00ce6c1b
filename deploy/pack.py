"""A pack: all that a machine without a network needs to verify, build and measure a bundle.

bundle/       the bundle, as it was written
wheels/       the device runtime (edge.deploy.wheels), if asked for
test.npz      test data, if given
jetson.sh     installs, builds, verifies, measures: `sh jetson.sh`
PACK.json     what it is for: {"schema": "edge.pack/1", "bundle", "python", "platform"}
SHA256SUMS    over all of these; jetson.sh checks it first
"""

import contextlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge.deploy.bundle import open_bundle
from edge.deploy.wheels import Device, collect_wheels
from edge.errors import InputError
from edge.files import replacing, replacing_folder, sha256, write_json, write_text

MARKER, SCRIPT = "PACK.json", "jetson.sh"
ARCHIVES = (".tar.gz", ".tgz")
OTHERS = (".zip", ".tar", ".gz", ".bz2", ".xz", ".zst", ".7z")  # endings of archives that are none of these


def write_pack(out: Path, bundle: Path, *, device: Device | None = None, data: Path | None = None) -> int:
    """Write the pack of a bundle to `out`, a folder or (by its ending) a .tar.gz, whole or not at all; return bytes.

    `device`: collect wheels for it; None: the device has a network or edge already. InputError: the bundle is damaged,
    `data` is no .npz, `out` holds something else or ends like another kind of archive.
    """
    opened = open_bundle(bundle)
    if data is not None and (data.suffix != ".npz" or not data.is_file()):
        raise InputError(f"--data is {data}; give a .npz file with test data, as `edge bench` takes it")
    if out.suffix in OTHERS and not out.name.endswith(ARCHIVES):
        raise InputError(f"--out is {out}; a pack is a folder or a file that ends in {' or '.join(ARCHIVES)}")
    if device:
        device.check()
    with _place(out) as folder:
        shutil.copytree(opened.folder, folder / "bundle")
        if device:
            collect_wheels(folder / "wheels", device)
        if data:
            shutil.copyfile(data, folder / "test.npz")
        shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / SCRIPT)
        (folder / SCRIPT).chmod(0o755)
        about = {"schema": "edge.pack/1", "bundle": opened.folder.resolve().name}
        write_json(folder / MARKER, about | (vars(device) if device else {"python": None, "platform": None}))
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        write_text(folder / "SHA256SUMS", "".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in paths))
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.is_dir() else out.stat().st_size


@contextlib.contextmanager
def _place(out: Path) -> Iterator[Path]:
    """Where to put the pack's files; at the end they are the folder `out`, or packed into the file `out`."""
    if not out.name.endswith(ARCHIVES):
        with replacing_folder(out, MARKER) as folder:
            yield folder
        return
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file")
    name = next(out.name.removesuffix(ending) for ending in ARCHIVES if out.name.endswith(ending))
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        with replacing(out) as path, tarfile.open(path, "w:gz", compresslevel=1) as archive:
            archive.add(temporary, arcname=name or "pack", filter=_nobody)


def _nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whoever unpacks it owns it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.name.endswith(".sh") else 0o644
    return entry
