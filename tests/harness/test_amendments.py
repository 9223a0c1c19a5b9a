"""What the first run freezes: changes of the study file afterwards, really made and really run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.analysis.answer import answer
from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.explore import benjamini_hochberg
from harness.analysis.model import Answer, Verdict
from harness.planning.make import make_plan
from harness.planning.plan import Plan
from harness.planning.printed import lines_of
from harness.report.page import write_report
from harness.report.results import write_results
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from tests.harness.run_place import Place

BODY = """\
name: demo
question: Does x help?
subject: tests.support.stub_spread
recipe: {{cycles: 2}}
factors: {{part.x: [0.0, 1.0, 2.0], part.y: [0, 1]}}
design: one_factor
baseline: {{part.x: 0.0, part.y: 0}}
replicates: 6
protocol: {protocol}
contrasts:
  - {{id: H1, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}, margin: 0.01}}
  - {{id: H2, a: {{part.y: 1}}, b: {{part.y: 0}}}}
"""
LATER = "  - {{id: H3, a: {{part.x: 2.0}}, b: {{part.x: 0.0}}}}\n"


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Place(tmp_path_factory.mktemp("first") / "project")
    assert made.run(made.study(BODY)).exit_code == 0
    return made.folder


@pytest.fixture
def place(tmp_path: Path, first_run: Path) -> Place:
    shutil.copytree(first_run, tmp_path / "project")
    return Place(tmp_path / "project")


def planned(place: Place, made: Study) -> Plan:
    return make_plan(OpenedStudy(made, place.workspace))


def answered(place: Place, made: Study) -> Answer:
    history = OpenedStudy(made, place.workspace).history
    return answer(planned(place, made), made, history, metrics=stub.metrics)


def verdicts(found: Answer) -> dict[str, Verdict]:
    return {v.id: v for v in found.verdicts if v.declared}


def words(found: Plan) -> list[str]:
    return [amendment.words for amendment in found.amendments]


def test_an_unchanged_study_is_not_amended(place: Place):
    made = planned(place, place.study(BODY))
    assert made.amendments == []
    assert made.frozen_at is not None
    assert [c.amended for c in made.contrasts] == ["", ""]
    assert all(v.planned for v in verdicts(answered(place, place.study(BODY))).values())


def test_nothing_is_frozen_before_the_first_run(tmp_path: Path):
    fresh = Place(tmp_path / "project")
    made = planned(fresh, fresh.study(BODY))
    assert made.frozen_at is None
    assert all(v.planned for v in verdicts(answered(fresh, fresh.study(BODY))).values())


def test_a_contrast_added_later_is_exploratory(place: Place):
    made = place.study(BODY + LATER)
    text = "\n".join(lines_of(planned(place, made), "study.yaml"))
    assert "since the first run on" in text
    assert 'contrasts.H3: added {"a": {"part.x": 2.0}, "b": {"part.x": 0.0}, "metric":' in text
    assert "(not run yet)" in text
    assert "exploratory, no longer planned: H3" in text

    found = answered(place, made)
    each = verdicts(found)
    assert [v.planned for v in each.values()] == [True, True, False]
    assert each["H3"].amended.startswith("added after the first run (20")
    assert "H3: improves (exploratory)" in found.headline
    # The two planned ones step down together; H3 joins what nobody declared.
    assert sorted(each[i].left for i in ("H1", "H2")) in ([1, 2], [2, 2])
    assert all(each[i].p_adjusted == each[i].left * each[i].p for i in ("H1", "H2"))
    loose = [each["H3"], *(v for v in found.verdicts if not v.declared)]
    adjusted = benjamini_hochberg([v.p for v in loose])
    assert [v.p_adjusted for v in loose] == pytest.approx(adjusted)
    assert "after Benjamini-Hochberg, exploratory" in each["H3"].words


def test_what_only_a_run_records_is_what_to_type_next(place: Place):
    assert lines_of(planned(place, place.study(BODY)), "s.yaml")[-1].endswith("report s.yaml")
    amended = place.study(BODY.replace("margin: 0.01", "margin: 0.9"))
    assert lines_of(planned(place, amended), "s.yaml")[-1].endswith("run s.yaml")
    place.run(amended)
    assert lines_of(planned(place, amended), "s.yaml")[-1].endswith("report s.yaml")


def test_planned_contrasts_are_planned_for_in_the_first_runs_family(place: Place):
    """Two contrasts share alpha, whatever comes later."""
    before = {c.id: c.detectable for c in planned(place, place.study(BODY)).contrasts}
    after = {c.id: c for c in planned(place, place.study(BODY + LATER)).contrasts}
    assert {name: after[name].detectable for name in before} == before
    assert {c.family for c in after.values()} == {2}


def test_a_contrast_declared_after_a_run_without_any_is_planned_for(tmp_path: Path):
    place = Place(tmp_path / "project")
    without = BODY[: BODY.index("contrasts:")].replace("replicates: 6", "replicates: 2")
    assert place.run(place.study(without)).exit_code == 0
    made = planned(place, place.study(BODY.replace("replicates: 6", "replicates: 2")))
    assert all(c.amended.startswith("added after") and c.detectable for c in made.contrasts)


def test_run_shows_the_change_before_anything_starts_and_the_report_keeps_its_date(place: Place):
    made = place.study(BODY.replace("margin: 0.01", "margin: 0.9") + LATER)
    result = place.run(made)
    first = next(i for i, line in enumerate(place.said) if line.startswith("amended"))
    assert "contrasts.H1.margin: 0.01 -> 0.9 (not run yet)" in place.said[first]
    assert first < next(i for i, line in enumerate(place.said) if line.startswith("plan "))
    assert result.answer is not None
    each = verdicts(result.answer)
    assert each["H1"].amended.endswith("margin 0.01 -> 0.9")
    page = result.report.read_text() if result.report else ""
    assert "Exploratory: added or changed after the first run" in page
    assert "contrasts.H1.margin: 0.01 -&gt; 0.9" in page
    again = planned(place, made)
    assert all(" (run 20" in text for text in words(again)), "a run has them by now"
    assert all(v.planned is (v.id == "H2") for v in verdicts(answered(place, made)).values())


def test_changed_and_changed_back_is_told_step_by_step(place: Place):
    place.run(place.study(BODY.replace("margin: 0.01", "margin: 0.9")))
    made = place.study(BODY)
    assert [text.split(" (")[0] for text in words(planned(place, made))] == [
        "contrasts.H1.margin: 0.01 -> 0.9",
        "contrasts.H1.margin: 0.9 -> 0.01",
    ]
    assert verdicts(answered(place, made))["H1"].planned


def test_a_contrast_taken_out_still_counts_in_holms_family(place: Place):
    whole = verdicts(answered(place, place.study(BODY)))
    one = place.study(BODY.replace("  - {{id: H2, a: {{part.y: 1}}, b: {{part.y: 0}}}}\n", ""))
    alone = verdicts(answered(place, one))["H1"]
    assert alone.p is not None
    assert alone.p == whole["H1"].p
    assert alone.p_adjusted == pytest.approx(2 * alone.p)
    assert "as one of 2" in alone.words
    assert words(planned(place, one))[0].startswith("contrasts.H2: removed, was {")


def test_alpha_and_replicates_are_those_of_the_first_run(place: Place):
    before = verdicts(answered(place, place.study(BODY)))
    made = place.study(BODY.replace("replicates: 6", "replicates: 8\nalpha: 0.2"))
    text = "\n".join(lines_of(planned(place, made), "study.yaml"))
    assert "stay those of the first 6 replicates; with 8 they are exploratory" in text
    place.run(made)
    found = answered(place, made)
    each = verdicts(found)
    assert {t.split(" (")[0] for t in words(planned(place, made))} == {
        "replicates: 6 -> 8", "alpha: 0.05 -> 0.2",
    }  # fmt: skip
    assert found.alpha == 0.05
    assert (each["H1"].n, each["H1"].p) == (6, before["H1"].p)
    more = each["H1 (8 replicates)"]
    assert (more.n, more.planned) == (8, False)
    assert more.amended == "2 replicates added after the first run"


def test_other_arms_change_what_a_contrast_compares(place: Place):
    full = BODY.replace("design: one_factor", "design: full")
    made = planned(place, place.study(full))
    assert [c.amended.split(" (")[0] for c in made.contrasts] == [
        "compares other arms than before the first run"
    ] * 2
    assert any(text.startswith("arms: added x1-y1, x2-y1") for text in words(made))
    assert 'design: "one_factor" -> "full" (not run yet)' in words(made)


def test_the_recipe_and_the_levels_are_compared_too(place: Place):
    body = BODY.replace("cycles: 2", "cycles: 3").replace("[0.0, 1.0, 2.0]", "[0.0, 1.0]")
    told = words(planned(place, place.study(body)))
    assert "recipe.cycles: 2 -> 3 (not run yet)" in told
    assert "factors.part.x.levels: [0.0, 1.0, 2.0] -> [0.0, 1.0] (not run yet)" in told
    assert "arms: removed, was x2-y0 (not run yet)" in told


def test_money_and_wording_are_no_amendment_of_a_contrast(place: Place):
    body = BODY.replace("{{id: H1,", "{{id: H1, claim: x helps,") + "budget: {{hours: 9}}\n"
    made = planned(place, place.study(body))
    assert [c.amended for c in made.contrasts] == ["", ""]
    assert words(made) == ['contrasts.H1.claim: "" -> "x helps" (not run yet)']


# losing the record ----------------------------------------------------------------------------


def test_later_records_carry_the_first_one_along(place: Place):
    first = next(place.workspace.journal.glob("*.jsonl"))
    lines = first.read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["type"] != "planned"]
    made = place.study(BODY + LATER)
    place.run(made)
    first.write_text("\n".join(kept) + "\n")
    found = planned(place, made)
    assert [bool(c.amended) for c in found.contrasts] == [False, False, True]
    assert words(found)[0].startswith("contrasts.H3: added")


def test_without_any_record_nothing_counts_as_planned(place: Place):
    file = next(place.workspace.journal.glob("*.jsonl"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join(x for x in lines if json.loads(x)["type"] != "planned") + "\n")
    made = place.study(BODY)
    found = planned(place, made)
    assert any("no plan from before them" in text for text in found.warnings)
    assert all(c.amended for c in found.contrasts)
    place.run(made)  # announcing it now does not make it planned
    assert all(c.amended for c in planned(place, made).contrasts)
    assert not any(v.planned for v in answered(place, made).verdicts)


def test_recorded_results_keep_it_when_the_workspace_is_gone(place: Place):
    made = place.study(BODY.replace("margin: 0.01", "margin: 0.9") + LATER)
    place.run(made)
    history = OpenedStudy(made, place.workspace).history
    before = planned(place, made)
    write_results(
        AnsweredStudy(OpenedStudy(made, place.workspace), before, history).answered_by(
            answered(place, made)
        ),
        place.folder / "results",
    )
    shutil.rmtree(place.workspace.root)
    after = planned(place, made)
    assert (after.frozen_at, words(after)) == (before.frozen_at, words(before))
    assert [c.amended for c in after.contrasts] == [c.amended for c in before.contrasts]
    assert after.count("reuse") == len(after.trials)


def test_exported_twice_is_the_same(place: Place):
    made = place.study(BODY + LATER)
    place.run(made)
    history = OpenedStudy(made, place.workspace).history
    folder = place.folder / "results"
    (one, *_) = write_results(
        AnsweredStudy(
            OpenedStudy(made, place.workspace), planned(place, made), history
        ).answered_by(answered(place, made)),
        folder,
    )
    text = one.read_bytes()
    again = OpenedStudy(made, place.workspace).history
    write_results(
        AnsweredStudy(OpenedStudy(made, place.workspace), planned(place, made), again).answered_by(
            answered(place, made)
        ),
        folder,
    )
    assert one.read_bytes() == text


def test_the_page_says_nothing_of_amendments_where_there_are_none(place: Place):
    made = place.study(BODY)
    history = OpenedStudy(made, place.workspace).history
    page = write_report(
        AnsweredStudy(
            OpenedStudy(made, place.workspace), planned(place, made), history
        ).answered_by(answered(place, made))
    )
    assert "Changes of the study file" not in page.read_text()
