"""`stillhouse status`: how studies stand. Never writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import AnyWorkspace, AsJson

if TYPE_CHECKING:
    from harness.journal.history import History
    from harness.journal.workspace import Workspace
    from harness.running.study_status import StudyStatus


def command(
    study: Annotated[
        str | None, typer.Argument(help="Study file, its folder, or name; default every study.")
    ] = None,
    workspace: AnyWorkspace = None,
    as_json: AsJson = False,
) -> None:
    """Say how studies stand: done, running, interrupted, failed, and what to type next.

    Example: stillhouse status studies/quickstart/study.yaml
    """
    from harness.commands.opening import tell_runner
    from harness.journal.gc_pauses import paused
    from harness.journal.history import History
    from harness.journal.workspace import history_folders
    from harness.running.study_status import recorded_workspace, study_status
    from harness.study.yaml_file import name_in

    file = _file(study)
    place = recorded_workspace(workspace, file)
    tell_runner(file)
    # What is read all stays, so there is nothing to collect; how trials stand needs no numbers.
    with paused():
        history = History.read(history_folders(place, file), numbers=False)
        names = [name_in(file) if file else study] if study else sorted(history.planned)
        standings = [study_status(name, history, place) for name in names]
        changed = {
            s.study: _changed(s.study, file or Path(s.study_file), history) for s in standings
        }
    if as_json:
        studies = [{**s.model_dump(), "changed": changed[s.study]} for s in standings]
        content = {"workspace": str(place.root), "studies": studies}
        typer.echo(json.dumps(content))
        return
    typer.echo(f"workspace {place.root}")
    for standing in standings:
        study_file = str(file or standing.study_file)
        for line in _lines(standing, study_file, changed[standing.study], place):
            typer.echo(line)
    for warning in history.warnings:
        typer.echo(f"warning   {warning}")


def _file(study: str | None) -> Path | None:
    from harness.journal.workspace import file_of

    file = file_of(Path(study)) if study else None
    return file if file is not None and file.is_file() else None


def _changed(study: str, file: Path, history: History) -> str:
    """How the file is another than the one that was run last; empty if it is not, or not there.

    One that was written before that run is not read: a study and its recipe take a while.
    """
    from harness.errors import HarnessError
    from harness.study.load import load_study

    latest = history.latest_plan(study)
    if latest is None or not file.is_file():
        return ""
    recipe = latest.study_json.get("recipe")
    files = [file, file.parent / recipe] if isinstance(recipe, str) else [file]
    if all(f.stat().st_mtime < latest.at for f in files if f.exists()):
        return ""
    try:
        same = load_study(file).digest() == latest.digest
    except HarnessError:
        return "it cannot be read any more"
    return "" if same else "it is another than at the last run"


def _lines(standing: StudyStatus, study: str, changed: str, place: Workspace) -> list[str]:
    from harness.journal.command_line import typed
    from harness.journal.trial import SHORT
    from harness.text.spelling import last_words

    total = len(standing.trials)
    counted = ", ".join(f"{count} {state}" for state, count in standing.counts.items())
    left = f"; {standing.to_run} to run" if standing.to_run and not changed else ""
    elsewhere = sum(bool(t.made_in) for t in standing.trials)
    left += f"; {elsewhere} made in other workspaces" if elsewhere else ""
    lines = [f"{standing.study}  {total} trials: {counted}{left}"]
    if standing.running_on:
        lines.append(f"  running now ({standing.running_on})")
    lines += [f"  looks       {text}" for text in standing.looks]
    for state in ("interrupted", "failed", "diverged", "killed"):
        trials = [t for t in standing.trials if t.state == state]
        for trial in trials[:5]:
            reason = f"  {last_words(trial.reason, 100)}" if trial.reason else ""
            lines.append(
                f"  {state:<11} {trial.short}{reason}  -> "
                + typed("logs", trial.key[:SHORT], workspace=place)
            )
        if len(trials) > 5:
            lines.append(f"  {state:<11} and {len(trials) - 5} more (--json lists all)")
    if standing.report:
        lines.append(f"  report      {standing.report}")
    missing = standing.to_run
    if changed:
        lines.append(
            f"  changed     {study}: {changed}; "
            f"`{typed('plan', study=study, workspace=place)}` says what is new"
        )
    elif missing and not standing.running_on:
        again = typed("run", study=study, workspace=place) if study else "run its study file"
        most = "at most " if standing.looks else ""
        lines.append(f"  next        {again}  # {most}{missing} trials to run")
    return lines
