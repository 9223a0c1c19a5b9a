"""New replicates of a recorded arm: does the recipe give such numbers with other seeds, too?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from harness.contract import Subject
from harness.errors import HarnessError, NotJudgedError
from harness.journal.attempts import measurements
from harness.journal.trial import Trial, key_of
from harness.journal.workspace import Workspace
from harness.planning.printed import hours_in_words
from harness.reproduce import depths, surroundings
from harness.reproduce.bands import FEWEST_REPLICATES, Band, coverage_for, replicate_band
from harness.reproduce.depths import Echo, Price, Rerun, rerun_trial
from harness.reproduce.judging import Compared, Decision, replicates_of, weakest
from harness.reproduce.one_trial import headline, loaded, opening, refuse, reported
from harness.reproduce.recorded import Recorded
from harness.reproduce.reproduction import Reproduction
from harness.subjects.identity import identity_of


def fresh_replicates(
    recorded: Recorded, count: int, workspace: Workspace, echo: Echo
) -> Reproduction:
    """Run new replicates of the trial's arm; judge their mean against the recorded replicates."""
    fields: dict[str, Any] = {
        "key": recorded.key,
        "short": recorded.trial.short,
        "study": recorded.study,
        "level": "train",
        "fresh_seeds": count,
    }
    for line in headline(recorded):
        echo(line)
    try:
        subject, fields["differences"], price = ready(recorded)
        fields["ladder"] = [p.line() for p in price]
        for line in opening(fields["differences"], fields["ladder"]):
            echo(line)
        seconds = (price[-1].seconds or 0.0) * count
        echo(f"fresh      {count} new replicates: {hours_in_words(seconds / 3600)}")
    except HarnessError as error:
        return Reproduction(**fields, decision="not judged", reason=str(error))
    runs = [
        rerun_trial(recorded, "train", workspace, echo, trial)
        for trial in new_trials(recorded, count, first_free(recorded))
    ]
    fields["parts"] = [part_of(run, recorded) for run in runs]
    fields["seconds"] = sum(run.ended.seconds for run in runs)
    fields["folder"] = str(runs[0].folder.parent)
    bad = [part for part in fields["parts"] if part.decision == "not judged"]
    if bad:
        reason = f"{len(bad)} of {count} new replicates gave no numbers; see {bad[0].folder}"
        return Reproduction(**fields, decision="not judged", reason=reason)
    return _judged(recorded, runs, sorted(reported(recorded, subject)), fields)


def ready(recorded: Recorded) -> tuple[Subject, list[str], list[Price]]:
    """The subject, what differs and what each depth costs, if new replicates may be trained here.

    Raises:
        HarnessError: naming what is missing.
    """
    subject, problem = loaded(recorded)
    if subject is None:
        raise NotJudgedError(problem)
    if recorded.trial.kind != "trial":
        raise NotJudgedError(f"{recorded.key} is a {recorded.trial.kind}: it has no replicates")
    here = surroundings.surroundings_of(recorded, subject)
    refuse(recorded, here, "train")
    priced = depths.prices(recorded, subject)
    depths.depth_to_run("train", priced, recorded.key)
    return subject, here.differences, priced


def first_free(recorded: Recorded) -> int:
    """The first replicate number of the arm above every one that was planned or run."""
    recipe = recorded.trial.recipe
    opened = (t.ordered[0].opened.trial for t in recorded.history.trials.values() if t.attempts)
    trials = [*opened, *recorded.planned.trials]
    first = 1 + max(t.replicate for t in trials if t.kind == "trial" and t.recipe == recipe)
    return max(first, int(recorded.settings.get("replicates") or 0))


def new_trials(recorded: Recorded, count: int, first: int) -> list[Trial]:
    """Trials of the same arm, as replicates `first` and following."""
    recipe = recorded.trial.recipe
    data, subject = recorded.trial.data, recorded.trial.subject or identity_of(recorded.subject)
    keys = {n: key_of(recipe, n, data, subject=subject) for n in range(first, first + count)}
    return [
        recorded.trial.model_copy(update={"replicate": n, "key": key, "subject": subject})
        for n, key in keys.items()
    ]


def numbers_of(run: Rerun) -> dict[str, float | None]:
    """Numbers of the last step of what was run again."""
    measured = measurements(run.reports)
    return measured[-1].metrics if measured and run.ended.state == "done" else {}


def part_of(run: Rerun, recorded: Recorded) -> Reproduction:
    """One new replicate as a part of the result: it is judged with the others, not by itself."""
    numbers = numbers_of(run)
    decision: Decision = "consistent with a new replicate" if numbers else "not judged"
    reason = "measured" if numbers else f"it ended as {run.ended.state}: {run.ended.reason}"
    return Reproduction(
        key=run.trial.key,
        short=run.trial.short,
        study=recorded.study,
        level="train",
        decision=decision,
        reason=reason,
        folder=str(run.folder),
        seconds=run.ended.seconds,
    )


def _judged(
    recorded: Recorded, runs: Sequence[Rerun], metrics: Sequence[str], fields: dict[str, Any]
) -> Reproduction:
    step = max(at.step for at in recorded.values()) if recorded.values() else 0
    numbers = [numbers_of(run) for run in runs]
    common = [
        m for m in metrics if replicates_of(recorded, m, step) and all(m in f for f in numbers)
    ]
    coverage = coverage_for(len(common))
    values: list[Compared] = []
    decisions: list[Decision] = []
    for metric in common:
        then = [*replicates_of(recorded, metric, step).values()]
        new = [value for f in numbers if (value := f[metric]) is not None]
        band = replicate_band(then, coverage, len(runs))
        compared = Compared(
            step=step,
            metric=f"{metric}, mean of {len(then)} and of {len(new)}",
            recorded=statistics.fmean(then),
            now=statistics.fmean(new) if len(new) == len(runs) else None,
            equal=False,
            spread=statistics.stdev(then) if len(then) > 1 else None,
            judged=True,
            replicates=band,
        )
        values.append(compared)
        decisions.append(by_band(compared.now, band))
    if not values:
        reason = "the recorded replicates and the new ones have no number in common"
        return Reproduction(**fields, decision="not judged", reason=reason)
    decision = weakest(decisions)
    reason = in_words(decision, values, fields["differences"])
    return Reproduction(**fields, decision=decision, reason=reason, values=values)


def by_band(now: float | None, band: Band | None) -> Decision:
    """Whether a mean of new replicates is where the recorded ones say."""
    if band is None:
        return "not judged"
    good = now is not None and band.holds(now)
    return "consistent with a new replicate" if good else "not reproduced"


def in_words(decision: Decision, values: Sequence[Compared], differences: Sequence[str]) -> str:
    """The decision with its intervals and their widths, or with what differs."""
    if decision == "not judged":
        return f"it takes {FEWEST_REPLICATES} recorded replicates to say where new ones may fall"
    bands = "; ".join(
        f"{v.metric}: {v.now if v.now is None else format(v.now, '.4g')} in [{v.replicates.low:.4g}"
        f", {v.replicates.high:.4g}], width {v.replicates.width:.3g}"
        for v in values
        if v.replicates is not None and by_band(v.now, v.replicates) == decision
    )
    if decision == "consistent with a new replicate":
        return f"new seeds give such numbers, as far as these intervals can tell: {bands}"
    cause = "; ".join(differences) or "nothing that is recorded"
    outside = bands.replace(" in [", " outside [")
    return f"new seeds give other numbers: {outside}. What differs: {cause}"
