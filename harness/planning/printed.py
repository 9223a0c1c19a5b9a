"""A plan as lines of text: what runs, what it costs, what it can detect."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from harness.journal.command_line import typed
from harness.journal.workspace import Workspace
from harness.planning.cost import ESTIMATED, fitting
from harness.planning.kinds import KINDS
from harness.planning.looks import looks_in_words
from harness.planning.plan import Cost, Plan, day
from harness.study.planned_contrast import PlannedContrast

if TYPE_CHECKING:
    from harness.planning.plan import ExpectedTrials

SHOWN = 8
"""Levels, mixtures and warnings shown before the rest is only counted."""
MOST_AMENDMENTS = 30

SHOWN_MISSING = 24
"""Lines of what is not on this machine: a person has to act on each."""


def lines_of(
    plan: Plan,
    study_file: str,
    *,
    arms: bool = False,
    workspace: Workspace | None = None,
    expected: ExpectedTrials | None = None,
) -> list[str]:
    """Lines to print, aligned on the first column.

    Args:
        plan: what `make_plan` made.
        study_file: the study as the user named it, for the line to type next.
        arms: list every arm with the states of its trials.
        workspace: named in that line where it would not be found.
        expected: trials of a study that runs until decided, if somebody asked.
    """
    rows: list[tuple[str, str]] = [(plan.study, _counts(plan))]
    rows += [("cost", _cost(plan.cost)), *_memory(plan.cost), ("order", _order(plan))]
    rows += [("looks", text) for text in _looks(plan, expected)]
    for factor, labels in plan.factors.items():
        more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
        rows.append((factor, f"{', '.join(labels[:SHOWN])}{more}"))
    rows += [(path, text) for path in plan.mixtures for text in _shares(plan, path)]
    if arms:
        rows += [("arm", text) for text in _arms(plan)]
    counted = Counter(note for contrast in plan.contrasts for note in contrast.notes)
    shared = [note for note, count in counted.items() if count > 1]
    rows += [("fraction", text) for text in _fraction(plan)]
    units = any(contrast.detectable_in == "units" for contrast in plan.contrasts)
    for contrast in plan.contrasts:
        own = [note for note in contrast.notes if note not in shared]
        told = detects(contrast, plan.replicates, units)
        rows += _contrast(contrast, plan.unpartnered(contrast), told, own)
    for note in shared:
        named = [contrast.id for contrast in plan.contrasts if note in contrast.notes]
        rows.append(("note", f"{', '.join(named)}: {note}"))
    rows += [("amended", text) for text in amendment_lines(plan)]
    rows += [("warning", text) for text in plan.warnings[:SHOWN]]
    if len(plan.warnings) > SHOWN:
        rows.append(("warning", f"and {len(plan.warnings) - SHOWN} more (--json lists all)"))
    rows += [("not here yet", text) for text in plan.not_here[:SHOWN_MISSING]]
    if len(plan.not_here) > SHOWN_MISSING:
        unseen = len(plan.not_here) - SHOWN_MISSING
        rows.append(("not here yet", f"and {unseen} more (--json lists all)"))
    rows.append(("next", _next(plan, study_file, workspace)))
    width = max(len(head) for head, _ in rows[1:]) + 2
    first = f"{rows[0][0]}  {rows[0][1]}"
    return [first, *(f"{head:<{width}}{text}" for head, text in rows[1:])]


def _counts(plan: Plan) -> str:
    kinds = Counter(t.trial.kind for t in plan.trials)
    references, reruns, trials = kinds["reference"], kinds["rerun"], kinds["trial"]
    arms = plural(len(plan.arms), "arm")
    words = f"{arms} x {plan.replicates} = {plural(trials, 'trial')}"
    if references:
        words += f" + {plural(references, 'reference')}"
    if reruns:
        words += f" + {plural(reruns, 'rerun')}"
    stale = plan.count("stale")
    why = Counter(t.why for t in plan.trials if t.state == "stale" and t.why)
    named = f" ({'; '.join(text for text, _ in why.most_common(2))})" if why else ""
    running = f"  running {plan.count('running')}" if plan.count("running") else ""
    return (
        f"{words}   new {plan.count('new')}  measure {plan.count('measure')}  "
        f"reuse {plan.count('reuse')}  stale {stale}{named}{running}  orphan {len(plan.orphans)}"
    )


def _cost(cost: Cost) -> str:
    at_once = f"{cost.parallel} at once"
    if cost.trials == 0:
        parts = ["nothing to run"]
    elif cost.seconds_per_trial is None or cost.hours is None:
        parts = [f"not known yet: {cost.basis}; {at_once}"]
    else:
        low, high = cost.lo_hours or 0.0, cost.hi_hours or 0.0
        parts = [
            f"{at_once}: {hours_in_words(cost.hours)} "
            f"[{hours_in_words(low)} to {hours_in_words(high)}]"
        ]
        if cost.gpu_hours:
            spread = f"[{_scaled(cost, low)} to {_scaled(cost, high)}]"
            parts.insert(0, f"{cost.gpu_hours:.3g} GPU-h {spread}")
        source = "" if cost.basis.startswith(ESTIMATED) else "from "
        parts.append(
            f"{hours_in_words(cost.seconds_per_trial / 3600)} a trial, {source}{cost.basis}"
        )
    if cost.budget_gpu_hours is not None:
        total = cost.spent_gpu_hours + (cost.gpu_hours or 0.0)
        fits = "ok" if total <= cost.budget_gpu_hours else "EXCEEDED"
        spent = f" ({cost.spent_gpu_hours:.3g} spent)" if cost.spent_gpu_hours else ""
        parts.append(f"budget {cost.budget_gpu_hours:g} GPU-h{spent}: {fits}")
    return "; ".join(parts)


def _memory(cost: Cost) -> list[tuple[str, str]]:
    if cost.memory_gb is None:
        return []
    return [("memory", f"{fitting(cost.memory_gb)} (estimated, of the arm that needs most)")]


def _scaled(cost: Cost, hours: float) -> str:
    return f"{(cost.gpu_hours or 0.0) * hours / (cost.hours or 1.0):.3g}"


def plural(count: int, word: str) -> str:
    """`1 arm`, `2 arms`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def hours_in_words(hours: float) -> str:
    """Hours as people read them: `45 s`, `12 min`, `3 h 10`, `2.5 d`."""
    seconds = hours * 3600
    if seconds < 90:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if hours < 48:
        minutes = round(hours * 60)
        return f"{minutes // 60} h {minutes % 60:02d}"
    return f"{hours / 24:.1f} d"


