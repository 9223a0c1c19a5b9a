"""`plan` over prompts: what the last report found of them, when it counts, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.analysis.inference import ByPrompt, estimate, one_group
from harness.journal.history import History
from harness.journal.prompt_values import PromptTables
from harness.journal.records import PromptSpread
from harness.journal.workspace import Workspace
from harness.planning import power, prompt_spread
from harness.planning.fit import Limit, fitting_designs
from harness.planning.make import make_plan
from harness.planning.plan import Plan
from harness.planning.printed import lines_of
from harness.planning.prompt_spread import assumed, digests, spread_still_valid
from harness.study.load import load_study
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from tests.harness.run_place import Place

STUDY = """\
name: demo
question: Does x help?
subject: tests.support.stub_prompts
recipe: {recipe}
factors: {{x: [0.0, 1.0, 2.0]}}
baseline: {{x: 0.0}}
replicates: 4
protocol: {protocol}
contrasts:
  - {{id: H1, claim: x costs, a: {{x: 1.0}}, b: {{x: 0.0}}, metric: cost}}
  - {{id: H2, claim: 2 costs, a: {{x: 2.0}}, b: {{x: 0.0}}, metric: cost}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("prompts"))
    assert made.run(made.study(STUDY)).exit_code == 0
    return made


def planned(place: Place, text: str = STUDY, history: History | None = None) -> Plan:
    known = place.history() if history is None else history
    return make_plan(OpenedStudy(place.study(text), place.workspace, history=known))


def test_a_claim_over_prompts_is_planned_with_what_the_report_found(place: Place) -> None:
    plan = planned(place)
    tables = PromptTables(place.history())
    for contrast in plan.contrasts:
        rows = {
            (t.trial.arm, t.trial.replicate): tables.of(
                t.trial.key, None, plan.fingerprints.protocol, contrast.metric
            )
            for t in plan.trials
        }
        values: dict[str, dict[int, float]] = {}
        for t in plan.trials:
            last = place.history().trials[t.trial.key].measured(plan.fingerprints.protocol)[-1]
            values.setdefault(t.trial.arm, {})[t.trial.replicate] = last.metrics[contrast.metric]
        found = estimate(values, one_group(contrast.cells()), ByPrompt.of(rows)).prompts
        assert found is not None
        spread = contrast.prompt_spread
        assert spread is not None
        assert (spread.variance, spread.both, spread.df) == (found.variance, found.both, found.df)
        assert (contrast.prompts, spread.strata, len(spread.replicates)) == (24, 2, 4)
        prompts = power.PlannedPrompts(
            max(0, found.variance * power.assured(found.df) ** 2 - found.both),
            4 * found.both, found.df, 24, 2,
        )  # fmt: skip
        assert contrast.spread is not None
        both = power.PlannedSpread(contrast.spread, prompts)
        assert contrast.detectable == power.detectable(4, 0.025, spread=both)
        assert contrast.detectable > power.detectable(4, 0.025) * contrast.spread
    text = "\n".join(lines_of(plan, "study.yaml"))
    assert "on cost   4 seeds and 24 prompts detect >= " in text
    assert "exactly these prompts" not in text


def test_without_the_record_it_is_on_exactly_these_prompts(place: Place, tmp_path: Path) -> None:
    """As before the first report, or where the subject tells no items."""
    elsewhere = Workspace(tmp_path / "w")
    plan = make_plan(OpenedStudy(place.study(STUDY), elsewhere, history=place.history()))
    assert [c.prompts for c in plan.contrasts] == [None, None]
    text = "\n".join(lines_of(plan, "study.yaml"))
    assert "4 seeds detect >= " in text
    assert "(80 %) as one of 2, on exactly these prompts" in text


