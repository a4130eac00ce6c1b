"""Failures that a user can act on. Each carries the exit code of the command line."""

import click


class EdgeError(click.ClickException):
    """A known failure: click prints `Error: <message>` on stderr and exits with `exit_code`, without a traceback."""

    exit_code = 1


class InputError(EdgeError):
    """The user's input is wrong: the message names the thing, its value and the way out."""

    exit_code = 2


class GateError(EdgeError):
    """A bound that must hold (accuracy, latency, parity) does not."""

    exit_code = 3


class FitError(EdgeError):
    """An engine or a bundle does not fit this machine."""

    exit_code = 4


class BackendMissing(EdgeError):
    """A library is not installed; the message holds the line that installs it."""

    exit_code = 5
