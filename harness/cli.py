"""`stillhouse`: the command line. Thin; every command lives in `harness/commands/`."""

from __future__ import annotations

import importlib
import sys

import typer

from harness import terminal
from harness.errors import HarnessError

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


def _register() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"harness.commands.{name}")
        app.command(name, help=module.command.__doc__)(module.command)


def main() -> None:
    """Entry point: user errors are printed without a traceback, with their exit code."""
    terminal.guard()
    _register()
    try:
        app()
    except HarnessError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
