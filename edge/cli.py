"""The command line. Commands live in edge/commands, one file each, and import heavy libraries only when they run."""

import importlib
from typing import Any

import click

from edge import __version__
from edge.errors import InputError

_NAMES = "build data train compress engine inspect verify bench compare front predict pack doctor devices"
COMMANDS = tuple(_NAMES.split())
RESUMABLE = ("build", "train", "compress", "front")  # these leave a state behind


class LazyGroup(click.Group):
    """A group that imports a command's file when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the work, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edge.commands.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """One line, no traceback, for Ctrl-C and for what is the user's to mend: a full disk, a missing permission."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            kept = "; what is done is kept, the same command without --force continues"
            click.echo(f"\nStopped{kept if ctx.invoked_subcommand in RESUMABLE else ''}.", err=True)
            ctx.exit(130)  # what a shell reports for a process that SIGINT ended
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            raise InputError(f"{error.strerror or error}{place}") from error


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edge")
def main() -> None:
    """Train with many sensors, deploy with one.

    Example: edge build --modality optical --int8
    """
