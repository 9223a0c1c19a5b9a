"""From numbers side by side to a decision: bit-equal, noise, a new replicate, not reproduced."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.reproducing.comparison import Compared, scaled
from harness.reproducing.recorded import Recorded
from harness.reproducing.scales import FALSE_RATE, FEWEST_REPLICATES, level_for

Decision = Literal[
    "bit-equal",
    "same digits",
    "as recorded",
    "within rerun noise",
    "consistent with a new replicate",
    "not reproduced",
    "not judged",
]
"""`as recorded`: nothing was computed, and what stands here is what ran."""
ORDER: tuple[Decision, ...] = (
    "bit-equal",
    "same digits",
    "as recorded",
    "within rerun noise",
    "consistent with a new replicate",
    "not judged",
    "not reproduced",
)
"""From the strongest claim to the weakest; of several numbers the last one counts."""
EXIT_CODES: dict[Decision, int] = {
    "bit-equal": 0,
    "same digits": 0,
    "as recorded": 0,
    "within rerun noise": 0,
    "consistent with a new replicate": 0,
    "not reproduced": 1,
    "not judged": 3,
}


@dataclass(frozen=True)
class Judgement:
    """A decision, the numbers it rests on, and why."""

    decision: Decision
    reason: str
    values: list[Compared]


def weakest(decisions: Collection[Decision]) -> Decision:
    """What several decisions come to."""
    return max(decisions, key=ORDER.index)


def judge(
    values: Sequence[Compared],
    recorded: Recorded,
    metrics: Collection[str],
    differences: Sequence[str],
    family: int = 1,
) -> Judgement:
    """Decide on the reported numbers of the last step; all others count only if those are equal.

    Args:
        values: from `compare`, not empty.
        recorded: the trial; its arm's replicates and the study's reruns give the scales.
        metrics: those that the study reports.
        differences: what differs from then, in words; named where the numbers do not come out.
        family: trials judged together; the false rate is that of all of them.
    """
    equal = sum(v.equal for v in values)
    told = f"{equal} of {len(values)} measured numbers are bit-equal"
    if equal == len(values):
        return Judgement("bit-equal", told, [_marked(v, metrics, values) for v in values])
    chosen = _chosen(values, metrics)
    level = level_for(len(chosen) * family)
    scales = [scaled(v, recorded, level) if v in chosen else v for v in values]
    judged = [v for v in scales if v.judged]
    decisions = {id(v): decision_of(v) for v in judged}
    decision = weakest(decisions.values())
    deciding = [v for v in judged if decisions[id(v)] == decision]
    words = _words(decision, deciding, len(judged), differences)
    return Judgement(decision, f"{told}; {words}", scales)


def _last(values: Sequence[Compared]) -> int:
    return max(v.step for v in values)


def _marked(value: Compared, metrics: Collection[str], values: Sequence[Compared]) -> Compared:
    reported = value.metric in metrics and value.step == _last(values)
    return value.model_copy(update={"judged": reported})


def _chosen(values: Sequence[Compared], metrics: Collection[str]) -> list[Compared]:
    """Reported numbers of the last step; where those are all equal, every one that is not."""
    reported = [v for v in values if v.metric in metrics and v.step == _last(values)]
    if any(not v.equal for v in reported):
        return reported
    return [v for v in values if not v.equal]


def decision_of(value: Compared) -> Decision:
    """The strongest scale on which one judged number reproduced."""
    if value.equal:
        return "bit-equal"
    if not value.measured or value.recorded is None or value.now is None:
        return "not reproduced"  # a finite number then, none now, or the other way round
    if value.noise is not None and value.noise.holds(value.now):
        return "within rerun noise"
    if value.replicates is None:
        return "not judged"
    return "consistent with a new replicate" if _holds(value) else "not reproduced"


def _holds(value: Compared) -> bool:
    assert value.replicates is not None
    assert value.now is not None
    return value.replicates.holds(value.now)


def _words(
    decision: Decision, deciding: Sequence[Compared], judged: int, differences: Sequence[str]
) -> str:
    names = ", ".join(dict.fromkeys(v.metric for v in deciding))
    share = f"{len(deciding)} of {judged} judged ({names})"
    if decision == "within rerun noise":
        worst = max(deciding, key=_in_noise)
        assert worst.noise is not None
        return (
            f"{share} moved no more than same-seed reruns of the baseline do: at most "
            f"{_in_noise(worst):.2g} of the band's half width, {worst.noise.df} df"
        )
    if decision == "consistent with a new replicate":
        return f"{share} fall where a new replicate would. {_weak(deciding)}"
    if decision == "not judged":
        return (
            f"{share} moved, and nothing recorded says how far such a number moves by itself: it "
            f"takes {FEWEST_REPLICATES} replicates of the arm, or `reruns:` in the study"
        )
    cause = "; ".join(differences) or "nothing that is recorded"
    lost = [v.metric for v in deciding if v.now is None or v.recorded is None]
    gone = f" ({', '.join(dict.fromkeys(lost))}: no number then or now)" if lost else ""
    return f"{share} fall outside of what a new replicate may give{gone}. What differs: {cause}"


def _in_noise(value: Compared) -> float:
    assert value.noise is not None
    assert value.now is not None
    assert value.recorded is not None
    half = value.noise.width / 2
    return abs(value.now - value.recorded) / half if half else math.inf


def _weak(deciding: Sequence[Compared]) -> str:
    """How much the interval lets pass: the reader decides what it is worth."""
    widths = []
    for value in deciding:
        band = value.replicates
        if band is not None:
            widths.append(f"{value.metric} [{band.low:.4g}, {band.high:.4g}] is {band.width:.3g}")
    rate = f"{100 * FALSE_RATE:g} %"
    return (
        f"This is weak evidence: a wide interval lets much pass. Width ({rate} false alarms over "
        f"all judged numbers): {'; '.join(widths)}"
    )