def test_the_record_counts_while_its_numbers_are_todays(place: Place) -> None:
    """More replicates leave it standing; a number that became another one does not."""
    more = planned(place, STUDY.replace("replicates: 4", "replicates: 9"))
    assert [c.prompts for c in more.contrasts] == [24, 24]
    fewer = planned(place, STUDY.replace("replicates: 4", "replicates: 3"))
    assert [c.prompts for c in fewer.contrasts] == [None, None], "of a fourth one it knows nothing"
    changed = place.history()
    last = next(t for t in changed.trials.values() if t.latest.opened.trial.levels["x"] == "1")
    for attempt in last.attempts.values():
        assert attempt.closed is not None
        for measured in attempt.closed.measurements:
            measured.metrics["cost"] = (measured.metrics["cost"] or 0.0) + 1e-6
    assert [c.prompts for c in planned(place, history=changed).contrasts] == [None, 24]


def test_results_beside_the_study_file_say_it_too(place: Place, tmp_path: Path) -> None:
    results = place.workspace.study("demo") / "results"
    other = Place(tmp_path / "other")
    study = other.study(STUDY)
    folder = study.file.parent / "results"
    folder.mkdir()
    for name in ("journal.jsonl", prompt_spread.FILE):
        (folder / name).write_bytes((results / name).read_bytes())
    plan = make_plan(OpenedStudy(study, other.workspace, history=History.read([folder])))
    assert [c.prompts for c in plan.contrasts] == [24, 24]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"contrasts": 3}', '{"contrasts": [{"id": 1}]}', '{"contrasts": [null]}'],
)
def test_a_broken_record_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / prompt_spread.FILE).write_text(content)
    assert prompt_spread.read_spreads([tmp_path, tmp_path / "nowhere"]) == []


def test_a_record_of_others_trials_or_of_no_replicate_never_fits() -> None:
    values = {"a": {0: 1.0, 1: 2.0}, "b": {0: 0.5, 1: 0.25, 2: 4.0}}
    keys = {(arm, r): f"{arm}{r}" for arm, row in values.items() for r in row}
    groups = [(1.0, [{"a": 1.0, "b": -1.0}])]
    today = digests("m", "p", groups, values, keys)
    assert sorted(today) == [0, 1], "replicate 2 lacks a side"

    def record(replicates: list[str], metric: str = "m") -> PromptSpread:
        return PromptSpread(
            id="H", metric=metric, replicates=replicates, variance=1, both=0, df=9, prompts=10,
            strata=1,
        )  # fmt: skip

    one, two = record([today[0]]), record([today[0], today[1]])
    assert spread_still_valid([one, two], "m", today) is two
    assert spread_still_valid([record([]), record([today[0], "other"])], "m", today) is None
    assert spread_still_valid([record([today[0]], "n")], "m", today) is None
    for altered in (
        digests("m", "q", groups, values, keys),
        digests("m", "p", [(1.0, [{"a": 1.0, "b": -0.5}])], values, keys),
        digests("m", "p", groups, values, {**keys, ("a", 0): "c"}),
        digests("m", "p", groups, {**values, "a": {0: 1.000001, 1: 2.0}}, keys),
    ):
        assert altered[0] != today[0]


def _with(place: Place, spread: PromptSpread, tmp_path: Path, text: str = STUDY) -> Plan:
    """The plan where the report had found something else over prompts."""
    workspace = Workspace(tmp_path / "w")
    folder = workspace.study("demo") / "results"
    folder.mkdir(parents=True)
    (folder / prompt_spread.FILE).write_text(prompt_spread.to_text([spread]))
    return make_plan(OpenedStudy(place.study(text), workspace, history=place.history()))


def _found(place: Place) -> PromptSpread:
    found = planned(place).contrasts[0].prompt_spread
    assert found is not None
    return found


