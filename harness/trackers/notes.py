"""The note at the top of an experiment page: the answer first, then how to read the page."""

from __future__ import annotations

from harness.analyse import words
from harness.analyse.answer import Answer
from harness.plan import Plan
from harness.printable import code, markdown
from harness.trackers.rows import shorten

NOTE_LIMIT = 16_000


def note(plan: Plan, answer: Answer | None, command: str) -> str:
    """Markdown; its first line is the state of the answer.

    Args:
        plan: the study's plan.
        answer: None while nothing was analysed yet.
        command: what opens these pages, if no server is running; may be empty.
    """
    declared = [v for v in answer.verdicts if v.declared] if answer else []
    lines = [
        markdown(answer.headline)
        if answer
        else f"Not analysed yet: {len(plan.trials)} trials planned."
    ]
    lines += ["", f"**{markdown(plan.question)}**", ""]
    for verdict in declared:
        symbol = words.SYMBOLS[verdict.verdict]
        lines.append(f"- {symbol} **{verdict.id}: {verdict.verdict}.** {markdown(verdict.words)}")
        if told := words.narrower(verdict, answer.scope if answer else ""):
            lines.append(f"  - {markdown(told)}")
        if verdict.amended:
            lines.append(f"  - Exploratory: {markdown(verdict.amended)}.")
    if plan.scope:
        lines += ["", f"Scope: {markdown(plan.scope)}."]
    if answer and answer.amendments:
        lines += [
            "",
            *(f"- Amended: {markdown(amendment.words)}" for amendment in answer.amendments[:10]),
        ]
    if answer and answer.warnings:
        lines += ["", *(f"- Warning: {markdown(text)}" for text in answer.warnings[:10])]
    lines += [
        "",
        "How to read this page: open **Views** and choose",
        "- *Arms*: one row per arm with its mean; `.lo` and `.hi` are the interval, over what the "
        "tag `stillhouse.scope` says; `n_done` of `n_planned` replicates are in; reference rows "
        "stand beside the arms.",
        "- *Trials*: one row per arm and replicate, by its key.",
        "- *Failures*: what failed, diverged or was stopped, and why.",
        "- *Training*: curves over cycles.",
        "",
        f"The full report is the artifact `report.html` of the run `{plan.study}`. A run's "
        "`stillhouse.key` tag is what `reproduce` takes. Metrics of one checkpoint "
        "are compared within one protocol only: see the tag `stillhouse.protocol`. What "
        f"the verdicts mean, kind by kind: `{words.GUIDE}` of Stillhouse.",
    ]
    if command:
        lines += ["", f"These pages: {code(command)}."]
    return shorten("\n".join(lines), NOTE_LIMIT)
