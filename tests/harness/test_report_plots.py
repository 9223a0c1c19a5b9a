"""What the page draws: axes, verdicts, the trade-off, learning curves; by their numbers."""

from __future__ import annotations

import pytest

from harness.analyse.answers import answer
from harness.report import plots
from harness.report.axis import Axis
from harness.report.curves import curves
from harness.testing.made_up import METRICS, MadeUp, Options, make_up
from tests.harness.test_report import FAULTS


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
    chart = curves(found, made.plan, made.history)
    assert chart is not None
    assert chart.charts[0].metric == "edit/fidelity"
    assert [t.label for t in chart.charts[0].x_ticks] == ["50", "100", "200"]
    assert chart.legend[0][1] == "portrait-e0.5-g2"
    nothing = make_up(tmp_path, Options(upto=0, replicates=1, pictures=False))
    none = answer(nothing.plan, nothing.study, nothing.history, metrics=METRICS)
    assert curves(none, nothing.plan, nothing.history) is None
