"""`stillhouse`: the command line. Thin; every command lives in `harness/commands/`."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import NoReturn

import typer

from harness.errors import UNEXPECTED, HarnessError
from harness.text import terminal

app = typer.Typer(
    name="stillhouse",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Ablation studies for few-step distillation: plan, run, answer, reproduce.",
)

COMMANDS = (
    "plan",
    "run",
    "status",
    "report",
    "measure",
    "reproduce",
    "show",
    "logs",
    "ui",
    "sync",
    "export",
    "bundle",
    "slurm",
    "doctor",
    "schema",
)


PLACES = {
    errno.EROFS: "It is read-only: name another place with --workspace or --output.",
    errno.EACCES: "Ask for the permission, or name another place.",
    errno.EPERM: "Ask for the permission, or name another place.",
    errno.ENOSPC: "Free some space, then type the same command again.",
    errno.EDQUOT: "Free some space, then type the same command again.",
    errno.ENOTDIR: "A file stands where a folder is needed.",
    errno.EISDIR: "A folder stands where a file is needed.",
    errno.ENAMETOOLONG: "Give a shorter name.",
}
"""Errors of a file system that people mend, and how."""


def _register() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"harness.commands.{name}")
        app.command(name, help=module.command.__doc__)(module.command)


def main() -> None:
    """Entry point: errors are printed without a traceback; what nobody foresaw goes to a file."""
    terminal.guard()
    try:
        # Inside `try`: importing the commands may fail, too.
        _register()
        app()
    except HarnessError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        _end(error, str(error.filename or ""), PLACES.get(error.errno or 0, ""))
    except Exception as error:  # a bug, or a machine that fails in a way that nobody foresaw
        _end(error)


def _end(error: Exception, place: str = "", remedy: str = "") -> NoReturn:
    if place and remedy:
        typer.echo(f"{place}: {os.strerror(getattr(error, 'errno', 0))}. {remedy}", err=True)
        sys.exit(HarnessError.exit_code)
    from harness.unexpected import report_unexpected

    typer.echo(report_unexpected(error), err=True)
    sys.exit(UNEXPECTED)


if __name__ == "__main__":
    main()
