"""What must hold after any fault, once the same command was given again: journal, files, MLflow.

Nothing lost, nothing twice, statuses true, one MLflow run per (study, key), resumed training equal
to undisturbed training bit for bit. `problems` lists what does not hold; `assert_clean` wants none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.journal import attempts, claims
from harness.journal.attempts import ReportLine
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.trial import key_of
from harness.journal.workspace import Workspace
from harness.running.study_status import study_status
from harness.tracking.run_write import TAG

ENDINGS = ("done", "diverged")


@dataclass(frozen=True)
class Told:
    """What one finished trial said: `values[name, step]`, and its student's files."""

    values: dict[tuple[str, int], float]
    measured: frozenset[tuple[str, int]]
    student: dict[str, bytes]


Undisturbed = dict[str, Told]
"""By trial key, from the same study run without a fault."""


def undisturbed(workspace: Workspace) -> Undisturbed:
    """What the trials of a workspace said and made, to compare others with."""
    found = {}
    for key, trial in History.read([workspace.journal]).trials.items():
        assert trial.complete is not None, f"{key} is {trial.state}"
        folder = _folder(workspace, trial.complete)
        found[key] = _told(folder, attempts.read_reports(folder))
    return found


def assert_clean(
    workspace: Workspace, expected: Undisturbed, study: str = "demo", uri: str | None = None
) -> None:
    """Fail with everything that does not hold; `uri` is MLflow's address, where there is one."""
    found = problems(workspace, expected, study, uri)
    assert not found, "\n".join(found)


def problems(
    workspace: Workspace, expected: Undisturbed, study: str = "demo", uri: str | None = None
) -> list[str]:
    """Everything that does not hold, a line each."""
    history = History.read([workspace.journal])
    found = [f"journal: {warning}" for warning in history.warnings]
    found += _closings(workspace)
    if set(history.trials) != set(expected):
        found.append(f"journal: trials {sorted(history.trials)}, expected {sorted(expected)}")
    for key, told in expected.items():
        if key in history.trials:
            found += [f"{key}: {p}" for p in _trial(workspace, history.trials[key], told)]
    standing = study_status(study, history, workspace)
    if standing.counts != {"done": len(expected)} or standing.running_on:
        found.append(f"status: says {standing.counts}, run by {standing.running_on or 'nobody'}")
    if not standing.report:
        found.append("report: there is none")
    if uri is not None:
        found += [f"mlflow: {p}" for p in _mlflow(workspace, history, expected, study, uri)]
    return found


def _closings(workspace: Workspace) -> Iterator[str]:
    """Each attempt is opened once and closed once, in all journal files together."""
    seen: Counter[tuple[str, str, int, str]] = Counter()
    for file in sorted(workspace.journal.glob("*.jsonl")):
        for line in file.read_text().split("\n"):
            try:
                record: dict[str, Any] = json.loads(line)
            except ValueError:
                continue  # a torn last line; others are among the history's warnings
            if record["type"] in ("opened", "closed"):
                seen[record["type"], record["key"], record["attempt"], record["nonce"]] += 1
    for (kind, key, attempt, nonce), count in seen.items():
        if count > 1:
            yield f"{key}: attempt {attempt}-{nonce} was {kind} {count} times"
        if kind == "opened" and ("closed", key, attempt, nonce) not in seen:
            yield f"{key}: attempt {attempt}-{nonce} was never closed"


def _trial(workspace: Workspace, trial: TrialHistory, expected: Told) -> Iterator[str]:
    complete = trial.complete
    if complete is None:
        yield f"is {trial.state}, without a result"
        return
    numbers = [a.opened.attempt for a in trial.ordered]
    if len(numbers) != len(set(numbers)):
        yield f"two attempts of one number: {numbers}"
    for attempt in trial.ordered:
        yield from (f"attempt {attempt.folder_name} {p}" for p in _ending(attempt, complete))
        if not _folder(workspace, attempt).is_dir():
            yield f"attempt {attempt.folder_name} has no folder"
    root = workspace.trial(trial.key)
    known = {attempt.folder_name for attempt in trial.ordered}
    for folder in sorted((root / "attempts").iterdir()):
        if folder.name not in known and attempts.measurements(attempts.read_reports(folder)):
            yield f"{folder.name} holds a result that the journal does not know"
    content = json.loads((root / "trial.json").read_text())
    parts = content["recipe"], content["replicate"], content["data"]
    if key_of(*parts, subject=content["subject"]) != trial.key:
        yield "trial.json is of another trial"
    if claims.is_claimed(claims.trial_lock(workspace, trial.key)):
        yield "is still claimed"
    yield from _attempt(_folder(workspace, complete), complete, expected)


def _ending(attempt: Attempt, complete: Attempt) -> Iterator[str]:
    closed = attempt.closed
    if closed is None:
        return  # told by `_closings`
    if attempt is not complete and closed.state in ENDINGS:
        yield f"is {closed.state} as well"
    if attempt is not complete and not closed.reason:
        yield f"is {closed.state} for no reason"
    if closed.seconds < 0 or closed.at < attempt.opened.at - 1e-3:
        yield f"took {closed.seconds} s, or ended before it began"


