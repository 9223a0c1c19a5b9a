"""What each kind of contrast can detect: the cells it tests, the level, the unit."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.journal.history import History
from harness.journal.records import Closed, MeasuredAt, Opened
from harness.journal.trial import Trial
from harness.planning import power
from harness.planning.plan import Plan
from harness.planning.printed import lines_of
from harness.study.model import Study
from harness.study.planned_contrast import PlannedContrast
from tests.harness.study_files import plan, study

BODY = """\
recipe: {{part: {{x: 0.5, y: 1}}, mixture: {{a: 3, b: 1, c: 0}}}}
factors:
  part.x: {{levels: [0.0, 1.0, 3.0], ordered: true}}
  part.y: [0, 2]
baseline: {{part.x: 0.0, part.y: 0}}
measure_at: [1, 2, 3]
contrasts:
  - {{id: K, metric: score, {kind}}}
"""
KINDS = {
    "trend": "trend: part.x",
    "interaction": "interaction: [part.x, part.y]",
    "more": "more: [part.x, part.y]",
    "best": "best: part.x",
    "collapse": "collapse: {part.x: 3.0}, margin: 0.2",
    "sooner": "sooner: {a: {part.x: 3.0}, b: {part.x: 0.0}, threshold: 5.0}",
}
Value = Callable[[Trial, int], float]


def record(planned: Plan, value: Value, replicates: int = 3) -> History:
    """Every trial of some replicates, measured at three cycles."""
    history = History()
    for item in planned.trials:
        trial = item.trial
        if trial.replicate >= replicates:
            continue
        at = {"at": 1.0, "key": trial.key, "attempt": 1, "nonce": "n"}
        history.add(
            Opened(
                **at, study="demo", mode="train", trial=trial, protocol="stub-default",
                code="stub-code", code_files={},
            )
        )  # fmt: skip
        measured = [
            MeasuredAt(step=step, metrics={"score": value(trial, step)}) for step in (1, 2, 3)
        ]
        history.add(Closed(**at, state="done", seconds=1.0, step=3, measurements=measured))
    return history


def made(folder: Path, kind: str) -> Study:
    return study(folder, BODY.format(kind=KINDS[kind]))


def noisy(trial: Trial, step: int) -> float:
    rng = random.Random(f"{trial.arm} {trial.replicate} {step}")
    return 5.0 + rng.gauss(0, 0.1)


def by_replicate(
    planned: Plan, cells: list[Mapping[str, float]], step: int = 3, minus: int | None = None
) -> list[float]:
    """The mean over cells in each of three replicates."""
    trials = {(t.trial.arm, t.trial.replicate): t.trial for t in planned.trials}

    def of(arm: str, r: int) -> float:
        trial = trials[arm, r]
        return noisy(trial, step) - (noisy(trial, minus) if minus is not None else 0.0)

    return [
        statistics.fmean(sum(w * of(arm, r) for arm, w in cell.items()) for cell in cells)
        for r in range(3)
    ]


def assured(differences: list[float]) -> float:
    return statistics.stdev(differences) * power.assured(2)


def only(planned: Plan) -> PlannedContrast:
    (contrast,) = planned.contrasts
    return contrast


@pytest.mark.parametrize("kind", ["trend", "interaction"])
def test_a_weighted_sum_is_planned_like_a_difference(tmp_path: Path, kind: str) -> None:
    before = plan(made(tmp_path, kind))
    contrast = only(plan(made(tmp_path, kind), record(before, noisy)))
    cells = contrast.parts[0].cells
    spread = assured(by_replicate(before, list(cells)))
    assert contrast.detectable_in == "units"
    assert contrast.spread == pytest.approx(spread)
    assert contrast.detectable == pytest.approx(power.detectable(6) * spread)


def test_a_slope_without_history_is_per_unit_in_sds_of_a_pair(tmp_path: Path) -> None:
    contrast = only(plan(made(tmp_path, "trend")))
    # Scores 0, 1, 3 about their mean: the slope's weights are x / sum x^2, of sum of squares 3/14.
    size = ((3 / 14) / 2) ** 0.5
    assert contrast.detectable == pytest.approx(power.detectable(6) * size)
    corners = only(plan(made(tmp_path, "interaction")))
    weights = corners.parts[0].cells[0].values()
    size = (sum(w * w for w in weights) / 2) ** 0.5
    assert corners.detectable == pytest.approx(power.detectable(6) * size)
    text = "\n".join(lines_of(plan(made(tmp_path, "trend")), "s.yaml"))
    assert "SDs of a pair's difference (80 %)" in text


def test_more_has_to_find_the_difference_and_the_sum(tmp_path: Path) -> None:
    before = plan(made(tmp_path, "more"))
    contrast = only(plan(made(tmp_path, "more"), record(before, noisy)))
    first, second = (by_replicate(before, list(part.cells)) for part in contrast.parts)
    minus, plus = (
        assured([a + sign * b for a, b in zip(first, second, strict=True)]) for sign in (-1, 1)
    )
    assert contrast.spread == pytest.approx(max(minus, plus))
    assert contrast.detectable == pytest.approx(power.detectable(6) * max(minus, plus))


def test_best_is_planned_for_the_pair_that_is_hardest_to_tell(tmp_path: Path) -> None:
    before = plan(made(tmp_path, "best"))
    contrast = only(plan(made(tmp_path, "best"), record(before, noisy)))
    levels = [by_replicate(before, list(part.cells)) for part in contrast.parts]
    spreads = [
        assured([a - b for a, b in zip(levels[i], levels[j], strict=True)])
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    # One-sided at alpha / (levels - 1): the two-sided level is alpha.
    assert contrast.detectable == pytest.approx(power.detectable(6, 0.05) * max(spreads))


def test_a_collapse_is_found_where_it_exceeds_the_margin(tmp_path: Path) -> None:
    without = only(plan(made(tmp_path, "collapse")))
    assert without.detectable_in == "sd"
    # Unmeasured, two cycles are named before the last one: each one-sided at alpha / 2.
    assert without.detectable == pytest.approx(power.detectable(6, 0.05))
    before = plan(made(tmp_path, "collapse"))
    text = "\n".join(lines_of(before, "s.yaml"))
    assert "detect a loss >= " in text
    assert "SDs of a pair's difference beyond the margin (80 %)" in text
    contrast = only(plan(made(tmp_path, "collapse"), record(before, noisy)))
    cells = list(contrast.parts[0].cells)
    spreads = [assured(by_replicate(before, cells, 3, minus=c)) for c in (1, 2)]
    # Two earlier cycles, one-sided: the two-sided level is alpha.
    found = power.detectable(6, 0.05) * max(spreads)
    assert contrast.detectable == pytest.approx(0.2 + found)
    assert any(
        note == f"8 seeds detect {0.2 + power.detectable(8, 0.05) * max(spreads):.3g}"
        for note in contrast.notes
    )
    assert not contrast.margin_reached_by


def test_who_is_sooner_is_planned_in_cycles(tmp_path: Path) -> None:
    def rising(trial: Trial, step: int) -> float:
        late = trial.levels["part.x"] == "0"
        return 4.0 + 0.8 * step + 0.1 * trial.replicate * (1 if late else 2) - 0.5 * late

    before = plan(made(tmp_path, "sooner"))
    planned = plan(made(tmp_path, "sooner"), record(before, rising))
    contrast = only(planned)

    def time(r: int, late: int) -> float:
        start = 4.0 + 0.1 * r * (1 if late else 2) - 0.5 * late
        return max(1.0, (5.0 - start) / 0.8)

    spread = assured([time(r, 0) - time(r, 1) for r in range(3)])
    assert contrast.detectable == pytest.approx(power.detectable(6) * spread)
    text = "\n".join(lines_of(planned, "s.yaml"))
    assert f"6 seeds detect >= {contrast.detectable:.3g} cycles (80 %)" in text
