"""The report as Markdown: for a README, a pull request, or a reader without a browser."""

from __future__ import annotations

from harness.analyse import formats, tables, words
from harness.analyse.answer import Answer
from harness.journal import History
from harness.plan import Plan
from harness.report import facts
from harness.workspace import Workspace


def markdown(
    answer: Answer, plan: Plan, history: History, workspace: Workspace | None = None
) -> str:
    """Question, verdicts in words, tables, compute, commands and fingerprints.

    `workspace` is named in the commands; see `facts.commands`.
    """
    parts = [f"# {answer.question}", answer.headline]
    parts.append(f"Study `{answer.study}`{', ' + answer.scope if answer.scope else ''}.")
    declared = [v for v in answer.verdicts if v.declared]
    if declared:
        lines = []
        for v in declared:
            lines.append(
                f"- {words.SYMBOLS[v.verdict]} **{v.id}** ({v.claim or v.metric}): {v.words}"
            )
            lines += [f"  - {note}" for note in v.notes]
        parts += ["## Answer", "\n".join(lines)]
    if answer.amendments:
        lines = [f"- {amendment.words}" for amendment in answer.amendments]
        parts += ["## Changes of the study file since its first run", "\n".join(lines)]
    if answer.warnings:
        parts += ["## Warnings", "\n".join(f"- {w}" for w in answer.warnings)]
    printed = [formats.to_markdown(t).rstrip() for t in tables.tables(answer) if t.printed_columns]
    parts += ["## Results", *printed]
    parts += ["## Compute", facts.compute(answer)]
    lines = [f"- {what}: `{line}`" for what, line in facts.commands(answer, plan, workspace)]
    parts += ["## Reproduce", "In the folder of the project:", "\n".join(lines)]
    marks = facts.fingerprints(answer, plan, history)
    lines = [f"- {name}: `{' ; '.join(values)}`" for name, values in marks]
    parts += ["## Fingerprints", "\n".join(lines)]
    parts += ["## How to read this", "\n".join(f"- {line}" for line in facts.method(answer))]
    return "\n\n".join(parts) + "\n"
