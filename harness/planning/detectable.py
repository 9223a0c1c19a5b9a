"""What a contrast can detect with the seeds and prompts planned, and what would detect enough.

One rule at every number of replicates, the one verdicts follow: the contrast's own differences at
alpha / contrasts of the first run, over prompts too where the last report recorded their spread.
The spread of a pilot is taken as large as it may well be, so that four of five pilots promise no
more power than there is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.journal.history import History
from harness.journal.records import Frozen, MeasuredAt, PromptSpread
from harness.planning import pilot, power
from harness.planning.amendments import KnownArms, amended, contrasts_in, frozen_fields
from harness.planning.crossing import crossing
from harness.planning.kinds import KINDS, Comparison, comparisons
from harness.planning.pilot import Pilot, Values
from harness.planning.prompt_spread import assumed, digests, spread_still_valid
from harness.study.contrasts import asked_in_words, match, undeclared
from harness.study.model import Contrast, Study
from harness.study.planned_contrast import Enough, PlannedContrast
from harness.subjects.settings import StudentsSettings

if TYPE_CHECKING:
    from harness.study.arms import Layout

CHECKPOINTS = "checkpoints measured once each: a claim about these, over the prompts they share"

FEW = 4
"""Below this only differences of many standard deviations can be found."""
_HARDLY = 0.9
"""Share of what is detected now: what cannot go below it is no help."""

Keys = Mapping[tuple[str, int], str]
"""(arm name, replicate) -> trial key."""


class Pilots:
    """What the history holds for the trials of a design: values by metric, spreads over prompts."""

    def __init__(
        self,
        history: History,
        keys: Keys,
        protocol: str,
        spreads: Sequence[PromptSpread] = (),
        higher_is_better: Mapping[str, bool | None] | None = None,
        whole: Pilots | None = None,
        lent: Mapping[str, PromptSpread] | None = None,
    ) -> None:
        """Take in a history.

        Args:
            history: as the study reads it.
            keys: the design's trials.
            protocol: fingerprint.
            spreads: records of what varied over prompts; those of other numbers are passed over.
            higher_is_better: metric -> which way it is reached, of the kind `sooner`.
            whole: of the study's own design, where this is another of the same question: what is
                borrowed is borrowed there, so that every design is told the same.
            lent: contrast -> its record there.
        """
        self._history, self._keys, self._protocol = history, keys, protocol
        self._spreads, self._whole, self._lent = spreads, whole, lent or {}
        self._better = higher_is_better or {}
        self._replicates: dict[str, list[int]] = {}
        for arm, replicate in keys if history.trials else ():
            self._replicates.setdefault(arm, []).append(replicate)
        self._measured: dict[str, dict[int, Sequence[MeasuredAt]]] = {}

    def values(self, metric: str, arms: Iterable[str] | None = None) -> Values:
        """Arm -> replicate -> value at the last measured step; of all arms where none are named."""
        chosen = self._replicates if arms is None else arms
        return {
            arm: {
                r: last
                for r, measured in self._row(arm).items()
                if (last := measured[-1].metrics.get(metric)) is not None and math.isfinite(last)
            }
            for arm in chosen
        }

    def _compared(self, metric: str, test: Comparison) -> Values:
        """What a test compares: values at the end, changes since a step, or times."""
        values = self.values(metric, pilot.arms_of(test.groups))
        if test.step is None and test.threshold is None:
            return values
        found: dict[str, dict[int, float]] = {}
        for arm, row in values.items():
            for r, last in row.items():
                curve = {
                    at.step: value
                    for at in self._row(arm)[r]
                    if (value := at.metrics.get(metric)) is not None and math.isfinite(value)
                }
                if test.threshold is not None:
                    rising = (self._better.get(metric) is not False) != test.falls
                    time = crossing(curve, test.threshold, rising=rising)
                    assert time is not None, "there is a value"
                    found.setdefault(arm, {})[r] = time
                elif test.step in curve:
                    found.setdefault(arm, {})[r] = last - curve[test.step]
        return found

    def _row(self, arm: str) -> Mapping[int, Sequence[MeasuredAt]]:
        if arm not in self._measured:
            row = self._measured[arm] = {}
            for replicate in self._replicates.get(arm, ()):
                known = self._history.trials.get(self._keys[arm, replicate])
                if known is not None and (measured := known.measured(self._protocol)):
                    row[replicate] = measured
        return self._measured[arm]

    def cycles(self, arms: Iterable[str]) -> list[int]:
        """Those at which the arms were measured."""
        rows = [measured for arm in arms for measured in self._row(arm).values()]
        return sorted({at.step for measured in rows for at in measured})

    def pilot(self, metric: str, test: Comparison) -> Pilot | None:
        """The spread between replicates, of these cells or else of other arms."""
        groups = test.groups
        known = pilot.own_spread(self._compared(metric, test), groups)
        if known is not None or test.over_training:
            return known
        if self._whole is not None:
            known = pilot.borrowed_spread(self._whole.values(metric), groups)
        return known or pilot.borrowed_spread(self.values(metric), groups)

    def over_prompts(self, contrast: str, metric: str, test: Comparison) -> PromptSpread | None:
        """The spread over prompts, of these cells or else of the same contrast elsewhere."""
        groups = test.groups
        if test.over_training:
            return None  # of changes and times nothing is recorded
        if self._spreads:
            values = self.values(metric, pilot.arms_of(groups))
            today = digests(metric, self._protocol, groups, values, self._keys)
            if (found := spread_still_valid(self._spreads, metric, today)) is not None:
                return found
        return self._lent.get(contrast)


def planned_contrast(
    study: Study,
    contrast: Contrast,
    layout: Layout,
    recorded: Pilots,
    *,
    recipes: Mapping[str, Mapping[str, Any]],
    mixtures: Collection[str] = (),
    frozen: Frozen | None = None,
    arms: KnownArms | None = None,
) -> PlannedContrast:
    """A contrast with its arms, its detectable difference and its notes."""
    resolved = match(study, layout, contrast).model_copy(
        update={"about": asked_in_words(study, contrast), "family": _family(study, frozen)}
    )
    why = amended(study, contrast, resolved, frozen, arms)
    alpha = float(frozen_fields(study, frozen)["alpha"]) / resolved.family
    if study.replicates == 1 and isinstance(study.subject, StudentsSettings):
        told = resolved.model_copy(update={"notes": [CHECKPOINTS]})
    else:
        told = _told(resolved, study.replicates, alpha, recorded, study.measure_at)
    notes = list(told.notes)
    if resolved.same:
        notes.append(
            f"{len(resolved.same)} cell(s) have the same recipe on both sides and are dropped"
        )
    if resolved.fitted:
        notes.append(fitted_note(resolved))
    also = undeclared(study, contrast, resolved.compared(), recipes, mixtures)
    return told.model_copy(
        update={"amended": why, "confounded": also, "notes": [*notes, *also]},
    )


def ols_note(weights: Mapping[str, float], aliases: Sequence[str], of: str = "both sides") -> str:
    """How a difference that no cell holds was estimated, and what it cannot be told from."""
    told = f"cannot be told from {', '.join(aliases)}" if aliases else "clear of interactions"
    more = "" if aliases else " of two factors"
    return f"no cell holds {of}: least squares over {len(weights)} arms, {told}{more}"


def fitted_note(contrast: PlannedContrast) -> str:
    """As `ols_note`, of a contrast of any kind."""
    if contrast.kind == "difference":
        return ols_note(contrast.weights, contrast.aliases)
    return ols_note(dict.fromkeys(contrast.arms(), 1.0), contrast.aliases, "all its arms")


def _family(study: Study, frozen: Frozen | None) -> int:
    """How many contrasts share alpha: those of the first run; today's where it had none."""
    written = contrasts_in(frozen.study_json) if frozen is not None else None
    return len(written or study.contrasts)


