"""What a contrast can detect with the replicates planned, and what it cannot reach at all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.analyse import power
from harness.journal import Frozen, History
from harness.plan import PlannedContrast
from harness.planning.amendments import amended, contrasts_in
from harness.planning.asked import asked
from harness.planning.matching import Matched, bare, undeclared
from harness.planning.planned import LINEAR
from harness.study import Contrast, Study

MIN_PAIRS = 3
"""Replicates of pairs in the history from which a spread is worth quoting."""
FEW = 6
"""Below this the decision rests on the residual variance of the arm x replicate model."""

Keys = Mapping[tuple[str, int], str]
"""(arm name, replicate) -> trial key."""


def planned_contrast(
    study: Study,
    contrast: Contrast,
    matched: Matched,
    history: History,
    keys: Keys,
    *,
    recipes: Mapping[str, Mapping[str, Any]],
    mixtures: Collection[str] = (),
    protocol: str,
    frozen: Frozen | None = None,
) -> PlannedContrast:
    """A contrast with its pairs, its detectable difference and its notes.

    The test planned for is at the strictest level, alpha / number of contrasts of the first run:
    the paired t from six replicates on; below, t with the residual variance of the arm x replicate
    model, which has (arms - 1) (replicates - 1) degrees of freedom.
    """
    resolved = bare(contrast, matched, asked(study, contrast))
    weights = resolved.arm_weights()
    why = amended(contrast, resolved, frozen)
    n, tests = study.replicates, _family(study, frozen)
    alpha = study.alpha / tests
    spread, seen = _spread(contrast.metric, weights, history, keys, study.replicates, protocol)
    pooled = (len(recipes) - 1) * (n - 1) if n < FEW else None
    judged = n >= 2 and contrast.kind in LINEAR
    effect = power.detectable(n, alpha, df=pooled) if judged else None
    smallest = None if effect is None else effect * (spread if spread is not None else 1.0)
    notes = _notes(study, contrast, tests, effect, spread, seen, pooled, exploratory=bool(why))
    if matched.same:
        notes.append(
            f"{len(matched.same)} cell(s) have the same recipe on both sides and are dropped"
        )
    if resolved.fitted:
        notes.append(fitted_note(resolved))
    also = undeclared(study, contrast, matched.compared(), recipes, mixtures)
    notes += also
    return resolved.model_copy(
        update={
            "amended": why,
            "confounded": also,
            "detectable": smallest,
            "detectable_in": "sd" if spread is None else "units",
            "notes": notes,
        }
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
    """How many contrasts Holm adjusts for: those of the first run; today's where it had none."""
    written = contrasts_in(frozen.study_json) if frozen is not None else None
    return len(written or study.contrasts)


def _notes(
    study: Study,
    contrast: Contrast,
    tests: int,
    effect: float | None,
    spread: float | None,
    seen: int,
    pooled: int | None,
    *,
    exploratory: bool,
) -> list[str]:
    n = study.replicates
    if n < 2:
        return ["one replicate: nothing about recipes can be judged; give 2 or more, better 6"]
    notes: list[str] = []
    if effect is None:
        return notes
    if spread is not None:
        notes.append(f"spread from {seen} replicates in the history")
    if spread is not None and contrast.margin is not None and effect * spread > contrast.margin:
        alpha = study.alpha / tests
        needed = power.replicates_needed(contrast.margin / spread, alpha) if spread > 0 else n
        reach = f"{needed} replicates reach it" if needed else "no affordable number reaches it"
        notes.append(f"margin {contrast.margin:.3g}: may end undecided; {reach}")
    floor = power.sign_flip_floor(n)
    if exploratory:
        tests = 1  # Benjamini and Hochberg's adjusted p can be p itself
    if floor * tests >= study.alpha:
        after = f" after Holm ({tests} contrasts)" if tests > 1 else ""
        notes.append(
            f"cannot reach p < {study.alpha:g}{after} with {n} replicates by sign-flip "
            f"(at best {min(1.0, floor * tests):.2g}); {_flips_needed(study.alpha, tests)} can"
        )
    if pooled is not None:
        notes.append(
            f"fewer than {FEW} replicates: judged with the residual variance of the "
            f"arm x replicate model ({pooled} df)"
        )
    return notes


def _flips_needed(alpha: float, tests: int) -> int:
    """Fewest replicates whose smallest sign-flip p passes Holm."""
    n = math.ceil(math.log2(2 * tests / alpha))
    return n if power.sign_flip_floor(n) * tests < alpha else n + 1


def _spread(
    metric: str,
    weights: Mapping[str, float],
    history: History,
    keys: Keys,
    replicates: int,
    protocol: str,
) -> tuple[float | None, int]:
    """Standard deviation of the per-replicate difference, and the replicates it rests on."""
    found = []
    for replicate in range(replicates):
        held = {
            arm: keys.get((arm, replicate), "") for arm in weights
        }  # perhaps not all arms have it
        values = {arm: _value(history, key, metric, protocol) for arm, key in held.items()}
        if weights and all(value is not None for value in values.values()):
            found.append(sum(weights[arm] * (value or 0.0) for arm, value in values.items()))
    if len(found) < MIN_PAIRS:
        return None, len(found)
    spread = statistics.stdev(found)
    rounding = 1e-9 * max(abs(difference) for difference in found)
    return (spread if spread > rounding else None), len(found)


def _value(history: History, key: str, metric: str, protocol: str) -> float | None:
    known = history.trials.get(key)
    measured = known.measured(protocol) if known else []
    return measured[-1].metrics.get(metric) if measured else None