def _attempt(folder: Path, complete: Attempt, expected: Told) -> Iterator[str]:
    """The attempt that counts is whole, tells everything once, and equals the undisturbed one."""
    text = (folder / attempts.REPORTS).read_text()
    lines = attempts.read_reports(folder)
    if text.count("\n") != len(lines):
        yield "reports.jsonl holds a torn line"
    counted = Counter((n, line.report.step) for line in lines for n in line.report.metrics)
    for (name, step), count in counted.items():
        if count > 1:
            yield f"{name} at step {step} is told {count} times"
    told = _told(folder, lines)
    for place in sorted(expected.values.keys() | told.values.keys()):
        there, right = told.values.get(place), expected.values.get(place)
        if there != right:
            yield f"{place[0]} at step {place[1]} is {there}, undisturbed {right}"
    if told.student != expected.student:
        yield "its student is not that of undisturbed training"
    assert complete.closed is not None
    closed = {(n, m.step): v for m in complete.closed.measurements for n, v in m.metrics.items()}
    if closed != {place: expected.values[place] for place in expected.measured}:
        yield f"the journal's measurements are {closed}"
    for artifact in complete.closed.artifacts:
        if not (folder / artifact.path).exists():
            yield f"{artifact.path} is recorded and not there"
    for left in folder.rglob("*"):
        if "checkpoint" in left.name or left.name.startswith(".") or left.suffix == ".tmp":
            yield f"{left.name} is left over"


def _mlflow(
    workspace: Workspace, history: History, expected: Undisturbed, study: str, uri: str
) -> Iterator[str]:
    """One run per key, arm and study; ended; every point once and none missing."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        yield "there is no experiment"
        return
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    kinds = Counter(run.data.tags.get(TAG + "kind", "nobody's") for run in runs)
    arms = {t.complete.opened.trial.arm for t in history.trials.values() if t.complete}
    if kinds != Counter(study=1, arm=len(arms), trial=len(expected)):
        yield f"runs by kind: {dict(kinds)}"
    if len({r.data.tags.get(TAG + "arm") for r in runs if _kind(r) == "arm"}) != len(arms):
        yield "an arm has two runs"
    by_key: dict[str, list[Any]] = {key: [] for key in expected}
    for run in runs:
        if run.info.status != "FINISHED":
            yield f"{run.info.run_name} is {run.info.status}"
        if _kind(run) == "trial":
            by_key.setdefault(run.data.tags[TAG + "key"], []).append(run)
    parents = [r.info.run_id for r in runs if _kind(r) == "study"]
    for key, mine in by_key.items():
        if len(mine) != 1:
            yield f"{key} has {len(mine)} runs"
            continue
        trial = history.trials.get(key)
        if trial is not None and trial.complete is not None and key in expected:
            there = _run(client, mine[0], trial.complete, expected[key])
            yield from (f"{key}: {problem}" for problem in there)
        if mine[0].data.tags.get("mlflow.parentRunId") not in parents:
            yield f"{key} is not below its study"


def _run(
    client: Any,
    run: Any,
    complete: Attempt,
    expected: Told,
) -> Iterator[str]:
    tags = run.data.tags
    if tags.get(TAG + "state") != "done" or tags.get(TAG + "attempt") != complete.folder_name:
        yield f"says {tags.get(TAG + 'state')} of attempt {tags.get(TAG + 'attempt')}"
    if run.info.end_time is None or run.info.end_time < run.info.start_time:
        yield f"ended at {run.info.end_time}, began at {run.info.start_time}"
    there: dict[tuple[str, int], list[float]] = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            there.setdefault((name.removeprefix("more/"), point.step), []).append(point.value)
    for place, values in there.items():
        if len(values) > 1:
            yield f"{place[0]} at step {place[1]} was written {len(values)} times"
    for place in sorted(expected.values.keys() | there.keys()):
        value, right = there.get(place, [None])[-1], expected.values.get(place)
        if value != right:
            yield f"{place[0]} at step {place[1]} is {value}, undisturbed {right}"
    names = {f.path for f in client.list_artifacts(run.info.run_id)}
    if "recipe.json" not in names:
        yield f"lacks recipe.json: {sorted(names)}"
    shown = [f.path for f in client.list_artifacts(run.info.run_id, "images")]
    steps = {step for _, step in expected.measured}
    pictures = [p for p in shown if p.endswith(".png")]
    if len(pictures) != len(steps):
        yield f"shows {len(pictures)} pictures of {len(steps)} measurements"


def _kind(run: Any) -> str:
    return str(run.data.tags.get(TAG + "kind", ""))


def _told(folder: Path, lines: list[ReportLine]) -> Told:
    reports = [line.report for line in lines]
    student = folder / "student"
    return Told(
        values={(n, r.step): v for r in reports for n, v in r.metrics.items()},
        measured=frozenset((n, r.step) for r in reports if r.measured for n in r.metrics),
        student={f.name: f.read_bytes() for f in sorted(student.rglob("*")) if f.is_file()},
    )


def _folder(workspace: Workspace, attempt: Attempt) -> Path:
    return workspace.trial(attempt.opened.key) / "attempts" / attempt.folder_name