def _told(
    resolved: PlannedContrast, n: int, alpha: float, recorded: Pilots, study_cycles: Sequence[int]
) -> PlannedContrast:
    """With what n replicates detect, and what more of them would."""
    if n < 2:
        note = "one replicate: nothing about recipes can be judged; give 2 or more, better 6"
        return resolved.model_copy(update={"notes": [note]})
    cycles = recorded.cycles(resolved.arms()) or study_cycles
    tests = comparisons(resolved, cycles)
    if not tests:
        return resolved
    pilots = [recorded.pilot(resolved.metric, test) for test in tests]
    known = [one for one in pilots if one is not None]
    if len(known) < len(tests):
        few = f"below {FEW} replicates only very large differences can be found; better 6 or more"
        sds = [power.detectable(n, alpha * test.share, spread=test.in_sds()) for test in tests]
        return resolved.model_copy(
            update={"detectable": max(sds), "notes": [few] if n < FEW else []},
        )
    planned = []
    for one, test in zip(known, tests, strict=True):
        found = recorded.over_prompts(resolved.id, resolved.metric, test)
        prompts = assumed(found) if found is not None else None
        spread = power.PlannedSpread(one.sd * power.assured(one.df), prompts)
        now = power.detectable(n, alpha * test.share, spread=spread)
        planned.append(_Test(now, alpha * test.share, spread, one, found))
    # All of its tests have to find something, so the hardest says what is detected.
    hardest = max(planned, key=lambda test: test.detects)
    if KINDS[resolved.kind].beyond_margin:
        told = _of_units(hardest, n, None, resolved.margin or 0.0)
    else:
        told = _of_units(hardest, n, resolved.margin)
    return resolved.model_copy(update=told)


