"""What the page draws: axes, verdicts, the trade-off, learning curves; by their numbers."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
import scipy.stats

from harness.analysis.answer import answer
from harness.analysis.observed import observe
from harness.report import curves as curves_module
from harness.report import plots
from harness.report.curves import NOTHING, ONE_CYCLE, Curves, curves
from harness.report.plots import Axis
from tests.harness.asked import PROMPTS, Reader
from tests.harness.test_report import FAULTS
from tests.support.made_up import MadeUp, make_up
from tests.support.made_up_records import METRICS, Options


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> MadeUp:
    return make_up(tmp_path_factory.mktemp("made"), Options(faults=FAULTS))


def test_axes_place_values_and_round_ticks():
    axis = Axis(0.0, 10.0)
    assert axis.at(2.5) == "25.000%"
    assert axis.width(2.0, 4.0) == "20.000%"
    assert axis.at(99) == "100.000%"
    assert Axis(0, 10, flip=True).at(2.5) == "75.000%"
    assert [t.label for t in axis.ticks()] == ["0", "2", "4", "6", "8", "10"]
    assert [t.label for t in Axis(-0.013, 0.021).ticks()] == ["-0.01", "0.00", "0.01", "0.02"]
    assert Axis.over([]).lo < Axis.over([]).hi
    assert Axis.over([3.0, 3.0]).holds(3.0)


def test_verdict_plot_shows_zero_margin_and_replicates(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    h7 = next(v for v in found.verdicts if v.id == "H7")
    plot = plots.verdict_plots([h7])["H7"]
    assert plot.margin is not None
    at, lo, wide = (float(x.rstrip("%")) for x in (plot.mark.at, plot.mark.lo, plot.mark.width))
    assert lo < at < lo + wide
    assert len(plot.mark.dots) == 6
    left, width = (float(x.rstrip("%")) for x in plot.margin)
    assert left < lo
    assert lo + wide < left + width  # equivalent: the interval is inside the band
    assert left < float(plot.zero.rstrip("%")) < left + width


def test_trade_off_numbers_the_front_and_keeps_far_references_out(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    plot = plots.trade_off(found)
    assert plot is not None
    front = {p.arm for p in found.pareto if p.on_front}
    assert {d.label for d in plot.dots if d.kind.startswith("front")} == front
    arms = [d.number for d in plot.dots if d.kind != "reference"]
    assert arms == [str(i + 1) for i in range(10)]
    assert [d.number for d in plot.dots if d.kind == "reference"] == ["A", "B", "C"]
    drawn_or_listed = {d.label for d in plot.dots} | {b.split(" (")[0] for b in plot.beyond}
    assert "truth" in drawn_or_listed
    assert len(plot.steps) == 2 * (len(front) - 1)


def test_learning_curves_need_several_measurements(made, tmp_path):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    chart = curves(found, observe(made.plan, made.history))
    assert chart.charts[0].metric == "edit/fidelity"
    assert [t.label for t in chart.charts[0].x_ticks] == ["50", "100", "200"]
    assert chart.legend[0][1] == "portrait-e0.5-g2"
    nothing = make_up(tmp_path, Options(upto=0, replicates=1, pictures=False))
    none = answer(nothing.plan, nothing.study, nothing.history, metrics=METRICS)
    assert curves(none, observe(nothing.plan, nothing.history)) == Curves([], [], [NOTHING])


def test_a_metric_measured_once_is_named_instead_of_a_curve(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    seen = observe(made.plan, made.history)
    last = max(seen.curves["t2i/kd"])
    once = replace(seen, curves=seen.curves | {"t2i/kd": {last: seen.curves["t2i/kd"][last]}})
    drawn = curves(found, once)
    assert "t2i/kd" not in [c.metric for c in drawn.charts]
    assert any("fewer than two cycles: t2i/kd" in note for note in drawn.notes)
    all_once = replace(seen, curves={m: {last: by[last]} for m, by in seen.curves.items()})
    assert curves(found, all_once).notes == [ONE_CYCLE]


def test_a_band_holds_all_cycles_of_a_coloured_arm_at_alpha_by_cycles(made):
    """Worked out by hand for one arm: t at 1 - alpha / cycles on the replicates of each cycle."""
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    seen = observe(made.plan, made.history)
    chart = curves(found, seen).charts[0]
    coloured = [c for c in chart.curves if c.colour is not None]
    assert all(c.band for c in coloured)
    assert all(not c.band for c in chart.curves if c.colour is None)
    assert chart.over == "over seeds, on exactly these prompts"
    arm = "portrait-e0.5-g2"
    by_step = {
        s: list(rows[arm].values())
        for s, rows in seen.curves["edit/fidelity"].items()
        if arm in rows
    }
    steps = sorted(by_step)
    wanted = {}
    for step in steps:
        half = scipy.stats.t.isf(0.05 / len(steps) / 2, 5) * scipy.stats.sem(by_step[step])
        wanted[step] = (fmean(by_step[step]) - half, fmean(by_step[step]) + half)
    band, prompts = curves_module._band(found, seen, "edit/fidelity", arm)
    assert prompts == 0
    for step in steps:
        assert band[step] == pytest.approx(wanted[step], rel=1e-9)


def test_bands_reach_over_prompts_where_every_cycle_has_them(made):
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    plain, with_prompts = observe(made.plan, made.history), observe(made.plan, made.history)
    with_prompts.reader = Reader(made.history)
    arm = "portrait-e0.5-g2"
    narrow, _ = curves_module._band(found, plain, "edit/fidelity", arm)
    wide, prompts = curves_module._band(found, with_prompts, "edit/fidelity", arm)
    assert prompts == 2 * PROMPTS
    for step, (lo, hi) in narrow.items():
        assert wide[step][0] < lo
        assert hi < wide[step][1]
    chart = curves(found, with_prompts).charts[0]
    assert chart.over == f"over seeds and {2 * PROMPTS} prompts"
