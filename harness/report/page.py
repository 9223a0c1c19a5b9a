"""One self-contained HTML page per study, with Markdown and tables beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.analysis import sentences
from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.model import Answer, ArmRow, Interaction, Verdict
from harness.analysis.observed import observe
from harness.errors import NotJudgedError, WorkspaceError
from harness.journal.prompt_values import PromptTables
from harness.journal.workspace import RESULTS
from harness.planning.looks import looks_in_words
from harness.planning.plan import Plan, day
from harness.report import facts, panels, plots, tables
from harness.report.cards import cards
from harness.report.curves import curves
from harness.report.facts import markdown
from harness.report.results import write_results
from harness.text.printable import shown

MANY_ARMS = 60
"""Above this many arms only the primary metric is plotted arm by arm; tables hold the others."""
MOST_ROWS = 2000
"""Longer tables are cut in the page and whole beside it."""
TEMPLATES = Path(__file__).parent / "templates"


def write_report(answered: AnsweredStudy) -> Path:
    """Write report.html, report.md, tables/ and results/ into the study's folder.

    The same inputs give the same bytes. `results/` holds what `export` writes: the records from
    which others reproduce a trial; it stays as it is where the study file was edited and not run.

    The page loads nothing and needs no script, so it can be mailed, archived, or shown in MLflow's
    sandboxed frame.

    Learning curves, environments and panels are found through the history; the attempts' pictures
    are in the workspace, where the report goes.

    Returns:
        the path of report.html.

    Raises:
        WorkspaceError: if it cannot be written there.
    """
    folder = answered.workspace.study(answered.answer.study)
    try:
        return _written(answered, folder)
    except OSError as error:
        raise WorkspaceError(
            f"the report cannot be written: {error.filename or folder}: {error.strerror or error}. "
            "A copy of the workspace that can be written, named with --workspace, will do"
        ) from error


def _written(answered: AnsweredStudy, folder: Path) -> Path:
    plan = answered.plan
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    latest = answered.history.latest_plan(plan.study)
    ran = latest is not None and latest.digest == plan.digest
    with suppress(NotJudgedError):  # nothing has a result yet
        if ran or not (folder / RESULTS).exists():  # of an edited file nothing is on record
            write_results(answered, folder / RESULTS, with_tables=False)
    for name, text in report_files(answered).items():
        _write(folder / name, text)
    return folder / "report.html"


def report_files(answered: AnsweredStudy, *, portable: bool = False) -> dict[str, str]:
    """Relative path to text of what `write_report` writes, the page last.

    Commands name the workspace where they need it; with `portable` no page names a folder.
    """
    files = {}
    for table in tables.tables(answered.answer):
        files[f"tables/{table.name}.csv"] = tables.to_csv(table)
        if table.printed_columns:
            files[f"tables/{table.name}.tex"] = tables.to_latex(table)
            files[f"tables/{table.name}.md"] = tables.to_markdown(table)
    files["report.md"] = markdown(answered, portable=portable)
    files["report.html"] = render(answered, portable=portable)
    return files


def _write(file: Path, text: str) -> None:
    # Renamed into place: whoever has the page open, or uploads it, never reads half of one.
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def render(answered: AnsweredStudy, *, portable: bool = False) -> str:
    """The HTML page as text; see `report_files`."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Plain text only: `Markup`, a class below str, is the page's own and holds no one's
        # characters.
        finalize=lambda word: shown(word) if type(word) is str else word,
    )
    content = _content(answered)
    where = None if portable else answered.workspace
    content["commands"] = facts.commands(answered.answer, answered.plan, where)
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html.j2").render(**content, style=style)


def _content(answered: AnsweredStudy) -> dict[str, Any]:
    answer, plan, history = answered.answer, answered.plan, answered.history
    observed = observe(plan, history, answered.by_prompt or PromptTables(history))
    declared = [v for v in answer.verdicts if v.declared]
    headline = tables.headline_metrics(answer)
    ordered = sorted(headline, key=lambda m: m != answer.primary)
    effect_plots = [p for m in ordered if (p := plots.effect_plot(answer, m)) is not None]
    trade = plots.trade_off(answer)
    many = len(answer.arms) > MANY_ARMS
    exploratory = [v for v in answer.verdicts if not v.declared]
    trials = _trials(answer)
    return {
        "answer": answer,
        "level": f"{100 * (1 - answer.alpha):g} %",
        "meta": _meta(answered),
        "groups": _groups(declared, answer),
        "declared": declared,
        "amendments": [amendment.words for amendment in answer.amendments],
        "first_run": day(answer.frozen_at) if answer.frozen_at else "",
        "aliases": tables.alias_table(answer) if answer.fraction else None,
        "symbols": sentences.SYMBOLS,
        "cards": cards(declared, answer, plan, observed),
        "arm_plots": [plots.arm_plot(answer, m) for m in ordered[: 1 if many else None]],
        "effect_plots": effect_plots,
        "interactions": [_interaction(i) for i in answer.interactions],
        "exploratory": [(v, _figures(v)) for v in exploratory[:MOST_ROWS]],
        "exploratory_cut": max(0, len(exploratory) - MOST_ROWS),
        "agreement": tables.agreement_table(answer),
        "trade": trade,
        "trade_unnumbered": sum(d.number is None for d in trade.dots) if trade else 0,
        "sheet": panels.sheet(answered),
        "metrics": [tables.with_arrow(answer, m) for m in headline],
        "protocol_short": answer.protocol[:12],
        "results": _results(answer, headline),
        "failures": [
            (level, ", ".join(f"{n} {state}" for state, n in states.items()))
            for level, states in answer.failures.items()
        ],
        "trials": trials[:MOST_ROWS],
        "trials_cut": max(0, len(trials) - MOST_ROWS),
        "curves": curves(answer, observed),
        "over": tables.over_words(answer, headline),
        "compute": facts.compute(answer),
        "fingerprints": facts.fingerprints(answered),
        "environment": facts.environment(plan, history),
        "method": facts.method(answer),
        "descriptions": [
            (m, a["description"]) for m, a in answer.metrics.items() if a["description"]
        ],
    }


