"""`stillhouse show`: everything recorded about one trial."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import AnyWorkspace, AsJson

if TYPE_CHECKING:
    from harness.journal.history import Attempt, TrialHistory
    from harness.journal.workspace import Workspace


def command(
    key: Annotated[str, typer.Argument(help="Trial key, or its first digits.")],
    workspace: AnyWorkspace = None,
    as_json: AsJson = False,
) -> None:
    """Show one trial: identity, attempts, metrics, artifacts.

    Example: stillhouse show k1f9c2a7b
    """
    from harness.errors import HarnessError
    from harness.journal.command_line import typed
    from harness.journal.history import History
    from harness.journal.workspace import history_folders
    from harness.running.study_status import only_key, recorded_workspace

    place = recorded_workspace(workspace)
    history = History.read(history_folders(place))
    trial = history.trials[only_key(history, key, place)]
    if not trial.attempts:
        listing = typed("status", workspace=place)
        raise HarnessError(
            f"no attempt of trial {trial.key} can be read, only that its results were superseded. "
            f"`{listing}` says which lines of the journals cannot be read."
        )
    content = _content(trial, place)
    if as_json:
        typer.echo(json.dumps(content))
        return
    for line in _lines(content):
        typer.echo(line)


def _content(trial: TrialHistory, workspace: Workspace) -> dict[str, Any]:
    from harness.running.study_status import trial_status

    last = trial.ordered[-1].opened
    standing = trial_status(last.trial, trial, workspace)
    return {
        "key": trial.key,
        "short": last.trial.short,
        "kind": last.trial.kind,
        "study": last.study,
        "arm": last.trial.arm,
        "levels": last.trial.levels,
        "replicate": last.trial.replicate,
        "state": standing.state,
        "recipe": last.trial.recipe,
        "data": last.trial.data,
        "folder": str(workspace.trial(trial.key)),
        "attempts": [_attempt(a, workspace) for a in trial.ordered],
    }


def _attempt(attempt: Attempt, workspace: Workspace) -> dict[str, Any]:
    opened, closed = attempt.opened, attempt.closed
    content = opened.model_dump(mode="json", exclude={"type", "key", "trial"})
    content["elsewhere"] = opened.is_elsewhere(workspace.id)
    content["closed"] = closed.model_dump(mode="json", exclude={"type", "key"}) if closed else None
    return content


def _lines(content: dict[str, Any]) -> list[str]:
    lines = [
        f"{content['short']}  {content['state']}",
        f"key        {content['key']}",
        f"study      {content['study']}",
        f"levels     {', '.join(f'{k}={v}' for k, v in content['levels'].items()) or '-'}",
        f"folder     {content['folder']}",
        f"recipe     {json.dumps(content['recipe'], sort_keys=True)}",
    ]
    for attempt in content["attempts"]:
        closed = attempt["closed"]
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt["at"]))
        how = f"{closed['state']} in {closed['seconds']:.1f} s" if closed else "not closed"
        reason = f"  {closed['reason']}" if closed and closed["reason"] else ""
        resumed = (
            f"  continues attempt {attempt['resumed_from']}" if attempt["resumed_from"] else ""
        )
        lines.append(f"attempt {attempt['attempt']}  {began}  {how}{reason}{resumed}")
        lines.append(
            f"  {attempt['mode']} on {attempt['host']}, {attempt['device']}; protocol "
            f"{attempt['protocol_name']} {attempt['protocol'][:12]}, code {attempt['code'][:12]}"
        )
        if attempt["study"] != content["study"]:  # studies share trials, each with code of its own
            lines.append(f"  for study {attempt['study']}")
        if attempt["elsewhere"]:
            lines.append(f"  made elsewhere, in workspace {attempt['workspace']}")
        for measured in closed["measurements"] if closed else []:
            for name, value in measured["metrics"].items():
                shown = "not finite" if value is None else f"{value:.6g}"
                lines.append(f"  step {measured['step']:<6} {name:<28} {shown}")
    return lines
