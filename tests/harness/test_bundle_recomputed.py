"""The verifier's arithmetic, written a second time, against the analysis: random designs."""

from __future__ import annotations

import ast
import math
import random
from collections import Counter

import pytest
from scipy.special import stdtr, stdtrit

from harness.analysis import inference, kinds
from harness.analysis import step_down as stepping
from harness.analysis.divergence import winner_filled
from harness.analysis.explore import benjamini_hochberg, error_rates
from harness.bundle.verify import readings
from harness.bundle.verify.estimates import TrialPrompts, Work, estimated
from harness.bundle.verify.student import log_tail, quantile
from harness.bundle.write import verifier_source
from harness.journal.prompt_values import PromptValues
from harness.planning.crossing import crossing
from harness.text.archive import Bad

DEGREES = (0.01, 0.3, 1, 1.37, 2.5, 5, 11.7, 49, 190.3, 1e4)
RATES = (0.05, 0.01, 0.05 / 7)
STRATA = {"hills": 0.75, "signs": 0.25}


@pytest.mark.parametrize("df", DEGREES)
def test_students_t_is_that_of_scipy(df: float):
    for t in (1e-3, 0.3, 1.0, 2.0, 7.5, 40.0, 1e4, 1e12):
        expected = 2 * float(stdtr(df, -t))
        if expected > 1e-250:
            assert math.exp(log_tail(t, df)) == pytest.approx(expected, rel=1e-9)
    for alpha in (1 - 1e-7, 0.99, 0.5, 0.05, 1e-3, 1e-8, 1e-20):
        expected = -float(stdtrit(df, alpha / 2))
        found = quantile(df, math.log(alpha))
        if expected < 1e150:
            assert found == pytest.approx(expected, rel=1e-9)
        else:
            assert found == math.inf
    assert quantile(df, 0.0) == log_tail(0.0, df) == 0.0


class World:
    """Values and values by prompt of some arms, with trials missing."""

    def __init__(self, seed: int, last: float = 0.0) -> None:
        rng = self.rng = random.Random(seed)
        self.replicates = rng.choice((1, 2, 3, 4, 6, 9))
        self.cells = rng.choice((1, 2, 3, 5))
        missing = rng.choice((0, 0, 0.1, 0.3))
        noise = rng.choice((0.0, 0.02, 0.5)) if seed % 7 == 0 else rng.choice((0.05, 0.5))
        self.rows: dict[str, dict[int, float]] = {}
        self.tables: dict[tuple[str, int], TrialPrompts] = {}
        prompts = rng.choice((0, 2, 7, 20))
        pseudo, grouped = rng.random() < 0.3, rng.random() < 0.3
        strata = STRATA if rng.random() < 0.6 else {"all": 1.0}
        sizes = {k: {"p0": 3} for k in strata} if grouped else {}
        for cell in range(self.cells):
            for level, side in enumerate("abcd"):
                arm = f"{side}{cell}"
                for r in range(self.replicates):
                    if rng.random() < missing:
                        continue
                    base = 3 + 0.2 * level + 0.1 * cell + (rng.gauss(0, noise) if noise else 0)
                    self.rows.setdefault(arm, {})[r] = base
                    values = {
                        k: {
                            f"p{p}": base
                            + random.Random(f"{k}{p}{level}").gauss(0, 0.4)
                            + (rng.gauss(0, 0.2) if noise else 0)
                            for p in range(prompts)
                            if rng.random() > 0.02
                        }
                        for k in strata
                    }
                    if prompts:
                        self.tables[arm, r] = TrialPrompts(strata, values, pseudo, sizes)
        if prompts and rng.random() < 0.1:
            self.tables.pop(next(iter(self.tables)), None)

    @property
    def by_prompt(self) -> dict[tuple[str, int], PromptValues]:
        return {
            t: PromptValues(v.strata, v.values, v.pseudo, v.sizes) for t, v in self.tables.items()
        }

    def pairs(self, weights: dict[str, float]) -> list[dict[str, float]]:
        return [{f"{a}{c}": w for a, w in weights.items()} for c in range(self.cells)]


def close(found, expected) -> None:
    if expected is None or isinstance(expected, str):
        assert found == expected
    elif isinstance(expected, tuple):
        for one, two in zip(found, expected, strict=True):
            width = max(map(abs, expected))
            assert one == pytest.approx(two, rel=1e-9, abs=1e-10 * width)
    else:
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-290)