@dataclass(frozen=True)
class _Test:
    """One test of a contrast, in units of its metric."""

    detects: float
    alpha: float
    spread: power.PlannedSpread
    pilot: Pilot
    over_prompts: PromptSpread | None


def _of_units(test: _Test, n: int, margin: float | None, beyond: float = 0.0) -> dict[str, Any]:
    """Fields of a contrast in units; what is detected is told from `beyond` on."""
    alpha, spread, prompts = test.alpha, test.spread, test.over_prompts
    reached: list[Enough] = []
    notes = [_source(test.pilot)]
    if n < FEW:
        at = {more: beyond + power.detectable(more, alpha, spread=spread) for more in (FEW, 6)}
        more = ", ".join(f"{seeds} seeds detect {found:.3g}" for seeds, found in at.items())
        notes.append(f"below {FEW} replicates only large differences can be found; {more}")
    if margin is not None and test.detects > margin:
        reached = _reaching(margin, n, alpha, spread)
        notes.append(_margin(margin, reached))
    elif margin is None and (n >= FEW or prompts is not None):
        notes.append(_more(n, test.detects, alpha, spread, beyond))
    return {
        "detectable": beyond + test.detects,
        "detectable_in": "units",
        "spread": spread.seeds,
        "spread_replicates": test.pilot.replicates,
        "prompts": prompts.prompts if prompts else None,
        "prompt_spread": prompts,
        "margin_reached_by": reached,
        "notes": notes,
    }


def _source(known: Pilot) -> str:
    whose = "of other arms, as its own have not run, " if known.borrowed else ""
    return (
        f"spread {whose}from {known.replicates} replicates in the history, times "
        f"{power.assured(known.df):.3g} for its own uncertainty"
    )


def _reaching(margin: float, n: int, alpha: float, spread: power.PlannedSpread) -> list[Enough]:
    """More seeds at these prompts, more prompts at these seeds; both together if neither can."""
    given = spread.prompts.number if spread.prompts else None
    seeds = power.replicates_needed(margin, alpha, spread=spread)
    prompts = power.prompts_needed(margin, n, alpha, spread)
    found = [Enough(seeds=seeds, prompts=given)] if seeds else []
    found += [Enough(seeds=n, prompts=prompts)] if prompts else []
    if not found and (both := power.both_needed(margin, alpha, spread)):
        found = [Enough(seeds=both[0], prompts=both[1])]
    return found


def _margin(margin: float, reached: Sequence[Enough]) -> str:
    ways = " or ".join(_words(enough.seeds, enough.prompts) for enough in reached)
    return f"margin {margin:.3g}: may end undecided; " + (
        f"{ways} reach it" if reached else "no affordable number reaches it"
    )


def _words(seeds: int, prompts: int | None) -> str:
    return f"{seeds} seeds" + (f" and {prompts} prompts" if prompts else "")


def _more(n: int, now: float, alpha: float, spread: power.PlannedSpread, beyond: float) -> str:
    """What a third more seeds would detect, and twice the prompts; what would not help."""
    seeds = n + max(1, round(n / 3))
    found = beyond + power.detectable(seeds, alpha, spread=spread)
    with_seeds = f"{seeds} seeds detect {found:.3g}"
    if spread.prompts is None:
        return with_seeds
    prompts = 2 * spread.prompts.number
    found = power.detectable(n, alpha, spread=spread.at(prompts))
    with_prompts = f"{prompts} prompts detect {found:.3g}"
    if (floor := power.floor_of_seeds(alpha, spread)) > _HARDLY * now:
        return f"more seeds would not help below {floor:.3g}; {with_prompts}"
    if (floor := power.floor_of_prompts(n, alpha, spread)) > _HARDLY * now:
        return f"more prompts would not help below {floor:.3g}; {with_seeds}"
    return f"{with_seeds}, {with_prompts}"
