"""`stillhouse`: the command line. Thin; every command lives in `harness/commands/`."""

from __future__ import annotations

import importlib
import sys

import typer

from harness import terminal
from harness.errors import UNEXPECTED, HarnessError

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
    """Entry point: errors are printed without a traceback; what nobody foresaw goes to a file."""
    terminal.guard()
    try:
        _register()
        app()
    except HarnessError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except Exception as error:  # a bug, or a machine that fails in a way that nobody foresaw
        from harness.unexpected import told

        typer.echo(told(error), err=True)
        sys.exit(UNEXPECTED)


if __name__ == "__main__":
    main()