def alike(found, expected: inference.Estimated) -> None:
    """Two estimates are the same in everything that an answer tells."""
    seeds, prompts = expected.seeds, expected.prompts
    assert (found.n, found.method) == (seeds.n, seeds.method)
    assert found.own == pytest.approx(dict(seeds.per_replicate), rel=1e-12)
    close(found.difference, seeds.difference)
    close(found.se, seeds.se)
    if seeds.se is not None:
        close(found.df, seeds.df)
    assert (found.prompts is None) == (prompts is None)
    if prompts is not None:
        assert found.prompts.n == prompts.n
        assert found.prompts.strata == len(prompts.counts)
        close(found.prompts.variance, prompts.variance)
        close(found.prompts.df, prompts.df)
        assert found.prompts.both == pytest.approx(prompts.both, abs=1e-11 * prompts.variance)
    for narrow in (False, True):
        for alpha in RATES:
            close(found.interval(alpha, narrow), expected.interval(alpha, narrow=narrow))
        close(found.p(narrow), expected.p(narrow=narrow))
        close(found.p(narrow, 0.1), expected.p(narrow=narrow, shift=0.1))


@pytest.mark.parametrize("seed", range(120))
def test_estimates_are_those_of_the_analysis(seed: int):
    world = World(seed)
    arrays = inference.ByPrompt.of(world.by_prompt) if world.tables else None
    pair, slope = {"a": 1.0, "b": -1.0}, {"a": -1.5, "b": -0.5, "c": 0.5, "d": 1.5}
    for weights in (pair, slope, {"a": 1.0}):
        cells = world.pairs(weights)
        expected = inference.estimate(world.rows, inference.one_group(cells), arrays)
        alike(estimated(world.rows, [(cells, 1.0)], world.tables, Work()), expected)
    both = [(world.pairs(pair), 1.0), (world.pairs({"c": 1.0, "d": -1.0})[:2], -1.0)]
    groups = tuple(inference.Group(tuple(cells), sign) for cells, sign in both)
    expected = inference.estimate(world.rows, groups, arrays)
    alike(estimated(world.rows, both, world.tables, Work()), expected)


def told(found: readings.Said) -> tuple:
    return found.verdict, found.leaves, found.best, found.step, found.vetoed


def read(found: stepping.Reading) -> tuple:
    return found.verdict, found.leaves, found.members, found.step, found.vetoed is not None


def same_readings(mine: readings.ContrastEstimates, wide, narrow) -> None:
    for member, side in ((wide, False), (narrow, True)):
        for alpha in (*RATES, 0.4):
            found, expected = mine.at(alpha, side), member.at(alpha)
            assert told(found) == read(expected)
            if expected.lo is not None:
                close((found.lo, found.hi), (expected.lo, expected.hi))
        close(mine.p(side), member.p)


def contrast(kind: str, *cells, **more):
    parts = [{"name": "", "level": f"l{i}", "cells": c} for i, c in enumerate(cells)]
    return {"kind": kind, "margin": None, "threshold": None, "falls": False, "parts": parts, **more}


@pytest.mark.parametrize("seed", range(80))
def test_kinds_read_as_in_the_analysis(seed: int):
    world, rng = World(seed), random.Random(seed)
    tables = world.by_prompt
    arrays = inference.ByPrompt.of(tables) if tables else None
    higher = rng.choice((True, False, None))
    states = {
        arm: {
            r: "done" if r in row else rng.choice(("diverged", "failed"))
            for r in range(world.replicates)
        }
        for arm, row in world.rows.items()
    }
    margin = rng.choice((None, 0.1, 0.3))

    def estimate(*groups):
        return inference.estimate(world.rows, groups, arrays)

    def own(made):
        args = ({-1: world.rows}, {-1: world.tables}, states, higher, 0.05, Work())
        return readings.judged(made, *args)

    cells = world.pairs({"a": 1.0, "b": -1.0})
    groups = inference.one_group(cells)
    found = estimate(*groups)
    filled = higher is not None and winner_filled(
        found,
        world.rows,
        groups,
        states,
        higher_is_better=higher,
        replicates=range(world.replicates),
    )
    same_readings(
        own(contrast("difference", cells, margin=margin)),
        *(
            kinds.Linear(found, margin, higher, side, filled[0] if filled else None)
            for side in (False, True)
        ),
    )
    one, two = cells, world.pairs({"c": 1.0, "d": -1.0})
    minus, plus = (
        estimate(inference.Group(tuple(one)), inference.Group(tuple(two), s)) for s in (-1.0, 1.0)
    )
    same_readings(
        own(contrast("more", one, two)), *(kinds.More(minus, plus, s) for s in (False, True))
    )
    levels = {f"l{i}": world.pairs({side: 1.0}) for i, side in enumerate("abcd")}
    pairs = {
        (i, j): estimate(
            *inference.one_group(
                [
                    {**x, **{arm: -w for arm, w in y.items()}}
                    for x, y in zip(levels[i], levels[j], strict=True)
                ]
            )
        )
        for i, j in kinds.all_pairs(list(levels))
    }
    same_readings(
        own(contrast("best", *levels.values())),
        *(kinds.Best(tuple(levels), pairs, higher is not False, s) for s in (False, True)),
    )


