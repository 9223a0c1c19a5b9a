"""What `run` prints at its end: results, verdicts in words, where to look and what to type next."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.model import Answer, ArmRow, Cell
from harness.analysis.sentences import narrower
from harness.journal.command_line import typed, typed_reproduce
from harness.journal.trial import SHORT
from harness.journal.workspace import Workspace
from harness.running.run_study import RunResult
from harness.text.secrets import without_credentials
from harness.tracking.address import sqlite_uri, tracking_uri
from harness.tracking.ownership import experiment_of

CAUTIONS = 4
"""What may make the comparisons unfair, shown before the rest is only counted."""


def lines(
    result: RunResult, *, tracked: bool, workspace: Workspace, mlflow: str | None = None
) -> list[str]:
    """The end of a run, line by line.

    Args:
        result: what the run left behind.
        tracked: whether MLflow was filled.
        workspace: named in the commands printed where they would not find it by themselves.
        mlflow: its address as given, if it was.
    """
    out: list[str] = []
    if result.answer is not None:
        out += ["", *table(result.answer, result.headline), ""]
        for v in (v for v in result.answer.verdicts if v.declared):
            out.append(f"{v.id:<6} {v.verdict}{'' if v.planned else ' (exploratory)'}: {v.words}")
            claim = narrower(v, result.answer.scope)
            out += [f"       {claim}"] if claim else []
        if result.answer.about == "checkpoints":
            out.append(_about_checkpoints(result.answer))
        elif result.answer.scope:
            out.append(f"Claims are about recipes {result.answer.scope}.")
        # what the plan warned of was said at the start
        beside = [text for text in result.answer.warnings if text not in result.plan.warnings]
        out += [f"warning    {text}" for text in beside[:CAUTIONS]]
        if len(beside) > CAUTIONS:
            out.append(f"warning    and {len(beside) - CAUTIONS} more, in the report")
    tally = result.tally
    if tally is not None and tally.ended:
        states = ("done", "diverged", "failed", "killed")
        counted = ", ".join(f"{tally.count(s)} {s}" for s in states if tally.count(s))
        out += ["", f"this run   {counted}"]
        failed = [key for key, ended in tally.ended.items() if ended.state == "failed"]
        out += [
            f"failed     {typed('logs', key[:SHORT], workspace=workspace)}" for key in failed[:3]
        ]
    if result.left:
        counted = ", ".join(f"{count} {state}" for state, count in result.left.items())
        out.append(
            f"left       {counted}, of other shards; the last one to end answers for all. What a "
            "lost shard leaves is run by the same command without --shard"
        )
    if result.report is not None:
        out.append(f"report     {result.report}")
    key = _example(result)
    if key:
        out.append(f"reproduce  {typed_reproduce(key, workspace, Path(result.plan.study_file))}")
    if tracked and result.report is not None:
        uri = tracking_uri(workspace, mlflow)
        own = uri == sqlite_uri(workspace.database)  # `ui` shows no other
        where = typed("ui", workspace=workspace) if own else without_credentials(uri)
        name = experiment_of(workspace, uri, result.plan.study)
        out.append(f"mlflow     {where}" + (f"  # experiment {name}" * (name != result.plan.study)))
    out += [f"warning    {text}" for text in result.warnings]
    return out


def _about_checkpoints(answer: Answer) -> str:
    """What claims about checkpoints from elsewhere are, and are not."""
    if all(v.about == "checkpoints" for v in answer.verdicts):
        return (
            "Claims are about these checkpoints, not about how they were made: how much another "
            "training would differ is not known from one of each."
        )
    return f"Claims are {answer.scope}."


def table(answer: Answer, headline: tuple[str, ...], limit: int = 4) -> list[str]:
    """Arms by primary, judged and other headline metrics, with intervals and n of N."""
    candidates = [name for name in answer.metrics if not headline or name in headline]
    judged = {v.metric for v in answer.verdicts if v.declared}
    names = sorted(candidates, key=lambda n: (n != answer.primary, n not in judged))[:limit]
    rows = [[" ", "n", *names]]
    ordered = sorted(answer.arms, key=lambda row: row.kind != "reference")
    for row in ordered:
        rows.append([_name(row), _n(row), *(_cell(row.cells.get(name)) for name in names)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _name(row: ArmRow) -> str:
    if row.kind == "reference":
        return f"({row.arm})"
    return row.arm + (" *" if row.baseline else "")


def _n(row: ArmRow) -> str:
    return f"{row.n_done}/{row.n_planned}"


def _cell(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return "-"
    text = f"{cell.mean:.4g}"
    if cell.lo is not None and cell.hi is not None:
        text += f" [{cell.lo:.4g}, {cell.hi:.4g}]"
    return text


def _example(result: RunResult) -> str:
    """A trial worth reproducing: the first finished one of the baseline, else of any arm."""
    if result.answer is None:
        return ""
    rows = [r for r in result.answer.arms if r.kind == "arm" and r.n_done and r.keys]
    rows.sort(key=lambda row: not row.baseline)
    if not rows:
        return ""
    row = rows[0]
    finished = {rep for cell in row.cells.values() for rep in cell.values}
    return row.keys[min(finished & set(row.keys), default=min(row.keys))]
