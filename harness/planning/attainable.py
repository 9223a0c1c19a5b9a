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
from typing import Any

from harness.analyse import power
from harness.journal import Frozen, History
from harness.plan import PlannedContrast
from harness.planning import pilot
from harness.planning.amendments import amended, contrasts_in, frozen_fields
from harness.planning.matching import Matched, undeclared
from harness.planning.pilot import Groups, Pilot, Values
from harness.planning.planned import Enough
from harness.planning.prompt_spread import PromptSpread, digests, valid
from harness.study import Contrast, Study

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
        whole: Pilots | None = None,
        lent: Mapping[str, PromptSpread] | None = None,
    ) -> None:
        """Take in a history.

        Args:
            history: as the study reads it.
            keys: the design's trials.
            protocol: fingerprint.
            spreads: records of what varied over prompts; those of other numbers are passed over.
            whole: of the study's own design, where this is another of the same question: what is
                borrowed is borrowed there, so that every design is told the same.
            lent: contrast -> its record there.
        """
        self._history, self._keys, self._protocol = history, keys, protocol
        self._spreads, self._whole, self._lent = spreads, whole, lent or {}
        self._replicates: dict[str, list[int]] = {}
        for arm, replicate in keys if history.trials else ():
            self._replicates.setdefault(arm, []).append(replicate)
        self._measured: dict[str, dict[int, Mapping[str, float | None]]] = {}

    def values(self, metric: str, arms: Iterable[str] | None = None) -> Values:
        """Arm -> replicate -> value at the last measured step; of all arms where none are named."""
        found = {}
        for arm in self._replicates if arms is None else arms:
            found[arm] = {
                r: value
                for r, metrics in self._row(arm).items()
                if (value := metrics.get(metric)) is not None and math.isfinite(value)
            }
        return found

    def _row(self, arm: str) -> Mapping[int, Mapping[str, float | None]]:
        if arm not in self._measured:
            row = self._measured[arm] = {}
            for replicate in self._replicates.get(arm, ()):
                known = self._history.trials.get(self._keys[arm, replicate])
                if known is not None and (measured := known.measured(self._protocol)):
                    row[replicate] = measured[-1].metrics
        return self._measured[arm]

    def pilot(self, metric: str, groups: Groups) -> Pilot | None:
        """The spread between replicates, of these cells or else of other arms."""
        known = pilot.own(self.values(metric, pilot.arms_of(groups)), groups)
        if known is None and self._whole is not None:
            known = pilot.borrowed(self._whole.values(metric), groups)
        return known or pilot.borrowed(self.values(metric), groups)

    def over_prompts(self, contrast: str, metric: str, groups: Groups) -> PromptSpread | None:
        """The spread over prompts, of these cells or else of the same contrast elsewhere."""
        if self._spreads:
            values = self.values(metric, pilot.arms_of(groups))
            today = digests(metric, self._protocol, groups, values, self._keys)
            if (found := valid(self._spreads, metric, today)) is not None:
                return found
        return self._lent.get(contrast)


def planned_contrast(
    study: Study,
    contrast: Contrast,
    matched: Matched,
    recorded: Pilots,
    *,
    recipes: Mapping[str, Mapping[str, Any]],
    mixtures: Collection[str] = (),
    frozen: Frozen | None = None,
) -> PlannedContrast:
    """A contrast with its pairs, its detectable difference and its notes."""
    estimated = matched.estimated
    bare = PlannedContrast(
        id=contrast.id,
        claim=contrast.claim,
        metric=contrast.metric,
        expect=contrast.expect,
        margin=contrast.margin,
        pairs=matched.pairs,
        unmatched=matched.unmatched,
        weights=estimated.weights if estimated else {},
        aliases=estimated.aliases if estimated else [],
        family=_family(study, frozen),
    )
    why = amended(contrast, bare, frozen)
    alpha = float(frozen_fields(study, frozen)["alpha"]) / bare.family
    told = _told(bare, study.replicates, alpha, recorded)
    notes = list(told.notes)
    if matched.same:
        notes.append(
            f"{len(matched.same)} cell(s) have the same recipe on both sides and are dropped"
        )
    if estimated:
        notes.append(ols_note(estimated.weights, estimated.aliases))
    also = undeclared(study, contrast, matched.pairs, recipes, mixtures)
    return told.model_copy(
        update={"amended": why, "confounded": also, "notes": [*notes, *also]},
    )


