"""What `run --until-decided` costs and errs: familywise error, and trials against a fixed design.

    python benchmarks/adaptive.py [--studies 2000] [--seed 1] [--out benchmarks/results]

Simulated studies of a baseline and five arms, each compared with the baseline, are looked at, read,
dropped and stopped by the product's own functions (`harness.analysis`); only the numbers that
trials measure are drawn here. Effects are in multiples of the planned one, `plan`'s detectable
difference.

familywise   share of studies with a wrong verdict: a difference claimed where none is, its sign
             wrong, or one claimed to be beyond (or inside) a margin where it is not. Limit .05.
trials       those run, over those of the fixed design (all arms, step-down at its end) that has the
             same power at the planned effect, its replicates interpolated. Limits: 1.1 at the
             planned effect, .85 where nothing differs, .6 at 5 5 3 3 1 times the planned effect.

The table is written as JSON with versions and date. Exit code 1 where a limit is exceeded by more
than twice its Monte-Carlo error.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.inference import ByPrompt, estimate, one_group
from harness.analysis.kinds import Linear
from harness.analysis.looks import AtLook, needed, outcomes
from harness.analysis.spending import calibrated
from harness.analysis.step_down import step_down
from harness.journal.prompt_values import PromptValues
from harness.journal.records import OutcomeState, Spending
from harness.planning.power import detectable

ALPHA = 0.05
ARMS = ("a", "b", "c", "d", "e")
BASE = "baseline"
ARMS_OF = {arm: (arm, BASE) for arm in ARMS}
PLANNED = {
    10: detectable(9, ALPHA / len(ARMS)),
    12: detectable(10, ALPHA / len(ARMS)),
}
"""At most N replicates -> planned effect, in SDs of a paired difference: what `plan` says that a
fixed design of nearly as many finds, as one of five, in 80 %."""
Table = dict[str, dict[int, float]]
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of SD 1."""
    return rng.standard_normal(shape)


