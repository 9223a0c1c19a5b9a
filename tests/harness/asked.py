"""A made-up study asked contrasts of every kind, with values by prompt."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import pytest

from harness.analysis import estimated_contrasts
from harness.analysis.answer import answer
from harness.analysis.model import Answer
from harness.journal.history import History
from harness.journal.prompt_values import PromptValues
from harness.study.planned_contrast import ContrastPart, PlannedContrast
from tests.support.made_up import FACTORS, MadeUp
from tests.support.made_up_records import METRICS

SIDES = {
    "rise": ("edit_share", ""),
    "both": ("edit_share and guidance.scale", ""),
    "which": ("edit_share", "guidance.scale"),
    "top": ("composition", ""),
    "melt": ("edit_share=0.7", ""),
    "first": ("edit_share=0.5", "edit_share=0.1"),
}
PROMPTS = 20
SHARE = {"landscape": 0.25, "portrait": 0.75}


@dataclass
class Reader:
    """Values by prompt whose mean is the trial's number.

    Prompts differ by `size` of it, half as much by the share of edits, and by trial.
    """

    history: History
    size: float = 0.05

    def of(
        self, key: str, code: str | None, protocol: str, metric: str, step: int | None = None
    ) -> PromptValues | None:
        found = self.history.trials[key].measured(protocol)
        at = [m for m in found if step is None or m.step == step]
        value = at[-1].metrics.get(metric) if at else None
        if value is None:
            return None
        edits = self.history.trials[key].ordered[-1].opened.trial.levels.get("edit_share")
        values = {}
        for stratum in SHARE:
            own = []
            for p in range(PROMPTS):
                shared = random.Random(f"{metric}|{stratum}|{p}").gauss(0, 1)
                liked = random.Random(f"{edits}|{metric}|{stratum}|{p}").gauss(0, 1)
                alone = random.Random(f"{key}|{metric}|{step}|{stratum}|{p}").gauss(0, 1)
                own.append(self.size * abs(value) * (shared + 0.5 * liked + 0.3 * alone))
            values[stratum] = {f"{stratum}-{p}": value + v - fmean(own) for p, v in enumerate(own)}
        return PromptValues(SHARE, values)


def contrasts(made: MadeUp) -> list[PlannedContrast]:
    """One of every other kind than a difference, over the arms of a full design."""
    by_levels = {tuple(sorted(arm.levels.items())): arm.name for arm in made.plan.arms}

    def cells(
        factors: list[str], weights: Mapping[tuple[str, ...], float]
    ) -> list[dict[str, float]]:
        others = {f: v for f, v in FACTORS.items() if f not in factors}
        combos: list[dict[str, str]] = [{}]
        for factor, levels in others.items():
            combos = [{**c, factor: level} for c in combos for level in levels]
        found: list[dict[str, float]] = []
        for rest in combos:
            cell = {}
            for levels, weight in weights.items():
                own = {**rest, **dict(zip(factors, levels, strict=True))}
                if weight:
                    cell[by_levels[tuple(sorted(own.items()))]] = weight
            found.append(cell)
        return found

    def part(name: str, factors: list[str], weights, level: str = "") -> ContrastPart:
        return ContrastPart(name=name, level=level, cells=cells(factors, weights))

    shares = FACTORS["edit_share"]
    scores = [float(v) for v in shares]
    middle = fmean(scores)
    total = sum((x - middle) ** 2 for x in scores)
    rise = [
        part(
            "slope",
            ["edit_share"],
            {(v,): (x - middle) / total for v, x in zip(shares, scores, strict=True)},
        ),
        part(
            "quadratic",
            ["edit_share"],
            dict(zip([(v,) for v in shares], (1, -1, -1, -1, 1, 1), strict=True)),
        ),
        *(
            part("neighbour", ["edit_share"], {(a,): -1.0, (b,): 1.0}, f"{a} to {b}")
            for a, b in itertools.pairwise(shares)
        ),
    ]
    corners = {("0.1", "1"): 1.0, ("0.1", "4"): -1.0, ("0.5", "1"): -1.0, ("0.5", "4"): 1.0}
    of = "edit/fidelity"

    def planned(ident: str, kind: str, parts: list[ContrastPart], **more) -> PlannedContrast:
        claim = f"A claim of the kind {kind}"
        return PlannedContrast(
            id=ident, claim=claim, kind=kind, metric=of, pairs=[], parts=parts, **more
        )

    return [
        planned("rise", "trend", rise, expect="higher", margin=0.01),
        planned("both", "interaction", [part("", ["edit_share", "guidance.scale"], corners)]),
        planned(
            "which",
            "more",
            [
                part("first", ["edit_share"], {("0",): -1.0, ("1",): 1.0}),
                part("second", ["guidance.scale"], {("1",): -1.0, ("4",): 1.0}),
            ],
        ),
        planned(
            "top",
            "best",
            [part("level", ["composition"], {(v,): 1.0}, v) for v in FACTORS["composition"]],
        ),
        planned("melt", "collapse", [part("arm", ["edit_share"], {("0.7",): 1.0})], margin=0.05),
        planned(
            "first",
            "sooner",
            [
                part("a", ["edit_share"], {("0.5",): 1.0}),
                part("b", ["edit_share"], {("0.1",): 1.0}),
            ],
            threshold=0.3,
        ),
    ]


def _melt(made: MadeUp) -> None:
    """Arms with a share of 0.7 are better at cycle 100 by about 0.2 than they end."""
    for planned in made.plan.trials:
        trial = planned.trial
        if trial.levels.get("edit_share") != "0.7":
            continue
        for attempt in made.history.trials[trial.key].ordered:
            assert attempt.closed is not None
            more = 0.2 + random.Random(trial.key).gauss(0, 0.02)
            listed = [
                m.model_copy(
                    update={
                        "metrics": {
                            **m.metrics,
                            "edit/fidelity": (m.metrics["edit/fidelity"] or 0.0) + more,
                        }
                    }
                )
                if m.step == 100
                else m
                for m in attempt.closed.measurements
            ]
            attempt.closed = attempt.closed.model_copy(update={"measurements": listed})


def every_kind(
    made: MadeUp, patch: pytest.MonkeyPatch, *, prompts: bool = True
) -> tuple[MadeUp, Answer]:
    """The study with a contrast of each kind more, and its answer."""
    own = estimated_contrasts._Question.sides

    def sides(asked: estimated_contrasts._Question) -> tuple[str, str]:
        return SIDES.get(asked.contrast.id) or own(asked)

    _melt(made)
    patch.setattr(estimated_contrasts._Question, "sides", sides)
    plan = made.plan.model_copy(update={"contrasts": [*made.plan.contrasts, *contrasts(made)]})
    made = MadeUp(made.workspace, made.study, plan, made.history)
    reader = Reader(made.history) if prompts else None
    return made, answer(plan, made.study, made.history, metrics=METRICS, by_prompt=reader)