def _groups(declared: list[Verdict], answer: Answer) -> list[tuple[str, list[Verdict]]]:
    """(heading, verdicts): what was planned before the first run, and what came after it."""
    later = [v for v in declared if not v.planned]
    groups = [("", [v for v in declared if v.planned])]
    if later:
        when = f" ({day(answer.frozen_at)})" if answer.frozen_at else ""
        groups.append((f"Exploratory: added or changed after the first run{when}", later))
    return [(heading, verdicts) for heading, verdicts in groups if verdicts]


def _meta(answered: AnsweredStudy) -> list[tuple[str, str]]:
    answer, plan, study = answered.answer, answered.plan, answered.study
    arms = sum(row.kind == "arm" for row in answer.arms)
    entries = [
        ("scope", answer.scope),
        ("design", f"{study.design}, {arms} arms x {_most(plan)}{plan.replicates} replicates"),
        ("looks", "; ".join(looks_in_words(plan.adaptive) if plan.adaptive else ())),
        ("protocol", answer.protocol_name),
        ("primary metric", answer.primary),
        ("weights measured", study.select),
    ]
    return [(name, value) for name, value in entries if value]


def _most(plan: Plan) -> str:
    return "at most " if plan.adaptive is not None else ""


def _figures(v: Verdict) -> list[str]:
    """Difference, interval, adjusted p, seeds and prompts as printed."""
    n = tables.seeds_words(v)
    why = v.notes[0] if v.notes else ""
    return _printed(v.difference, v.lo, v.hi, v.p_adjusted, n, v.n_prompts, v.level, why)


def _interaction(i: Interaction) -> list[str]:
    changes = [
        f"{factor}: {one} to {two}"
        for factor, one, two in zip(i.factors, i.references, i.levels, strict=True)
    ]
    if i.aliases:
        changes[-1] += f" (or {', '.join(i.aliases)})"
    figures = (i.difference, i.lo, i.hi, i.p_adjusted, str(i.n), i.n_prompts, i.level, i.why)
    return [" with ".join(changes), *_printed(*figures)]


def _printed(
    middle: float | None,
    lo: float | None,
    hi: float | None,
    p: float | None,
    n: str,
    n_prompts: int,
    level: float,
    why: str,
) -> list[str]:
    width = (hi - lo) / 2 if hi is not None and lo is not None else None
    places = sentences.decimals(width, middle or 0.0)
    low, high = (sentences.number(x, places, signed=True) for x in (lo, hi))
    interval = f"{low} to {high} ({sentences.percent(level)})" if width is not None else why or "-"
    return [
        sentences.number(middle, places, signed=True),
        interval,
        sentences.p_value(p).removeprefix("p = ").removeprefix("p "),
        n,
        str(n_prompts or "these"),
    ]


def _results(answer: Answer, headline: Sequence[str]) -> list[dict[str, Any]]:
    best = {m: tables.best_arms(answer, m) for m in headline}
    places = {m: tables.column_places(answer, m) for m in headline}
    return [
        {
            "arm": row.arm,
            "kind": row.kind,
            "baseline": row.baseline,
            "done": f"{row.n_done}/{row.n_planned}",
            "others": [f"{n} {state}" for state, n in row.states.items() if state != "done"],
            "trouble": any(s in row.states for s in ("failed", "diverged")),
            "cells": [_cell(row, m, places[m], best[m]) for m in headline],
            "short_keys": " ".join(k[: tables.SHORT_KEY] for k in row.keys.values()),
        }
        for row in answer.arms
    ]


def _cell(row: ArmRow, metric: str, places: int, best: set[str]) -> dict[str, Any]:
    cell = row.cells[metric]
    interval = tables.why_empty(row, metric)
    if cell.lo is not None and cell.hi is not None:
        interval = f"{sentences.number(cell.lo, places)} to {sentences.number(cell.hi, places)}"
    return {
        "mean": sentences.number(cell.mean, places),
        "interval": interval,
        "best": row.kind == "arm" and row.arm in best,
    }


def _trials(answer: Answer) -> list[dict[str, Any]]:
    places = tables.column_places(answer, answer.primary) if answer.primary in answer.metrics else 3
    return [
        {
            "arm": row.arm,
            "replicate": replicate,
            "key": key,
            "state": row.trial_states.get(replicate, "pending"),
            "value": sentences.number(
                row.cells[answer.primary].values.get(replicate)
                if answer.primary in row.cells
                else None,
                places + 1,
            ),
        }
        for row in answer.arms
        for replicate, key in row.keys.items()
    ]
