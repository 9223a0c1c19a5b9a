"""One verdict from what the replicates say: the same fields and the same sentence everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.analyse import words
from harness.analyse.answer import Verdict, VerdictName
from harness.analyse.contrasts import Inference
from harness.contract import MetricSpec
from harness.plan import Plan


@dataclass(frozen=True)
class Ruling:
    """A decided comparison of side `a` with side `b`, before it is put into words."""

    id: str
    claim: str
    a: str
    b: str
    metric: str
    spec: MetricSpec
    planned: bool
    found: Inference
    p_adjusted: float | None
    adjustment: str
    verdict: VerdictName
    reason: str
    notes: list[str]
    keys: list[str]
    margin: float | None = None
    expectation: words.Expectation = ""
    worst_case: VerdictName | None = None
    factor: str = ""
    amended: str = ""
    aliases: list[str] = field(default_factory=list)
    replicates: int | None = None
    """Replicates it was to be judged on, where they are not the plan's."""

    def told(self, plan: Plan, alpha: float) -> Verdict:
        """The verdict with its sentence, under the plan's scope and number of replicates."""
        found, planned = self.found, self.replicates or plan.replicates
        sentence = words.sentence(
            self.verdict,
            found,
            a=self.a,
            b=self.b,
            metric=self.metric,
            unit=self.spec.unit,
            n_planned=planned,
            level=1 - alpha,
            p_adjusted=self.p_adjusted,
            adjustment=self.adjustment,
            margin=self.margin,
            as_expected=self.expectation,
            scope=plan.scope,
            reason=self.reason,
        )
        return Verdict(
            id=self.id,
            claim=self.claim,
            metric=self.metric,
            planned=self.planned,
            n=found.n,
            n_planned=planned,
            difference=found.difference,
            lo=found.lo,
            hi=found.hi,
            level=1 - alpha,
            p=found.p,
            p_adjusted=self.p_adjusted,
            p_sign_flip=found.p_sign_flip,
            margin=self.margin,
            method=found.method,
            verdict=self.verdict,
            expectation=self.expectation,
            words=sentence,
            notes=self.notes,
            per_replicate=found.per_replicate,
            a=self.a,
            b=self.b,
            worst_case=self.worst_case,
            factor=self.factor,
            keys=self.keys,
            amended=self.amended,
            aliases=self.aliases,
        )