@pytest.mark.parametrize("seed", range(40))
def test_training_reads_as_in_the_analysis(seed: int):
    """Collapse and sooner: four steps of one arm's, or two arms', curves."""
    worlds = {step: World(seed) for step in (1, 2, 5, 9)}
    rng = random.Random(seed)
    for step, world in worlds.items():
        for row in world.rows.values():
            row.update({r: v + step * rng.gauss(-0.1, 0.1) for r, v in row.items()})
    higher = rng.choice((True, False, None))
    curves = {step: world.rows for step, world in worlds.items()}
    tables = {step: world.tables for step, world in worlds.items()}
    made = contrast("collapse", worlds[1].pairs({"a": 1.0}), margin=0.3)
    with_references = {0: {}, **curves}  # reference rows are measured at a step of their own
    mine = readings.judged(made, with_references, tables, {}, higher, 0.05, Work())
    arms = [arm for arm in worlds[1].rows if arm[0] == "a"]
    lost = kinds.losses(
        {step: {arm: rows[arm] for arm in arms} for step, rows in curves.items()},
        {step: world.by_prompt for step, world in worlds.items()},
        higher_is_better=higher is not False,
    )
    found = {
        step: inference.estimate(
            values,
            inference.one_group(worlds[1].pairs({"a": 1.0})),
            inference.ByPrompt.of(table) if table else None,
        )
        for step, (values, table) in lost.items()
    }
    same_readings(mine, *(kinds.Collapse(found, 0.3, side) for side in (False, True)))
    for falls in (False, True):
        sides = (worlds[1].pairs({"a": 1.0}), worlds[1].pairs({"b": 1.0}))
        made = contrast("sooner", *sides, threshold=2.6, falls=falls)
        mine = readings.judged(made, curves, tables, {}, higher, 0.05, Work())
        rising = (higher is not False) != falls
        times = {
            arm: {
                r: crossing({s: rows[arm][r] for s, rows in curves.items()}, 2.6,
                                  rising=rising)
                for r in row
            }
            for arm, row in worlds[1].rows.items()
        }  # fmt: skip
        cells = worlds[1].pairs({"a": 1.0, "b": -1.0})
        member = kinds.TimeDifference(inference.estimate(times, inference.one_group(cells)))
        same_readings(mine, member, member)


@pytest.mark.parametrize("seed", range(40))
def test_families_step_down_as_in_the_analysis(seed: int):
    rng = random.Random(seed)
    mine, theirs = [], []
    for number in range(rng.choice((1, 2, 5, 9))):
        world = World(1000 * seed + number)
        margin, higher = rng.choice((None, 0.05, 0.4)), rng.choice((True, False))
        cells = world.pairs({"d": 1.0, "b": -1.0})
        args = ({-1: world.rows}, {-1: world.tables}, {}, higher, 0.05, Work())
        mine.append(readings.judged(contrast("difference", cells, margin=margin), *args))
        arrays = inference.ByPrompt.of(world.by_prompt) if world.tables else None
        found = inference.estimate(world.rows, inference.one_group(cells), arrays)
        theirs.append(kinds.Linear(found, margin, higher))
    family = rng.choice((0, len(mine) + 2))
    found = readings.step_down(mine, 0.05, family, False)
    expected = stepping.step_down(theirs, 0.05, family)
    assert [left for _, left in found] == [decided.left for decided in expected]
    assert [told(said) for said, _ in found] == [read(decided.reading) for decided in expected]


def test_exploratory_p_and_error_rates_are_those_of_the_analysis():
    rng = random.Random(1)
    for _ in range(50):
        p = [rng.choice((None, rng.random() ** 4)) for _ in range(rng.randrange(9))]
        adjusted = benjamini_hochberg(p)
        expected = list(zip(adjusted, error_rates(adjusted, 0.05), strict=True))
        assert readings.benjamini_hochberg(p, 0.05) == expected


def test_work_is_bounded_and_refused_beyond():
    cells = [{f"a{c}": 1.0, f"b{c}": -1.0} for c in range(50)]
    rows = {arm: {r: 0.1 * r for r in range(40)} for cell in cells for arm in cell}
    with pytest.raises(Bad, match="visits"):
        estimated(rows, [(cells, 1.0)], None, Work(1000))
    many = [{"a0": 1.0, f"x{n}": -1.0} for n in range(10)]
    with pytest.raises(Bad, match="visits"):
        readings.judged(
            contrast("best", *([cell] for cell in many)),
            {-1: rows}, {}, {}, True, 0.05, Work(50),
        )  # fmt: skip


def test_no_name_stands_twice_in_the_verifier():
    """Its modules become one file: a second function of a name would replace the first."""
    names: Counter[str] = Counter()
    for node in ast.parse(verifier_source()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] += 1
        elif isinstance(node, ast.Assign):
            names.update(ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            names[ast.unparse(node.target)] += 1
    assert [name for name, count in names.items() if count > 1] == []
