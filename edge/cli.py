"""The command line. Commands live in edge/commands, one file each, and import heavy libraries only when they run."""

import importlib
from typing import Any

import click

from edge import __version__
from edge.errors import InputError

COMMANDS = ("build", "data", "train", "compress", "inspect", "verify", "bench", "compare", "predict", "doctor", "devices")


class LazyGroup(click.Group):
    """A group that imports a command's file when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edge.commands.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """A full disk or a folder without permission is the user's to mend: one line, no traceback."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise InputError(f"{error.strerror or error}: {error.filename}" if error.filename else str(error)) from error


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edge")
def main() -> None:
    """Train with many sensors, deploy with one.

    Example: edge build --modality optical --int8
    """
