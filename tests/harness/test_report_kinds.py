"""Every kind of contrast as people see it: sentences, cards, drawings, tables, tags."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from pathlib import Path

import pytest

from harness.analysis import sentences
from harness.analysis.answer import answer
from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.kind_words import listed
from harness.analysis.model import Answer, Part, Spread, Verdict
from harness.analysis.observed import observe
from harness.report import kind_plots, plots, tables
from harness.report.cards import cards
from harness.report.facts import markdown
from harness.report.page import render
from harness.study.opened_study import OpenedStudy
from harness.tracking.pages import note
from harness.tracking.projection import Projection
from tests.harness.asked import PROMPTS, Reader, every_kind
from tests.harness.test_report import Page
from tests.support.made_up import FACTORS, MadeUp, make_up
from tests.support.made_up_records import METRICS, Options

SETTLED = ("improves", "harms", "improves (size unsettled)", "harms (size unsettled)", "equivalent")
VERDICTS = {
    "difference": (*SETTLED, "undecided"),
    "trend": (*SETTLED, "undecided"),
    "interaction": (*SETTLED, "undecided"),
    "more": ("more", "less", "undecided"),
    "best": ("best", "undecided"),
    "collapse": ("collapses", "holds", "undecided"),
    "sooner": ("sooner", "later", "undecided"),
}
PAIRS = [(kind, verdict) for kind, names in VERDICTS.items() for verdict in names]
SENTENCES = {
    ("difference", "improves"): "x=1 improves m over x=0: difference +0.20",
    ("difference", "harms (size unsettled)"): "x=1 harms m against x=0, size unsettled against "
    "the margin of 0.1: difference +0.20",
    ("difference", "equivalent"): "x=1 and x=0 are equivalent on m within the margin of 0.1: diff",
    ("trend", "improves"): "m improves as x rises: slope +0.20",
    ("trend", "harms"): "m gets worse as x rises: slope +0.20",
    ("trend", "undecided"): "Undecided whether m moves with x: slope +0.20",
    ("interaction", "improves"): "x and y together do more for m than the sum of each alone: "
    "difference of differences +0.20",
    ("interaction", "equivalent"): "x and y together do what each does alone to m, within 0.1: ",
    ("more", "more"): "x moves m more than y does: difference of effects +0.20",
    ("more", "less"): "x moves m less than y does: difference of effects +0.20",
    ("best", "best"): "p and q may each be the best of 3 levels of x on m: over 6 seeds",
    ("best", "undecided"): "No level of x can be told from the best on m: over 6 seeds",
    ("collapse", "collapses"): "x=1 collapses: it loses more than 0.1 of m from cycle 50 to its "
    "last: loss +0.20",
    ("collapse", "holds"): "x=1 holds: it loses no more than 0.1 of m to its last cycle: loss",
    ("sooner", "sooner"): "x=1 reaches 0.3 on m sooner than x=0: time +0.20 cycles",
    ("sooner", "later"): "x=1 reaches 0.3 on m later than x=0: time +0.20 cycles",
    ("sooner", "undecided"): "Undecided whether x=1 or x=0 reaches 0.3 on m sooner: time",
}


def said(kind: str, verdict: str, **more) -> str:
    sides = {
        "trend": ("x", ""),
        "interaction": ("x and y", ""),
        "more": ("x", "y"),
        "best": ("x", ""),
        "collapse": ("x=1", ""),
    }
    a, b = sides.get(kind, ("x=1", "x=0"))
    given = {
        "kind": kind,
        "a": a,
        "b": b,
        "metric": "m",
        "unit": "",
        "difference": 0.2,
        "lo": 0.1,
        "hi": 0.3,
        "level": 0.9875,
        "n": 6,
        "n_planned": 6,
        "n_prompts": 192,
        "p_adjusted": 0.01,
        "adjustment": "as one of 4",
        "margin": 0.1,
        "as_expected": "",
        "scope": "on a stub",
        "best": ("p", "q") if verdict == "best" else (),
        "step": 50,
        "levels": 3,
        "reaches": "reaches 0.3" if kind == "sooner" else "",
    }
    return sentences.sentence(verdict, **(given | more))


@pytest.mark.parametrize(("kind", "verdict"), PAIRS)
@pytest.mark.parametrize("prompts", [192, 0])
def test_a_sentence_is_whole_for_every_kind_and_verdict(kind: str, verdict: str, prompts: int):
    text = said(kind, verdict, n_prompts=prompts)
    over = "over 6 seeds and 192 prompts" if prompts else "over 6 seeds, on exactly these prompts"
    assert text.endswith(f"{over}, p = 0.010 as one of 4; on a stub.")
    assert not re.search(r"None|  | ,|::|\(\)| :|\.\.|, ;", text), text
    assert text.count(": ") <= 2
    bare = verdict.partition(" (")[0]
    assert ("Undecided" in text or "No level" in text) == (bare == "undecided")
    assert ("size unsettled against the margin of 0.1" in text) == ("unsettled" in verdict)
    assert ("98.8 % interval +0.10 to +0.30" in text) == (kind != "best")
    assert text.startswith(SENTENCES.get((kind, verdict), "")), text
    none = said(kind, "undecided", difference=None, lo=None, hi=None, reason="nothing ran")
    assert "(nothing ran)" in none
    assert "None" not in none


@pytest.mark.parametrize(("kind", "verdict"), PAIRS)
def test_every_verdict_has_a_symbol_a_colour_and_a_place_to_read(kind: str, verdict: str):
    assert sentences.SYMBOLS[verdict]
    style = Path(kind_plots.__file__).with_name("templates") / "style.css"
    name = verdict.split(" ")[0]
    assert re.search(rf"\.{name}\b[^{{]*{{ --tone", style.read_text())
    assert sentences.guide(kind) == f"docs/statistics.md#{kind}"


def test_the_shape_of_a_trend():
    def part(name: str, lo: float, hi: float) -> Part:
        return Part(name=name, difference=(lo + hi) / 2, lo=lo, hi=hi)

    up, down, flat = (part("neighbour", *ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)))
    bent, straight = part("quadratic", -0.3, -0.1), part("quadratic", -0.1, 0.1)
    assert (
        sentences.shape(1.0, [straight, up, up]) == "monotone: each of its 2 steps rises beyond 0"
    )
    assert sentences.shape(-1.0, [straight, down]) == "monotone: each of its 1 steps falls beyond 0"
    told = sentences.shape(1.0, [bent, up, flat])
    assert told.startswith("rises, not evenly: its bend is beyond 0; not shown to be monotone: ")
    assert told.endswith("of its 2 steps 1 rise beyond 0")
    assert "monotone: each" not in sentences.shape(1.0, [up, down])
    assert sentences.shape(None, [up]) == ""


def test_parts_of_a_standard_error_in_words():
    told = sentences.spread(
        Spread(seeds=0.0041, seeds_df=5, prompts=0.0072, prompts_df=9, both=0.0019)
    )
    assert told == "seeds 0.0041, prompts 0.0072, both 0.0019"
    assert sentences.spread(Spread(seeds=0.5, seeds_df=5)) == "seeds 0.50"
    rounded = Spread(seeds=0.0031, seeds_df=5, prompts=0.0148, prompts_df=9, both=1e-17)
    assert sentences.spread(rounded) == "seeds 0.0031, prompts 0.0148, both 0.0000"
    assert sentences.spread(None) == ""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    options = Options(design="full", replicates=4, pictures=False)
    made, found = every_kind(make_up(tmp_path_factory.mktemp("made"), options), patch)
    yield made, found
    patch.undo()


def verdict(found: Answer, name: str) -> Verdict:
    return next(v for v in found.verdicts if v.id == name)


def drawn(asked: tuple[MadeUp, Answer]) -> str:
    made, found = asked
    reader = Reader(made.history)
    return render(made.answered(found, reader))


@pytest.fixture(scope="module")
def page(asked) -> tuple[str, Page]:
    text = drawn(asked)
    return text, Page(text)


def test_the_page_says_each_claim_and_the_narrower_one(asked, page):
    _, found = asked
    text, parsed = page
    assert parsed.problems == []
    assert parsed.open == []
    assert "href=" not in text
    for v in (v for v in found.verdicts if v.declared):
        assert v.words in parsed.text
        assert f"docs/statistics.md, {v.kind}" in parsed.text
        if v.narrow is not None:
            assert sentences.narrower(v, found.scope) in parsed.text
        if v.spread is not None:
            assert f"Standard error: {sentences.spread(v.spread)}" in parsed.text
            assert f"<title>standard error: {sentences.spread(v.spread)}</title>" in text
    narrower = sentences.narrower(verdict(found, "H12"), found.scope)
    assert narrower.startswith("On exactly these prompts: edit_share=0.5 improves edit/fidelity")
    assert "over 4 seeds, p" in narrower
    assert found.scope not in narrower
    for word in ("Holm", "sign-flip", "not adjusted.", "worst case"):
        assert word not in parsed.text, word


def test_both_intervals_are_drawn_the_narrow_one_inside(asked):
    _, found = asked
    v = verdict(found, "H3")
    assert v.narrow is not None
    assert v.lo < v.narrow.lo < v.narrow.hi < v.hi
    plot = plots.verdict_plots([v])["H3"]
    mark = plot.mark
    lo, width, inner_lo, inner_width = (
        float(x.rstrip("%")) for x in (mark.lo, mark.width, mark.inner_lo, mark.inner_width)
    )
    assert lo < inner_lo < inner_lo + inner_width < lo + width
    assert inner_width / width == pytest.approx(
        (v.narrow.hi - v.narrow.lo) / (v.hi - v.lo), abs=1e-3
    )
    alone = v.model_copy(update={"narrow": None})
    assert plots.verdict_plots([alone])["H3"].mark.inner_width is None


def test_each_kind_is_drawn_as_what_it_is(asked):
    made, found = asked
    seen = observe(made.plan, made.history)
    made_cards = cards([v for v in found.verdicts if v.declared], found, made.plan, seen)
    rise = made_cards["rise"].figure
    assert rise is not None
    assert {look for look, _ in rise.legend} == {"tone", "faint", "fit"}
    assert sum(look == "tone" for *_, look in rise.dots) == len(FACTORS["edit_share"])
    assert rise.x_ticks[0].label == "0"
    assert rise.x_ticks[-1].label == "1"
    both = made_cards["both"].figure
    assert both is not None
    assert [line.label for line in both.lines] == ["guidance.scale=1", "guidance.scale=4"]
    assert [t.label for t in both.x_ticks] == ["0.1", "0.5"]
    melt = made_cards["melt"].figure
    assert melt is not None
    assert verdict(found, "melt").step == 100
    assert ("loss", "lost since cycle 100") in melt.legend
    first = made_cards["first"].figure
    assert first is not None
    assert [text for _, text in first.legend] == ["edit_share=0.5", "edit_share=0.1", "0.3"]
    top = made_cards["top"].rows
    assert top is not None
    kept = [m.label for m in top.groups[0].marks if m.tag == "may be the best"]
    assert kept == verdict(found, "top").best
    assert len(top.groups[0].marks) == len(FACTORS["composition"])
    which = made_cards["which"].rows
    assert which is not None
    assert [m.label for m in which.groups[0].marks] == ["edit_share", "guidance.scale"]
    assert made_cards["H12"].figure is None


def test_a_fitted_line_goes_through_scores_and_level_means(asked):
    """Scores are read off the weights: without them the ticks stand at the wrong places."""
    made, found = asked
    seen = observe(made.plan, made.history)
    figure = cards([verdict(found, "rise")], found, made.plan, seen)["rise"].figure
    at = {t.label: float(t.at.rstrip("%")) for t in figure.x_ticks}
    span = at["1"] - at["0"]
    for label in ("0.3", "0.5", "0.7"):
        assert (at[label] - at["0"]) / span == pytest.approx(float(label), abs=1e-4)


def test_the_table_of_verdicts_has_what_each_claim_reaches_over(asked):
    _, found = asked
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(tables.verdict_table(found)))))
    by_id = {row["id"]: row for row in rows}
    h3, v = by_id["H3"], verdict(found, "H3")
    assert (h3["kind"], h3["n"], h3["prompts"]) == ("difference", "4", str(2 * PROMPTS))
    assert float(h3["level"]) == v.level
    assert int(h3["left"]) == v.left
    assert float(h3["narrow lo"]) == v.narrow.lo
    assert h3["narrow verdict"] == v.narrow.verdict
    assert float(h3["se prompts"]) == v.spread.prompts
    assert by_id["top"]["best"] == "; ".join(verdict(found, "top").best)
    assert by_id["melt"]["step"] == "100"
    assert by_id["first"]["prompts"] == "0"
    assert "neighbour 0 to 0.1" in by_id["rise"]["parts"]
    text = tables.to_markdown(tables.verdict_table(found))
    assert "each interval at the level that decided it, over seeds and prompts" in text
    assert f"at {sentences.percent(v.level)}" in text
    assert "slope over edit\\_share" in text or "slope over edit_share" in text
    for word in ("Holm", "adjusted", "sign-flip"):
        assert word not in text


def test_a_size_stands_beside_a_difference(asked, page):
    _, found = asked
    v = verdict(found, "H3")
    own = list(v.per_replicate.values())
    mean, sd, m = statistics.fmean(own), statistics.stdev(own), len(own) - 1
    unbiased = math.gamma(m / 2) / (math.sqrt(m / 2) * math.gamma((m - 1) / 2))
    assert v.sizes == {"d_z": pytest.approx(unbiased * mean / sd, rel=1e-9)}
    assert f"Size: d_z {v.sizes['d_z']:+.2g} (in standard deviations over seeds)" in page[1].text
    assert verdict(found, "top").sizes == {}


def test_markdown_leads_from_each_sentence_to_its_kind(asked):
    made, found = asked
    text = markdown(made.answered(found), portable=True)
    for v in (v for v in found.verdicts if v.declared):
        assert f"[what this means](/docs/statistics.md#{v.kind})" in text
    assert text.count("On exactly these prompts: ") == sum(
        v.narrow is not None for v in found.verdicts if v.declared
    )


def test_intervals_of_arms_say_over_what(asked):
    _, found = asked
    title = tables.arm_table(found).title
    assert f"[95 % interval over seeds and {2 * PROMPTS} prompts]" in title
    assert plots.arm_plot(found, "t2i/kd").over == f"over seeds and {2 * PROMPTS} prompts"


def test_mlflow_says_what_a_claim_reaches_over_and_who_takes_part(asked, tmp_path: Path):
    made, found = asked
    projection = Projection(made.plan, ["edit/fidelity"], tmp_path)
    line = projection.verdict_line(found)
    assert f"H12: improves over 4 seeds and {2 * PROMPTS} prompts; " in line
    judged = verdict(found, "first").verdict
    assert f"first: {judged} over 4 seeds, on exactly these prompts" in line
    top = listed(verdict(found, "top").best)
    assert f"top: best ({top}) over" in line
    scope = projection.claimed(found)
    assert scope.startswith(found.scope)
    assert f"claims over seeds and {2 * PROMPTS} prompts, some on exactly these" in scope
    row = next(r for r in found.arms if r.arm == "portrait-e0.5-g4")
    tags = projection.arm(row, found, 0.0, 1.0).tags
    told = tags["stillhouse.verdict"]
    for part in (
        "H12 (side a)",
        "rise (trend)",
        "both (interaction)",
        "which (more)",
        "top (best)",
    ):
        assert f"{part}: " in told
    assert "first (side a)" in told
    assert "melt" not in told
    assert tags["stillhouse.scope"].endswith(f"; intervals over seeds and {2 * PROMPTS} prompts")
    text = note(made.plan, found, "")
    assert "docs/statistics.md" in text
    assert "On exactly these prompts: " in text
    assert sentences.SYMBOLS["collapses"] in text


def test_without_prompts_there_is_one_interval_and_it_says_so(tmp_path: Path):
    made = make_up(tmp_path, Options(replicates=3, pictures=False))
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    text = render(made.answered(found))
    assert 'class="inner"' not in text
    assert "On exactly these prompts: " not in text
    assert "over seeds, on exactly these prompts." in text
    assert "on exactly these prompts: no values by prompt are recorded" in text


def test_effects_without_a_number_stand_and_say_why(tmp_path: Path):
    """A factor without a complete cell, pairs without four corners, a metric never measured."""
    made = make_up(tmp_path, Options(replicates=2, pictures=False))
    holes = [arm for arm in made.plan.arms if arm.levels["guidance.scale"] != "4"]
    plan = made.plan.model_copy(update={"arms": holes})
    for trial in made.history.trials.values():
        for attempt in trial.ordered:
            attempt.closed = attempt.closed.model_copy(
                update={
                    "measurements": [
                        m.model_copy(update={"metrics": m.metrics | {"t2i/fid": None}})
                        for m in attempt.closed.measurements
                    ]
                }
            )
    found = answer(plan, made.study, made.history, metrics=METRICS)
    effect = [e for e in found.effects if e.factor == "guidance.scale"]
    assert [e.level for e in effect if e.metric == "edit/fidelity"] == FACTORS["guidance.scale"]
    assert {e.why for e in effect} == {"no cell of the design holds every level"}
    shares = [e for e in found.effects if (e.factor, e.metric) == ("edit_share", "t2i/fid")]
    assert {e.why for e in shares} == {"t2i/fid was never measured"}
    assert len(shares) == len(FACTORS["edit_share"])
    assert "no cell of the design holds all four combinations" in found.left_out[0]
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(tables.effect_table(found)))))
    assert len([r for r in rows if r["factor"] == "guidance.scale"]) == 3 * 4
    assert any(found.left_out[0] == r["why there is none"] for r in rows)
    text = Page(
        render(
            AnsweredStudy(OpenedStudy(made.study, made.workspace), plan, made.history).answered_by(
                found
            )
        )
    ).text
    assert "no cell of the design holds every level" in text
    assert "t2i/fid was never measured" in text
    assert f"No interaction: {found.left_out[0]}." in text
    arms = tables.to_markdown(tables.arm_table(found))
    for arm in plan.arms:
        assert arm.name in arms
    loose = [v for v in found.verdicts if not v.declared and v.metric == "t2i/fid"]
    assert loose
    assert all("(t2i/fid was never measured)" in v.words for v in loose)


def test_arms_without_a_result_stand_with_their_reason(tmp_path: Path):
    faults = {("portrait-e0.1-g2", r): "failed" for r in range(2)}
    made = make_up(tmp_path, Options(replicates=2, pictures=False, faults=faults))
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    plot = plots.arm_plot(found, "edit/fidelity")
    mark = next(m for m in plot.groups[0].marks if m.label == "portrait-e0.1-g2")
    assert (mark.at, mark.why) == (None, "2 failed")
    assert len(plot.groups[0].marks) == len(made.plan.arms)
