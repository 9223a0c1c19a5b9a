"""Which trials decide a claim: a contrast of a recorded study, its verdict, the smallest set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analyse.answer import Verdict
from harness.errors import HarnessError, NotJudgedError
from harness.journal import History, Planned
from harness.plan import PlannedContrast
from harness.planning.amendments import contrasts_in
from harness.reproducing.places import Places
from harness.reproducing.recorded import Recorded, record_of
from harness.reproducing.restudy import Restudied, restudy, said
from harness.trial import Trial
from harness.workspace import Workspace

MOST_LISTED = 6


@dataclass(frozen=True)
class Claim:
    """A contrast of a recorded study and the trials that decide it."""

    contrast: PlannedContrast
    verdict: Verdict
    made: Restudied
    replicates: int
    """How many replicates, from the first, give the recorded verdict by themselves."""
    trials: list[Recorded]
    without: list[str]
    """Trials of these replicates that have no result to reproduce, with their states."""


def claim_of(
    contrast: str, key: str, history: History, places: Places, workspace: Workspace
) -> Claim:
    """The contrast, its recorded verdict, and the smallest set of trials that gives it."""
    planned = _declaring(contrast, key, history, places)
    history = history.read_by(planned.study)
    keys = {t.key for t in planned.trials}
    done = [h for h in history.trials.values() if h.key in keys and h.complete is not None]
    if not done:
        raise NotJudgedError(f"study {planned.study!r} has no result to reproduce")
    some = record_of(done[0].key, history, places, workspace)
    protocol = max(
        (a.opened for h in done for a in h.ordered if a.closed and a.closed.measurements),
        key=lambda opened: opened.at,
        default=some.measured_by.opened,
    ).protocol
    made = restudy(planned, history, some.project, places, workspace, protocol)
    declared = {c.id: c for c in made.plan.contrasts}
    verdict = made.verdicts()[contrast]
    arms = set(declared[contrast].arms())
    if not arms:
        raise NotJudgedError(f"contrast {contrast} has no matched arms, so no trial decides it")
    sides = [t.trial for t in made.plan.trials if t.trial.kind == "trial" and t.trial.arm in arms]
    without = _without_result(sides, history, protocol)
    if verdict.n == 0:
        raise NotJudgedError(
            f"contrast {contrast} has no verdict to reproduce, as no replicate has both sides. "
            f"Without a result: {_listed(sides, without)}. Run the study first."
        )
    replicates = smallest(made, contrast)
    deciding = [t for t in sides if t.replicate < replicates]
    trials = [
        record_of(t.key, history, places, workspace) for t in deciding if t.key not in without
    ]
    left = [f"{t.short} ({without[t.key]})" for t in deciding if t.key in without]
    return Claim(declared[contrast], verdict, made, replicates, trials, left)


def _without_result(sides: Sequence[Trial], history: History, protocol: str) -> dict[str, str]:
    """Key to state of the trials that hold no number of the protocol to compare with."""
    found: dict[str, str] = {}
    for trial in sides:
        record = history.trials.get(trial.key)
        state = record.state if record is not None else "pending"
        if record is None or record.complete is None:
            found[trial.key] = state
        elif state == "done" and not record.measured(protocol):
            found[trial.key] = "not measured under this protocol"
    return found


def _listed(sides: Sequence[Trial], without: Mapping[str, str]) -> str:
    told = [f"{t.short} ({without[t.key]})" for t in sides if t.key in without]
    more = f" and {len(told) - MOST_LISTED} more" if len(told) > MOST_LISTED else ""
    return ", ".join(told[:MOST_LISTED]) + more


def smallest(made: Restudied, contrast: str) -> int:
    """Fewest replicates, from the first, that give the recorded verdict, as do all larger sets.

    An undecided verdict rests on all of them. Trials of other contrasts stay as recorded.
    """
    verdict = made.verdicts()[contrast]
    count = made.plan.replicates
    if verdict.verdict == "undecided":
        return count
    while count > 2 and said(made.first(count - 1).verdicts()[contrast]) == said(verdict):
        count -= 1
    return count


def _declaring(contrast: str, key: str, history: History, places: Places) -> Planned:
    latest = {name: max(plans, key=lambda p: p.at) for name, plans in history.planned.items()}
    latest = {name: p for name, p in latest.items() if places.means(p)}
    if key:
        own = {p.study for p in latest.values() if any(t.key == key for t in p.trials)}
        latest = {name: p for name, p in latest.items() if name in own}
    ids = {name: [c["id"] for c in contrasts_in(p.study_json)] for name, p in latest.items()}
    holding = [name for name, declared in ids.items() if contrast in declared]
    if len(holding) == 1:
        return latest[holding[0]]
    if holding:
        raise HarnessError(
            f"studies {', '.join(sorted(holding))} all declare a contrast {contrast}: name one "
            "with --study, or give a key of it as well"
        )
    known = "; ".join(f"{name}: {', '.join(c) or 'none'}" for name, c in sorted(ids.items()))
    looked = "".join(f"\n  {line}" for line in places.searched())
    raise HarnessError(f"no study declares contrast {contrast!r} ({known}). Looked in:{looked}")
