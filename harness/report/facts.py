"""What surrounds the numbers: compute used, how to reproduce, environment, method; report.md."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness.analysis import sentences
from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.model import Answer
from harness.analysis.observed import contributing
from harness.analysis.tradeoffs import FEWEST_ARMS
from harness.journal.command_line import NAME, path_word, typed
from harness.journal.history import Attempt, History
from harness.journal.workspace import FOLDER, Workspace, in_project, project_of
from harness.planning.plan import Plan
from harness.report import tables
from harness.text.printable import code
from harness.text.printable import markdown as plain


def seconds_in_words(seconds: float) -> str:
    """`31 s`, `12.4 min` or `5.20 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def compute(answer: Answer) -> str:
    """One paragraph in the form asked for by NeurIPS checklist item 8, failures included."""
    if not answer.attempts:
        return "Nothing has run yet."
    where = ", ".join(answer.devices) or "a device that was not recorded"
    parts = [
        f"All {answer.attempts} attempts of this study's trials and reference rows together took "
        f"{seconds_in_words(answer.seconds_all)} of wall time on {where} ({_gpu(answer)})."
    ]
    if answer.trial_seconds:
        least, median, most = (seconds_in_words(s) for s in answer.trial_seconds)
        parts.append(f"One trial takes {median} in the median ({least} to {most}).")
    if answer.attempts_failed:
        share = 100 * answer.seconds_failed / answer.seconds_all if answer.seconds_all else 0
        parts.append(
            f"Included are {answer.attempts_failed} attempts whose result does not count (failed, "
            f"killed, superseded, or no longer planned): "
            f"{seconds_in_words(answer.seconds_failed)}, {share:.0f} % of the time."
        )
    else:
        parts.append("No attempt failed or was thrown away.")
    if answer.attempts_cut_off:
        parts.append(
            f"{answer.attempts_cut_off} more attempts are running or were cut off; their time is "
            "not known."
        )
    parts.append(
        "Attempts made for another study that shares these trials are counted in full; smoke runs "
        "and work outside this workspace are not counted."
    )
    return " ".join(parts)


def _gpu(answer: Answer) -> str:
    return f"{answer.gpu_hours:.2f} GPU-hours" if answer.gpu_hours else "no GPU"


def commands(
    answer: Answer, plan: Plan, workspace: Workspace | None = None
) -> list[tuple[str, str]]:
    """(what it does, command line) for one trial and for the whole study.

    To be typed in the project's folder. A workspace is named only where it is not the project's
    own; None leaves it out, for pages that carry no path of a machine.
    """
    rows = sorted(answer.arms, key=lambda r: (r.kind == "reference", not r.baseline))
    keys = [
        (row.arm, r, key)
        for row in rows
        for r, key in row.keys.items()
        if row.trial_states.get(r) == "done"
    ]
    lines = []
    study_file = Path(plan.study_file)
    file = in_project(study_file) if study_file.is_absolute() else plan.study_file
    names_workspace = workspace is not None and study_file.is_absolute()
    place = _elsewhere(study_file, workspace) if names_workspace and workspace else []
    if keys:
        arm, replicate, key = keys[0]
        again = typed("reproduce", "--study", path_word(file), *place, key, name=NAME)
        lines.append((f"one trial ({arm}, replicate {replicate})", again))
    for what, command in (
        ("what is planned, done and missing", "plan"),
        ("the whole study, only what is missing", "run"),
        ("this page again", "report"),
    ):
        lines.append((what, typed(command, *place, study=file, name=NAME)))
    return lines


def _elsewhere(file: Path, workspace: Workspace) -> list[str]:
    """From the project's folder, whatever a variable says here: the page is read later."""
    project = project_of(file)
    usual = (project / FOLDER).resolve() == workspace.root
    return [] if usual else ["--workspace", path_word(os.path.relpath(workspace.root, project))]


def fingerprints(answered: AnsweredStudy) -> list[tuple[str, list[str]]]:
    """(name, values) of what identifies the results; several values where they differ."""
    answer, plan, history = answered.answer, answered.plan, answered.history
    attempts = _attempts(plan, history)
    codes = _distinct(a.opened.code for a in attempts)
    rows = [
        ("study digest", [plan.digest]),
        (f"protocol {answer.protocol_name}", [answer.protocol]),
        ("data", _distinct(t.trial.data for t in plan.trials if t.trial.kind == "trial")),
        ("code of the results", codes or ["-"]),
    ]
    now = _distinct((t.fingerprints or plan.fingerprints).code for t in plan.trials)
    if set(codes) - set(now):
        rows.append(("code of the files now", now))
    rows.append(("device", _distinct(a.opened.device for a in attempts) or ["not recorded"]))
    rows.append(("made in workspace", _distinct(a.opened.workspace for a in attempts)))
    return [(name, values) for name, values in rows if values]


def environment(plan: Plan, history: History) -> list[tuple[str, list[str]]]:
    """(package, versions) of the attempts that count; several where they differ."""
    environments = [a.opened.environment for a in _attempts(plan, history) if a.opened.environment]
    names = sorted({n for e in environments for n in e}, key=lambda n: (n != "python", n))
    return [(n, _distinct(e.get(n, "absent") for e in environments)) for n in names]


def _attempts(plan: Plan, history: History) -> list[Attempt]:
    records = [history.trials[t.trial.key] for t in plan.trials if t.trial.key in history.trials]
    return [a for record in records for a in contributing(record, plan.fingerprints.protocol)]


def _distinct(values: Iterable[str]) -> list[str]:
    return sorted({v for v in values if v})


CHECKPOINTS = (
    "Checkpoints from elsewhere that were measured once each are compared in pairs over prompts, "
    "paired by prompt: t x standard error over prompts. The claim is about these checkpoints, not "
    "about how they were made; several of one label, as replicates, make one over seeds too."
)


def method(answer: Answer) -> list[str]:
    """How the verdicts came about, a sentence each."""
    return [
        *([CHECKPOINTS] if answer.about == "checkpoints" else []),
        "Two things are drawn: the seeds of a replicate, and the prompts that students are "
        "measured on. A verdict is a claim about recipes over both, where the subject reports "
        "values by prompt; its sentence says over how many. Without them, and in its second line, "
        "the claim is on exactly these prompts.",
        "A contrast is the mean of a - b over cells matched on all other factors, and over the "
        "replicates that have them. Its spread over seeds is that of its own differences, at every "
        "number of replicates: paired t where all pairs exist, else the cluster-robust variance "
        "CR2 with the replicate as cluster. No variance is borrowed from other arms.",
        "Half-width squared: (t x standard error over seeds) squared, plus (t x what prompts add "
        "to it) squared, each t with its own degrees of freedom. Distances enter by "
        "delete-a-prompt jackknife values.",
        f"Planned contrasts are decided together at {answer.alpha:g}, two-sided: each gets an "
        "interval at 1 - alpha / m; those wholly beyond their margin (beyond 0 without one) are "
        "decided and leave, and the rest are read at 1 - alpha / (number left). The interval "
        "printed is the one that decided; the p printed is the number left times p.",
        "Kinds: a trend is a slope over the scores of an ordered factor, and says so where it is "
        "not even; best is the set of levels that no other beats; a collapse is what is lost from "
        "an earlier measured cycle to the last one, over the margin; sooner compares when a value "
        "is reached, an arm that never reaches it having the last cycle as its time. What each "
        f"number means, with what was simulated: {sentences.GUIDE} of Stillhouse.",
        "Exploratory comparisons have p adjusted by Benjamini-Hochberg, and intervals at the level "
        "that agrees with it.",
        "Planned is what the first run recorded: primary metric, contrasts, margins, level and "
        "replicates. A contrast added or changed since is exploratory; one taken out still counts "
        "in the family; replicates added since are shown as a judgement of their own.",
        "equivalent: the whole interval lies inside the margin; improves / harms: it lies beyond "
        "the margin; (size unsettled): beyond 0, and the margin is inside it; undecided: "
        "everything else. Differences that are equal in every replicate are undecided: nothing "
        "says how much another replicate would differ.",
        "A trial that failed is missing at random. A trial that diverged takes no part either, but "
        "where a winner's trials diverged they are filled in with the worst difference observed, "
        "and the verdict must survive it. Who is missing is named.",
        "Sizes decide nothing: d_z is the mean difference over its standard deviation from seed to "
        "seed, corrected for few seeds (from three, all pairs there); the log ratio, of distances, "
        "is the mean of ln(a / b); teacher and data are their reference rows.",
        "A band around a learning curve holds all of its measured cycles together: each at "
        "1 - alpha / cycles.",
        "Intervals of single arms contain what all arms of a replicate share; differences between "
        "arms are surer than these look.",
        "Membership of the trade-off's front: each arm's means are drawn from its own t; the share "
        "of draws in which no other arm is at least as good on both and better on one.",
        "Whether a learned metric follows the oracle is Spearman's rank correlation over arm "
        "means, with the interval of Bonett and Wright; arms are its sample, although they were "
        f"chosen and share seeds, so it is approximate. Below {FEWEST_ARMS} arms nothing is said. "
        "Each of these intervals stands by itself.",
    ]


def markdown(answered: AnsweredStudy, *, portable: bool = False) -> str:
    """Question, verdicts in words, tables, compute, commands and fingerprints.

    Commands name the workspace where they need it; with `portable` none names a folder.
    """
    answer, plan = answered.answer, answered.plan
    parts = [f"# {plain(answer.question)}", plain(answer.headline)]
    parts.append(f"Study `{answer.study}`{', ' + plain(answer.scope) if answer.scope else ''}.")
    declared = [v for v in answer.verdicts if v.declared]
    if declared:
        lines = []
        for v in declared:
            claim = plain(v.claim or v.metric)
            # A path from the root of the repository, wherever in it this is pasted.
            read = f"[what this means](/{sentences.guide(v.kind)})"
            lines.append(
                f"- {sentences.SYMBOLS[v.verdict]} **{v.id}** ({claim}): {plain(v.words)} {read}"
            )
            lines += [
                f"  - {plain(sentence)}"
                for sentence in (sentences.narrower(v, answer.scope),)
                if sentence
            ]
            if v.spread:
                lines.append(f"  - standard error: {sentences.spread(v.spread)}")
            lines += [
                f"  - size: {plain(sentence)}"
                for sentence in (sentences.sizes(v.sizes),)
                if sentence
            ]
            lines += [f"  - {plain(note)}" for note in v.notes]
        parts += ["## Answer", "\n".join(lines)]
    if answer.amendments:
        lines = [f"- {plain(amendment.words)}" for amendment in answer.amendments]
        parts += ["## Changes of the study file since its first run", "\n".join(lines)]
    if answer.warnings:
        parts += ["## Warnings", "\n".join(f"- {plain(w)}" for w in answer.warnings)]
    printed = [tables.to_markdown(t).rstrip() for t in tables.tables(answer) if t.printed_columns]
    parts += ["## Results", *printed]
    parts += [f"No interaction: {plain(sentence)}." for sentence in answer.left_out]
    parts += ["## Compute", plain(compute(answer))]
    typed_out = commands(answer, plan, None if portable else answered.workspace)
    lines = [f"- {plain(what)}: {code(line)}" for what, line in typed_out]
    parts += ["## Reproduce", "In the folder of the project:", "\n".join(lines)]
    marks = fingerprints(answered)
    lines = [f"- {plain(name)}: {code(' ; '.join(values))}" for name, values in marks]
    parts += ["## Fingerprints", "\n".join(lines)]
    parts += ["## How to read this", "\n".join(f"- {line}" for line in method(answer))]
    return "\n\n".join(parts) + "\n"
