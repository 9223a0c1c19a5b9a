"""The report as Markdown: for a README, a pull request, or a reader without a browser."""

from __future__ import annotations

from harness.analyse import formats, tables, words
from harness.analyse.answer import Answer
from harness.journal import History
from harness.plan import Plan
from harness.printable import code
from harness.printable import markdown as plain
from harness.report import facts
from harness.workspace import Workspace


def markdown(
    answer: Answer, plan: Plan, history: History, workspace: Workspace | None = None
) -> str:
    """Question, verdicts in words, tables, compute, commands and fingerprints.

    `workspace` is named in the commands; see `facts.commands`.
    """
    parts = [f"# {plain(answer.question)}", plain(answer.headline)]
    parts.append(f"Study `{answer.study}`{', ' + plain(answer.scope) if answer.scope else ''}.")
    declared = [v for v in answer.verdicts if v.declared]
    if declared:
        lines = []
        for v in declared:
            claim = plain(v.claim or v.metric)
            # A path from the root of the repository, wherever in it this is pasted.
            read = f"[what this means](/{words.guide(v.kind)})"
            lines.append(
                f"- {words.SYMBOLS[v.verdict]} **{v.id}** ({claim}): {plain(v.words)} {read}"
            )
            lines += [f"  - {plain(told)}" for told in (words.narrower(v, answer.scope),) if told]
            if v.spread:
                lines.append(f"  - standard error: {words.spread(v.spread)}")
            lines += [f"  - size: {plain(told)}" for told in (words.sizes(v.sizes),) if told]
            lines += [f"  - {plain(note)}" for note in v.notes]
        parts += ["## Answer", "\n".join(lines)]
    if answer.amendments:
        lines = [f"- {plain(amendment.words)}" for amendment in answer.amendments]
        parts += ["## Changes of the study file since its first run", "\n".join(lines)]
    if answer.warnings:
        parts += ["## Warnings", "\n".join(f"- {plain(w)}" for w in answer.warnings)]
    printed = [formats.to_markdown(t).rstrip() for t in tables.tables(answer) if t.printed_columns]
    parts += ["## Results", *printed]
    parts += [f"No interaction: {plain(told)}." for told in answer.left_out]
    parts += ["## Compute", plain(facts.compute(answer))]
    lines = [
        f"- {plain(what)}: {code(line)}" for what, line in facts.commands(answer, plan, workspace)
    ]
    parts += ["## Reproduce", "In the folder of the project:", "\n".join(lines)]
    marks = facts.fingerprints(answer, plan, history)
    lines = [f"- {plain(name)}: {code(' ; '.join(values))}" for name, values in marks]
    parts += ["## Fingerprints", "\n".join(lines)]
    parts += ["## How to read this", "\n".join(f"- {line}" for line in facts.method(answer))]
    return "\n\n".join(parts) + "\n"