def test_where_prompts_bind_more_seeds_are_said_not_to_help(place: Place, tmp_path: Path) -> None:
    bound = _found(place).model_copy(update={"variance": 25.0, "both": 0.0})
    contrast = _with(place, bound, tmp_path).contrasts[0]
    (said,) = (note for note in contrast.notes if "more seeds" in note)
    assert contrast.spread is not None
    spread = power.PlannedSpread(contrast.spread, assumed(bound))
    floor = power.floor_of_seeds(0.025, spread)
    twice = power.detectable(4, 0.025, spread=spread.at(48))
    assert said == f"more seeds would not help below {floor:.3g}; 48 prompts detect {twice:.3g}"
    assert twice == pytest.approx((contrast.detectable or 0) / 2**0.5, rel=0.1)


def test_where_seeds_bind_more_prompts_are_said_not_to_help(place: Place, tmp_path: Path) -> None:
    bound = _found(place).model_copy(update={"variance": 1e-7, "both": 0.0})
    contrast = _with(place, bound, tmp_path).contrasts[0]
    (said,) = (note for note in contrast.notes if "more prompts" in note)
    assert contrast.spread is not None
    five = power.detectable(5, 0.025, spread=power.PlannedSpread(contrast.spread, assumed(bound)))
    assert said.endswith(f"; 5 seeds detect {five:.3g}")


def test_a_margin_is_reached_by_seeds_by_prompts_or_by_both(place: Place, tmp_path: Path) -> None:
    spread = _found(place).model_copy(update={"variance": 0.01, "both": 0.0})
    known = planned(place).contrasts[0].spread
    assert known is not None
    both = power.PlannedSpread(known, assumed(spread))
    now = power.detectable(4, 0.025, spread=both)
    by_seeds, by_prompts = (
        power.floor_of_seeds(0.025, both),
        power.floor_of_prompts(4, 0.025, both),
    )
    for number, margin in enumerate((now * 1.01, now * 0.99, min(by_seeds, by_prompts) * 0.9)):
        text = STUDY.replace("metric: cost", f"metric: cost, margin: {margin:.6g}")
        contrast = _with(place, spread, tmp_path / str(number), text).contrasts[0]
        ways = contrast.margin_reached_by
        for way in ways:
            there = power.detectable(way.seeds, 0.025, spread=both.at(way.prompts))
            assert there <= margin * 1.00001
        said = " or ".join(f"{way.seeds} seeds and {way.prompts} prompts" for way in ways)
        assert any(f"{said} reach it" in note for note in contrast.notes) == bool(ways)
        if number == 0:
            assert not ways
        if number == 2:
            (way,) = ways
            assert way.seeds > 4
            assert (way.prompts or 0) > 24


def test_every_design_of_a_fit_is_told_over_the_same_prompts(tmp_path: Path) -> None:
    text = STUDY.replace("x: [0.0, 1.0, 2.0]", "x: [0.0, 1.0], steps: [1, 2]")
    text = text.replace("baseline: {{x: 0.0}}", "baseline: {{x: 0.0, steps: 1}}")
    text = "".join(line for line in text.splitlines(True) if "id: H2" not in line)
    place = Place(tmp_path / "both")
    made: Study = place.study(text)
    assert place.run(made).exit_code == 0
    plan = make_plan(OpenedStudy(made, place.workspace, history=place.history()))
    found = fitting_designs(
        OpenedStudy(made, Workspace(made.file.parent / "w"), history=place.history()),
        plan,
        Limit.read("hours=1"),
    )
    assert {f.design for f in found} >= {"full", "one_factor"}
    for fit in found:
        assert [c.prompts for c in fit.contrasts if c.arm_weights()] == [24]


def test_planning_over_prompts_imports_nothing_heavy(place: Place) -> None:
    code = (
        "import sys; from harness.commands.plan import command; from pathlib import Path\n"
        "command(Path(sys.argv[1]), workspace=Path(sys.argv[2]), as_json=True)\n"
        "print([m for m in ('numpy', 'scipy', 'pandas', 'torch', 'ray') if m in sys.modules])\n"
    )
    file = load_study(place.study(STUDY).file).file
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), str(place.workspace.root)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, last = done.stdout.strip().split("\n")
    assert last == "[]"
    assert json.loads(first)["contrasts"][0]["prompts"] == 24