def _looks(plan: Plan, expected: ExpectedTrials | None) -> list[str]:
    """When a study that runs until decided is looked at, what is open, what it may be expected."""
    told = looks_in_words(plan.adaptive) if plan.adaptive is not None else []
    if expected is not None and plan.adaptive is not None and not plan.adaptive.looks:
        told.append(
            f"{expected.at_most} trials at most; expected {expected.nothing_differs:.0f} if "
            f"nothing differs, {expected.as_detectable:.0f} if each contrast differs by what it "
            "detects"
        )
    return told


def _order(plan: Plan) -> str:
    references = any(t.trial.kind == "reference" for t in plan.trials)
    baseline = any(arm.baseline for arm in plan.arms)
    parts = [*(["references"] if references else []), "replicate by replicate"]
    trials = plural(len(plan.arms), "trial")
    first = ", the baseline first in each" if baseline else ""
    return f"{', then '.join(parts)}{first}; a balanced study every {trials}"


def _shares(plan: Plan, path: str) -> list[str]:
    """Distinct resolved shares of one mixture, with how many arms have them."""
    counts: Counter[str] = Counter()
    for shares in plan.mixtures[path].values():
        counts[" ".join(f"{name} {share:.4g}" for name, share in shares.items())] += 1
    texts = [f"{text}   ({plural(count, 'arm')})" for text, count in list(counts.items())[:SHOWN]]
    if len(counts) > SHOWN:
        texts.append(f"and {len(counts) - SHOWN} more mixtures")
    return texts


def _arms(plan: Plan) -> list[str]:
    states: dict[str, Counter[str]] = {}
    for planned in plan.trials:
        states.setdefault(planned.trial.arm, Counter())[planned.state] += 1
    base = {arm.name for arm in plan.arms if arm.baseline}
    width = max(len(name) for name in states)
    return [
        f"{name:<{width}}  "
        + "  ".join(f"{state} {count}" for state, count in counted.items())
        + ("  (baseline)" if name in base else "")
        for name, counted in states.items()
    ]


def amendment_lines(plan: Plan) -> list[str]:
    """What the study file says otherwise than at its first run, one line a change."""
    if not plan.amendments or plan.frozen_at is None:
        return []
    lines = [amendment.words for amendment in plan.amendments[:MOST_AMENDMENTS]]
    if len(plan.amendments) > MOST_AMENDMENTS:
        lines.append(f"and {len(plan.amendments) - MOST_AMENDMENTS} more (plan --json lists all)")
    lines[0] = f"since the first run on {day(plan.frozen_at)}: {lines[0]}"
    outside = [contrast.id for contrast in plan.contrasts if contrast.amended]
    if outside:
        lines.append(f"exploratory, no longer planned: {', '.join(outside)}")
    first = plan.frozen_replicates
    if first is not None and plan.replicates > first:
        lines.append(
            f"planned verdicts stay those of the first {first} replicate{'s' * (first > 1)}; with "
            f"{plan.replicates} they are exploratory"
        )
    return lines


