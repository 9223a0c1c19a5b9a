"""Two checkpoints compared over prompts: a claim about these two, not about how they were made.

Both were measured on the same prompts, so the paired difference of each prompt is known; its spread
over prompts is the whole of the uncertainty (SE_P alone of `harness.analyse.inference`, a single
"replicate"). A distance is compared by the difference of its jackknife's pseudo-values. Holm's
procedure over the pairs that are shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analyse.inference import ByPrompt, Prompts, over_prompts, p_of, t_quantile
from harness.prompt_values import PromptValues


@dataclass(frozen=True)
class Pair:
    """a - b of one metric, over prompts.

    Attributes:
        a: name of one checkpoint.
        b: name of the other.
        difference: of the metric.
        prompts: its spread; None where there is no interval.
        why: why there is none.
        p: two-sided, adjusted by Holm over the pairs compared together.
        interval: at 1 - alpha over the number of pairs left at the pair's own step of Holm's
            procedure, so that it agrees with p.
    """

    a: str
    b: str
    difference: float
    prompts: Prompts | None = None
    why: str = ""
    p: float | None = None
    interval: tuple[float, float] | None = None

    def sentence(self, higher_is_better: bool | None, alpha: float = 0.05) -> str:
        """What may be said of these two checkpoints."""
        if self.p is None or self.interval is None or self.prompts is None:
            return f"undecided between {self.a} and {self.b}: {self.why}"
        scope = f"these checkpoints, over {self.prompts.n} prompts"
        if self.p > alpha or higher_is_better is None:
            verdict = "undecided" if self.p > alpha else "differs"
        else:
            verdict = "improves" if (self.difference > 0) == higher_is_better else "harms"
        lo, hi = self.interval
        span = f"{self.difference:+.4g} [{lo:+.4g}, {hi:+.4g}]"
        return f"{self.a} against {self.b}: {verdict}, {span}, p {self.p:.2g} ({scope})"


def compared(
    pairs: Sequence[tuple[str, str]],
    numbers: Mapping[str, float],
    tables: Mapping[str, PromptValues],
    alpha: float = 0.05,
) -> list[Pair]:
    """Pairs of checkpoints of one metric, in the order given.

    Args:
        pairs: names of a and b.
        numbers: checkpoint to the metric.
        tables: checkpoint to its values by prompt; one without has no interval.
        alpha: error rate over all pairs together.
    """
    found = [_alone(a, b, numbers, tables) for a, b in pairs]
    raw = {i: _p(pair) for i, pair in enumerate(found) if pair.prompts is not None}
    floor, decided, at = 0.0, True, len(raw)
    for step, i in enumerate(sorted(raw, key=lambda i: raw[i])):
        left = len(raw) - step
        floor = max(floor, min(1.0, left * raw[i]))
        pair = found[i]
        assert pair.prompts is not None
        # Holm stops at the first that is not decided; the rest have that step's intervals.
        at = left if decided else at
        decided = decided and left * raw[i] <= alpha
        half = t_quantile(pair.prompts.df, alpha / at) * math.sqrt(pair.prompts.variance)
        ends = (pair.difference - half, pair.difference + half)
        found[i] = Pair(pair.a, pair.b, pair.difference, pair.prompts, "", floor, ends)
    return found


def _alone(
    a: str, b: str, numbers: Mapping[str, float], tables: Mapping[str, PromptValues]
) -> Pair:
    trials = {(name, 0): tables[name] for name in (a, b) if name in tables}
    spread, why = None, "there are no values by prompt"
    if trials:
        spread, why = over_prompts(ByPrompt.of(trials), {(a, 0): 1.0, (b, 0): -1.0}, {0: 1.0})
    difference = numbers[a] - numbers[b]
    if spread is not None and spread.variance <= (1e-12 * max(map(abs, numbers.values()))) ** 2:
        spread, why = None, "the difference is the same on every prompt: no spread to judge it by"
    return Pair(a, b, difference, spread, why)


def _p(pair: Pair) -> float:
    assert pair.prompts is not None
    return p_of(pair.difference / math.sqrt(pair.prompts.variance), pair.prompts.df)
