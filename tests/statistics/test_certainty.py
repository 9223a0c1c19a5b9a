"""No spread is not certainty, and a divergence is a veto: what no study may be told."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.divergence import winner_filled
from harness.analysis.inference import ByPrompt, Estimated, estimate, one_group, over_seeds
from harness.analysis.kinds import Linear
from harness.analysis.step_down import step_down
from harness.journal.prompt_values import PromptValues
from tests.statistics.worlds import DIVERGES, DivergingWorld

PAIR = one_group([{"a": 1.0, "b": -1.0}])


def row(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize(
    "a",
    [
        [1 + 1 / 192] * 6,
        [0.1 + 0.2, 0.3, 0.3, 0.3],  # differs in the last bit
        [math.nextafter(1.5, 2), 1.5],
        [1.0] * 6,
    ],
)
def test_differences_without_spread_are_undecided(a: list[float]) -> None:
    found = estimate({"a": row(*a), "b": row(*[a[-1] - 1 / 192] * len(a))}, PAIR)
    assert found.difference == pytest.approx(1 / 192)
    assert found.interval(0.05) is None
    assert found.p() is None
    assert "same in every replicate" in found.seeds.why
    sure = estimate({"a": row(9.0, 9.1, 9.2), "b": row(1.0, 1.2, 1.1)}, PAIR)
    told = [d.reading for d in step_down([Linear(e, None, True) for e in (found, sure)], 0.05)]
    assert [r.verdict for r in told] == ["undecided", "improves"]
    assert (told[0].lo, told[0].hi) == (None, None)


def test_no_spread_over_seeds_is_not_mended_by_prompts() -> None:
    """Prompts say how the difference varies over prompts, nothing of another seed."""
    rng = np.random.default_rng(0)
    psi_P = rng.normal(1.0, 0.1, 30)
    mean = float(psi_P.mean())
    tables = {
        (arm, r): PromptValues(
            {"all": 1.0}, {"all": dict(zip(map(str, range(30)), v, strict=True))}
        )
        for r in range(4)
        for arm, v in (("a", (psi_P + 5).tolist()), ("b", psi_P.tolist()))
    }
    values = {"a": row(*[mean + 5] * 4), "b": row(*[mean] * 4)}
    found = estimate(values, PAIR, ByPrompt.of(tables))
    assert found.prompts is not None
    assert found.interval(0.05) is None
    assert Linear(found, 0.1, True).at(0.05).verdict == "undecided"


def test_no_spread_where_pairs_are_missing() -> None:
    values = {"a0": row(2.0, 2.0, 2.0), "b0": row(1.0, 1.0, 1.0), "a1": row(3.0, 3.0)}
    values["b1"] = row(2.0, 2.0, 2.0)
    groups = one_group([{"a0": 1.0, "b0": -1.0}, {"a1": 1.0, "b1": -1.0}])
    found = estimate(values, groups)
    assert found.seeds.missing == 1
    assert found.difference == 1.0
    assert found.interval(0.05) is None


def test_some_spread_however_small_is_judged() -> None:
    a = [1.0 + 1e-6 * x for x in (1.0, 1.1, 0.9, 1.05)]
    found = estimate({"a": row(*a), "b": row(*[1.0] * 4)}, PAIR)
    assert found.judged


@pytest.mark.parametrize("diverges", DIVERGES)
@pytest.mark.parametrize("better", [1.0, -1.0])
def test_a_divergence_takes_a_verdict_and_never_gives_one(diverges: str, better: float) -> None:
    """Whatever diverges: decided studies are some of those decided without it, with their sign."""
    world = DivergingWorld(4, 2, diverges)
    rng = np.random.default_rng(1)
    groups = one_group([{f"a{c}": 1.0, f"b{c}": -1.0} for c in range(world.cells)])
    y, converged = world.draw(rng, 300)
    y[..., 0] += rng.normal(0, 2, (300, 1, 1))  # some studies do differ
    vetoed = stood = 0
    for s in range(len(y)):
        values: dict[str, dict[int, float]] = {}
        states: dict[str, dict[int, str]] = {}
        for c in range(world.cells):
            for k, side in enumerate("ab"):
                ended = converged[s, :, c, k].tolist()
                own = {r: better * float(y[s, r, c, k]) for r in range(4) if ended[r]}
                values[f"{side}{c}"] = own
                states[f"{side}{c}"] = {r: "done" if e else "diverged" for r, e in enumerate(ended)}
        found = Estimated(over_seeds(values, groups))
        up = better > 0
        filled = winner_filled(
            found, values, groups, states, higher_is_better=up, replicates=range(4)
        )
        before = Linear(found, 0.2, up).at(0.05)
        after = Linear(found, 0.2, up, filled=filled[0] if filled else None).at(0.05)
        assert after.verdict in (before.verdict, "undecided")
        if filled and found.difference is not None:
            winner = "a" if (found.difference > 0) == up else "b"
            assert {arm[0] for arm in filled[1]} == {winner}
            assert filled[0].difference is not None
            # The fill is the worst difference seen: it never makes the winner's gain larger, unless
            # it completes a cell that was left out for having one value or none.
            gain = math.copysign(1.0, found.difference)
            out = found.seeds.once + found.seeds.unseen
            assert out or gain * filled[0].difference <= gain * found.difference + 1e-9
        vetoed += after.verdict != before.verdict
        stood += before.verdict != "undecided" and after.verdict == before.verdict
    assert stood > 10
    assert vetoed
