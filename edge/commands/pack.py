"""`edge pack`."""

from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER|FILE.tar.gz", help="Where to."
)
@click.option("--wheels", is_flag=True, help="Collect the device runtime, too, for a machine without a network.")
@click.option(
    "--python",
    default="3.10",
    show_default=True,
    metavar="3.N",
    help="The device's: 3.10 in JetPack 6, 3.12 in 7.",
)
@click.option(
    "--platform", default="manylinux_2_28_aarch64", show_default=True, help="The device's, as wheels name it (PEP 600)."
)
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE.npz", help="Test data, for accuracy over there.")
def command(bundle: Path, out: Path, wheels: bool, python: str, platform: str, data: Path | None) -> None:
    """Pack a bundle with all that a device without a network needs.

    There, `sh jetson.sh` does the rest: it installs edge from the wheels, verifies the bundle, builds engines where
    TensorRT is there, measures, and leaves report.json and report.html. Done twice it installs nothing the second time.

    \b
    Example:
      edge pack RUN/bundles/optical-int8 --wheels --data RUN/test/optical.npz -o optical.tar.gz
    """
    from edge.deploy.pack import write_pack
    from edge.deploy.wheels import Device

    size = write_pack(out, bundle, device=Device(python, platform) if wheels else None, data=data)
    click.echo(f"pack: {out} ({size / 1e6:.1f} MB); on the device: sh jetson.sh")