def t3(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Student's t with 3 df, of SD 1."""
    return rng.standard_t(3, shape) / math.sqrt(3)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Exponential, of mean 0 and SD 1."""
    return rng.standard_exponential(shape) - 1


@dataclass(frozen=True)
class Row:
    """One truth and one design."""

    name: str
    effects: Sequence[float]
    """Of the five arms, in planned effects (in margins, where there is one)."""
    at_most: int = 12
    noise: Noise = normal
    spread: Mapping[str, float] = field(default_factory=dict)
    """Arm to the factor of its SD."""
    missing: float = 0.0
    margin: float | None = None
    """In standard errors of a difference at the last look."""
    prompts: int = 0
    """Prompts, whose own effects are as spread as seeds are; 0: seeds only."""
    futility: bool = True
    goal: float | None = None
    """Limit of the trials."""


def rows() -> list[Row]:
    """The table's rows."""
    found = []
    for n in PLANNED:
        found += [
            Row("nothing differs", (0, 0, 0, 0, 0), n, goal=0.85),
            Row("all at the planned effect", (1, 1, 1, 1, 1), n, goal=1.1),
            Row("3 3 2 1 0 times", (3, 3, 2, 1, 0), n),
            Row("5 5 3 3 1 times", (5, 5, 3, 3, 1), n, goal=0.6),
            Row("all at 4 times", (4, 4, 4, 4, 4), n),
        ]
    zero = (0, 0, 0, 0, 0)
    return [
        *found,
        Row("four far, one 0", (8, 8, 8, 8, 0)),
        Row("nothing differs, going on when futile", zero, futility=False),
        Row("nothing differs, one arm 5 x", zero, spread={"a": 5.0}, futility=False),
        Row("nothing differs, baseline 5 x", zero, spread={BASE: 5.0}, futility=False),
        Row("nothing differs, t3", zero, noise=t3, futility=False),
        Row("nothing differs, skewed, one arm 2 x", zero, noise=skewed, spread={"a": 2.0}),
        Row("nothing differs, 5 % missing", zero, missing=0.05, futility=False),
        Row("all on a margin of 3 SE", (1, 1, 1, 1, 1), margin=3.0, futility=False),
        Row("all on a margin of 8 SE", (1, -1, 1, -1, 1), margin=8.0, futility=False),
        Row("nothing differs, margin of 6 SE", zero, margin=6.0, futility=False),
        Row("nothing differs, 30 prompts", zero, prompts=30, futility=False),
        Row("at the planned effect, 192 prompts", (1, 1, 1, 1, 1), prompts=192),
    ]


@dataclass
class Drawn:
    """One study's numbers, all replicates of them."""

    values: Table
    by_prompt: ByPrompt | None
    truth: dict[str, float]
    margin: float | None

    def member(self, arm: str, replicates: int) -> Linear:
        """The contrast of an arm with the baseline, as the product estimates it by a look."""
        before = {
            name: {r: v for r, v in self.values[name].items() if r < replicates}
            for name in (arm, BASE)
        }
        groups = one_group([{arm: 1.0, BASE: -1.0}])
        return Linear(estimate(before, groups, self.by_prompt), self.margin, True)

    def wrong(self, arm: str, verdict: str) -> bool:
        """Whether a verdict contradicts the truth."""
        true, margin = self.truth[arm], self.margin or 0.0
        if verdict == "equivalent":
            return abs(true) >= margin
        if verdict.startswith(("improves", "harms")):
            sign = 1 if verdict.startswith("improves") else -1
            least = 0.0 if verdict.endswith("(size unsettled)") else margin
            return sign * true <= least
        return False


def draw(row: Row, rng: np.random.Generator, replicates: int) -> Drawn:
    """A study's trials; the SD of a paired difference of usual arms is 1."""
    names = (BASE, *ARMS)
    margin = None if row.margin is None else row.margin / math.sqrt(row.at_most)
    unit = PLANNED[row.at_most] if margin is None else margin
    truth = {arm: unit * effect for arm, effect in zip(ARMS, row.effects, strict=True)}
    noise = row.noise(rng, (len(names), replicates)) / math.sqrt(2)
    gone = rng.random((len(names), replicates)) < row.missing
    values: Table = {}
    for i, name in enumerate(names):
        made = truth.get(name, 0.0) + row.spread.get(name, 1.0) * noise[i]
        values[name] = {r: float(made[r]) for r in range(replicates) if not gone[i, r]}
    if not row.prompts:
        return Drawn(values, None, truth, margin)
    own = rng.standard_normal((len(names), row.prompts)) / math.sqrt(2)
    each = rng.standard_normal((len(names), replicates, row.prompts)) / math.sqrt(2)
    tables = {}
    for i, name in enumerate(names):
        for r in range(replicates):
            psi = values[name][r] + own[i] + each[i, r]
            values[name][r] = float(psi.mean())
            told = dict(zip(map(str, range(row.prompts)), map(float, psi), strict=True))
            tables[name, r] = PromptValues({"all": 1.0}, {"all": told})
    return Drawn(values, ByPrompt.of(tables), truth, margin)


def adaptive(
    drawn: Drawn, spending: Spending, *, futility: bool
) -> tuple[dict[str, str], int, int]:
    """Verdicts, trials run and replicates begun of a study that stops when it is decided."""
    members: dict[str, AtLook] = {}
    ended: dict[str, OutcomeState] = {}
    going, trials = {BASE, *ARMS}, spending.first * (1 + len(ARMS))
    n = spending.first
    while True:
        members |= {a: AtLook(drawn.member(a, n), n, spending) for a in ARMS if a not in ended}
        said = outcomes(members, ALPHA, len(ARMS), ended)
        ended = {
            a: o.state
            for a, o in said.items()
            if o.state == "decided" or (o.state != "open" and futility)
        }
        going = needed(ARMS_OF, [a for a in ARMS if a not in ended], going)
        if not going or n == spending.at_most:
            return {a: o.verdict for a, o in said.items()}, trials, n
        n += 1
        trials += len(going)


def fixed(drawn: Drawn, replicates: int) -> dict[str, str]:
    """Verdicts of a study that runs all its replicates and is judged once."""
    found = step_down([drawn.member(a, replicates) for a in ARMS], ALPHA)
    return {a: d.reading.verdict for a, d in zip(ARMS, found, strict=True)}


def power_of(verdicts: Mapping[str, str], drawn: Drawn) -> float:
    """Share of the true differences that were found."""
    true = [a for a in ARMS if drawn.truth[a] > 0]
    return sum(verdicts[a] == "improves" for a in true) / len(true) if true else math.nan


def equal_fixed(at_most: int, studies: int, seed: int) -> tuple[float, float]:
    """Replicates of the fixed design with the power that looking has at the planned effect.

    Returns:
        the replicates, interpolated, and that power.
    """
    row = Row("", (1, 1, 1, 1, 1), at_most)
    spending = calibrated(at_most, ALPHA, len(ARMS))
    sizes = range(at_most - 4, at_most + 1)
    of_fixed = dict.fromkeys(sizes, 0.0)
    of_looks = 0.0
    rng = np.random.default_rng([seed, at_most])
    for _ in range(studies):
        drawn = draw(row, rng, at_most)
        of_looks += power_of(adaptive(drawn, spending, futility=True)[0], drawn) / studies
        for n in sizes:
            of_fixed[n] += power_of(fixed(drawn, n), drawn) / studies
    return float(np.interp(of_looks, list(of_fixed.values()), list(sizes))), of_looks


def simulate(row: Row, studies: int, seed: int, against: float) -> dict[str, Any]:
    """One row of the table; `against`: replicates of the fixed design."""
    spending = calibrated(row.at_most, ALPHA, len(ARMS))
    rng = np.random.default_rng([seed, row.at_most, len(row.name), *map(ord, row.name)])
    wrong = trials = begun = 0
    powers = []
    for _ in range(studies):
        drawn = draw(row, rng, row.at_most)
        verdicts, ran, last = adaptive(drawn, spending, futility=row.futility)
        wrong += any(drawn.wrong(a, v) for a, v in verdicts.items())
        trials += ran
        begun += last
        powers.append(power_of(verdicts, drawn))
    rate = wrong / studies
    ratio = trials / studies / (against * (1 + len(ARMS)))
    error = math.sqrt(max(rate, ALPHA) * (1 - max(rate, ALPHA)) / studies)
    return {
        "row": row.name,
        "at_most": row.at_most,
        "effects": list(row.effects),
        "studies": studies,
        "familywise": round(rate, 4),
        "familywise_se": round(error, 4),
        "familywise_met": rate <= ALPHA + 2 * error,
        "power": None if any(map(math.isnan, powers)) else round(float(np.mean(powers)), 3),
        "replicates": round(begun / studies, 2),
        "trials": round(ratio, 3),
        "trials_goal": row.goal,
        "trials_met": None if row.goal is None else ratio <= row.goal,
    }


def main() -> int:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    equal = {n: equal_fixed(n, asked.studies, asked.seed) for n in PLANNED}
    for n, (against, power) in equal.items():
        print(f"at most {n}: power {power:.3f}, as {against:.2f} replicates of the fixed design")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    table: list[dict[str, Any]] = []
    content = {
        "date": today,
        "studies": asked.studies,
        "seed": asked.seed,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("numpy", "scipy", "stillhouse")},
        "fixed_design": {
            n: {"replicates": round(r, 2), "power": round(p, 3), "effect_sd": round(PLANNED[n], 3)}
            for n, (r, p) in equal.items()
        },
        "rows": table,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / f"adaptive-{today}.json"
    for row in rows():
        made = simulate(row, asked.studies, asked.seed, equal[row.at_most][0])
        table.append(made)
        file.write_text(json.dumps(content, indent=1) + "\n")
        goal = f" (goal {row.goal})" if row.goal else ""
        met = made["familywise_met"] and made["trials_met"] is not False
        print(
            f"{row.name:<38} N {row.at_most}  familywise {made['familywise']:.4f}  "
            f"power {made['power']}  trials {made['trials']:.3f}{goal}  {'' if met else 'NOT MET'}",
            flush=True,
        )
    print(file)
    return int(any(not r["familywise_met"] or r["trials_met"] is False for r in table))


if __name__ == "__main__":
    sys.exit(main())