def tested(planned: PlannedContrast) -> list[tuple[Groups, float]]:
    """What a contrast tests: cells, and the share of its alpha that each test has.

    All of them have to be found. Two-sided shares: a one-sided test at alpha has the share 2.
    """
    if planned.weights:
        return [([(1.0, [planned.weights])], 1.0)]
    cells = [{a: 1.0, b: -1.0} for a, b in planned.pairs]
    return [([(1.0, cells)], 1.0)] if cells else []


def ols_note(weights: Mapping[str, float], aliases: Sequence[str]) -> str:
    """How a difference that no cell holds was estimated, and what it cannot be told from."""
    told = f"cannot be told from {', '.join(aliases)}" if aliases else "clear of interactions"
    more = "" if aliases else " of two factors"
    return f"no cell holds both sides: least squares over {len(weights)} arms, {told}{more}"


def _family(study: Study, frozen: Frozen | None) -> int:
    """How many contrasts share alpha: those of the first run; today's where it had none."""
    written = contrasts_in(frozen.study_json) if frozen is not None else None
    return len(written or study.contrasts)


def _told(bare: PlannedContrast, n: int, alpha: float, recorded: Pilots) -> PlannedContrast:
    """With what n replicates detect, and what more of them would."""
    if n < 2:
        note = "one replicate: nothing about recipes can be judged; give 2 or more, better 6"
        return bare.model_copy(update={"notes": [note]})
    tests = tested(bare)
    if not tests:
        return bare
    known = [recorded.pilot(bare.metric, groups) for groups, _ in tests]
    pilots = [one for one in known if one is not None]
    if len(pilots) < len(tests):
        sds = [
            power.detectable(n, alpha * share, spread=power.Spread(pilot.in_pairs(groups)))
            for groups, share in tests
        ]
        few = f"below {FEW} replicates only very large differences can be found; better 6 or more"
        return bare.model_copy(
            update={"detectable": max(sds), "notes": [few] if n < FEW else []},
        )
    planned = []
    for one, (groups, share) in zip(pilots, tests, strict=True):
        found = recorded.over_prompts(bare.id, bare.metric, groups)
        assumed = found.assumed() if found is not None else None
        spread = power.Spread(one.sd * power.assured(one.df), assumed)
        now = power.detectable(n, alpha * share, spread=spread)
        planned.append(_Test(now, alpha * share, spread, one, found))
    hardest = max(planned, key=lambda test: test.detects)
    return bare.model_copy(update=_of_units(hardest, n, bare.margin))


@dataclass(frozen=True)
class _Test:
    """One test of a contrast, in units of its metric."""

    detects: float
    alpha: float
    spread: power.Spread
    pilot: Pilot
    over_prompts: PromptSpread | None


def _of_units(test: _Test, n: int, margin: float | None) -> dict[str, Any]:
    alpha, spread, prompts = test.alpha, test.spread, test.over_prompts
    reached: list[Enough] = []
    notes = [_source(test.pilot)]
    if n < FEW:
        at = {more: power.detectable(more, alpha, spread=spread) for more in (FEW, 6)}
        more = ", ".join(f"{seeds} seeds detect {found:.3g}" for seeds, found in at.items())
        notes.append(f"below {FEW} replicates only large differences can be found; {more}")
    if margin is not None and test.detects > margin:
        reached = _reaching(margin, n, alpha, spread)
        notes.append(_margin(margin, reached))
    elif margin is None and (n >= FEW or prompts is not None):
        notes.append(_more(n, test.detects, alpha, spread))
    return {
        "detectable": test.detects,
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


def _reaching(margin: float, n: int, alpha: float, spread: power.Spread) -> list[Enough]:
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


def _more(n: int, now: float, alpha: float, spread: power.Spread) -> str:
    """What a third more seeds would detect, and twice the prompts; what would not help."""
    seeds = n + max(1, round(n / 3))
    with_seeds = f"{seeds} seeds detect {power.detectable(seeds, alpha, spread=spread):.3g}"
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