def _fraction(plan: Plan) -> list[str]:
    """Generators and alias table of a fraction."""
    fraction = plan.fraction
    if fraction is None:
        return []
    sets = ", ".join(f"{factor} = {product}" for factor, product in fraction.generators.items())
    lines = [
        f"{fraction.arms} of {fraction.combinations} combinations, resolution "
        f"{fraction.resolution}; {sets}"
    ]
    if len(plan.arms) < fraction.arms:
        lines.append(
            f"{len(plan.arms)} of them are left: the aliases below are those of the whole fraction"
        )
    aliased = {effect: others for effect, others in fraction.aliases.items() if others}
    lines += [f"{effect} = {' = '.join(others)}" for effect, others in aliased.items()]
    clear = [effect for effect, others in fraction.aliases.items() if not others]
    if clear:
        lines.append("clear of main effects and two-factor interactions: " + ", ".join(clear))
    return lines


def _contrast(
    contrast: PlannedContrast, alone: list[str], told: str, notes: list[str]
) -> list[tuple[str, str]]:
    cells = len(contrast.pairs)
    text = f"{cells} vs {plural(cells, 'arm')}" + (" matched" if cells > 1 else "")
    if contrast.weights:
        text = f"{plural(len(contrast.weights), 'arm')} by least squares"
    if contrast.about:
        arms, cells = plural(len(contrast.arms()), "arm"), len(contrast.cells())
        text = f"{contrast.about}; {arms}" + (f" in {cells} matched cells" if cells > 1 else "")
    text += f" on {contrast.metric}"
    text += f"   {told}" if told else ""
    rows = [(contrast.id, text)]
    if alone:
        shown = ", ".join(alone[:3]) + (", ..." if alone[3:] else "")
        rows.append(("", f"{plural(len(alone), 'arm')} without a partner, dropped: {shown}"))
    if contrast.amended:
        rows.append(("", f"exploratory: {contrast.amended}"))
    return rows + [("", note) for note in notes]


def detects(contrast: PlannedContrast, seeds: int, units: bool) -> str:
    """`6 seeds and 34 prompts detect >= 0.031 (80 %) as one of 4`; empty where nothing is judged.

    Args:
        contrast: with what it can detect.
        seeds: replicates it is planned with.
        units: the list it stands in is in units of the metrics: nothing in it is in SDs.
    """
    if contrast.detectable is None:
        return ""
    who = f"{seeds} seeds" + (f" and {contrast.prompts} prompts" if contrast.prompts else "")
    among = f" as one of {contrast.family}" if contrast.family > 1 else ""
    over = "" if contrast.prompts else ", on exactly these prompts"
    if contrast.detectable_in == "sd" and units:
        return f"{who}{among}: its spread is not known yet"
    return f"{who} detect {_size(contrast)} (80 %){among}{over}"


def _size(contrast: PlannedContrast) -> str:
    """`>= 0.031`, `a loss >= 0.2`, `>= 2.1 SDs of the difference`."""
    least = f">= {contrast.detectable:.3g}"
    kind = KINDS[contrast.kind]
    if contrast.detectable_in == "units":
        return f"{kind.what} {least} {contrast.traits.unit}".strip()
    whose = "the difference" if contrast.kind == "difference" else "a pair's difference"
    beyond = " beyond the margin" if kind.beyond_margin else ""
    return f"{kind.what} {least} SDs of {whose}{beyond}".strip()


def _next(plan: Plan, study_file: str, workspace: Workspace | None) -> str:
    begins: list[str] = []
    if plan.adaptive is not None and plan.adaptive.spending is None:
        begins = ["--until-decided", "--at-most", str(plan.adaptive.at_most)]
    run = partial(typed, "run", *begins, study=study_file, workspace=workspace)
    if plan.not_here:
        return f"bring what is not here yet, then {run()}"
    if plan.count("stale"):
        return f"{run('--rerun-stale')}  # or --accept-stale, to count old results"
    looks = plan.adaptive is not None and not plan.adaptive.over
    unrecorded = looks or any(change.at is None for change in plan.amendments)
    if not plan.missing() and not plan.count("running") and not unrecorded:
        return typed("report", study=study_file, workspace=workspace)
    return run()
