"""`run --until-decided`: looks between replicates, what they drop, and what interrupts them."""

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.expectation import expected
from harness.analysis.inference import estimate, one_group
from harness.analysis.kinds import Linear
from harness.analysis.looks import AtLook, needed, outcomes
from harness.analysis.spending import calibrated
from harness.errors import STOPPED, HarnessError
from harness.executors.inline import InlineExecutor
from harness.journal.history import History
from harness.journal.shards import Shard
from harness.planning.looks import looks_of
from harness.planning.make import make_plan
from harness.planning.power import detectable
from harness.planning.printed import lines_of
from harness.running.display import Outlook
from harness.running.study_status import study_status
from harness.study.load import load_study
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from tests.harness.run_place import Place

STUDY = """\
name: looks
question: Which x help?
subject: tests.harness.noisy_subject
recipe: {{x: 0.0, spread: {spread}, salt: {salt}, fault: false}}
factors:
  x: {{path: x, levels: {{base: 0.0, far: 5.0, near: 0.001, mid: 1.5}}}}
design: one_factor
baseline: {{x: base}}
replicates: {replicates}
contrasts:
  - {{id: far, a: {{x: far}}, b: {{x: base}}, metric: score}}
  - {{id: near, a: {{x: near}}, b: {{x: base}}, metric: score}}
{more}"""


class Looks(Place):
    """A project with a noisy subject."""

    def make(self, *, spread=0.1, salt=1, replicates=8, more="") -> Study:
        file = self.folder / "study.yaml"
        text = STUDY.format(spread=spread, salt=salt, replicates=replicates, more=more)
        file.write_text(text)
        return load_study(file)

    def begun(self) -> dict[str, int]:
        """Arm to the trials of it that were ever started."""
        found: dict[str, int] = {}
        for trial in self.trials():
            arm = trial.ordered[0].opened.trial.arm
            found[arm] = found.get(arm, 0) + 1
        return found

    def looks(self):
        return looks_of(self.history(), "looks")


@pytest.fixture
def place(tmp_path: Path) -> Looks:
    return Looks(tmp_path)


def arm(place: Looks, name: str) -> str:
    plan = make_plan(
        OpenedStudy(
            load_study(place.folder / "study.yaml"), place.workspace, history=place.history()
        )
    )
    return next(a.name for a in plan.arms if a.levels["x"] == name)


def test_a_study_stops_when_all_is_decided_or_given_up(place: Looks):
    made = place.make()
    result = place.run(made, until_decided=True)
    assert result.exit_code == 0
    looks = place.looks()
    assert [k.replicates for k in looks] == list(range(3, 3 + len(looks)))
    far, near = (place.begun()[arm(place, name)] for name in ("far", "near"))
    assert far == next(k.replicates for k in looks if k.outcomes["far"].state == "decided")
    assert far < near < 8, "the one without an effect is given up from half of the replicates on"
    assert looks[-1].over
    assert looks[-1].outcomes["near"].state == "futile"
    assert place.begun()[arm(place, "base")] == near
    assert result.answer is not None
    assert result.answer.headline.startswith(f"Decided after {near} of at most 8 replicates")
    assert result.answer.headline.endswith("far: improves; near: undecided (futile).")
    by_id = {v.id: v for v in result.answer.verdicts if v.planned}
    assert by_id["far"].n == by_id["far"].n_planned == far
    assert by_id["far"].verdict == "improves"
    assert any("futile" in note for note in by_id["near"].notes)
    rows = {row.arm: row for row in result.answer.arms}
    assert {name: row.n_planned for name, row in rows.items()} == place.begun() | {
        row.arm: near for row in rows.values() if row.levels["x"] == "mid"
    }
    assert all(row.n_done == row.n_planned for row in rows.values()), "nobody misses anything"
    assert any(line.startswith("look    after 3 of at most 8") for line in place.said)
    assert result.report is not None
    page = result.report.read_text()
    assert "at most 8 replicates" in page
    assert "near futile" in page
    again = place.run(made)
    assert again.exit_code == 0
    assert place.looks() == looks
    assert any("nothing to run" in line for line in place.said)


def test_levels_are_frozen_and_another_maximum_is_refused(place: Looks):
    made = place.make()
    place.run(made, until_decided=True, at_most=6)
    frozen = place.history().latest_plan("looks").frozen
    assert frozen is not None
    assert frozen.spending is not None
    assert frozen.spending.at_most == 6
    with pytest.raises(HarnessError, match=r"at most 6 replicates.*--at-most 9"):
        place.run(made, until_decided=True, at_most=9)
    place.run(place.make(replicates=20))
    assert max(place.begun().values()) <= 6, "the file's replicates are no longer the maximum"


def test_a_study_that_ran_otherwise_cannot_become_one(place: Looks):
    made = place.make(replicates=3)
    place.run(made)
    with pytest.raises(HarnessError, match="fixed number of replicates"):
        place.run(made, until_decided=True, at_most=8)
    assert place.begun()[arm(place, "base")] == 3


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"until_decided": True, "at_most": 2}, "the first look is after replicate 3"),
        ({"at_most": 5}, "give both"),
        ({"until_decided": True, "shard": Shard(1, 2)}, "no shard can"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(place: Looks, options, match):
    with pytest.raises(HarnessError, match=match):
        place.run(place.make(), **options)
    assert place.begun() == {}


def test_without_contrasts_nothing_is_decided(place: Looks):
    made = place.make()
    with pytest.raises(HarnessError, match="declares no contrasts"):
        place.run(made.model_copy(update={"contrasts": []}), until_decided=True)


class Killed(BaseException):
    """The driver dies here."""


class Dies(InlineExecutor):
    """Its driver vanishes before the job of this number."""

    def __init__(self, at: int) -> None:
        self.left = at

    def run(self, jobs, on_event, stop) -> None:
        def counted():
            for job in jobs:
                self.left -= 1
                if self.left < 0:
                    raise Killed
                yield job

        super().run(counted(), on_event, stop)


def test_after_any_interruption_the_same_looks_are_taken(tmp_path: Path):
    whole = Looks(tmp_path / "whole")
    whole.run(whole.make(), until_decided=True)
    said = [(k.replicates, k.outcomes, k.dropped, k.over) for k in whole.looks()]
    broken = Looks(tmp_path / "broken")
    for at in (5, 8, 3, 1, 2, 50):
        try:
            broken.run(broken.make(), until_decided=True, executor=Dies(at))
        except Killed:
            taken = broken.looks()
            continue
        assert broken.looks()[: len(taken)] == taken
    assert [(k.replicates, k.outcomes, k.dropped, k.over) for k in broken.looks()] == said
    assert broken.begun() == whole.begun()


def test_results_that_are_there_are_looked_at_one_replicate_after_the_other(tmp_path: Path):
    """Another study ran them all: the looks are the same, and what they end is not counted."""
    place = Looks(tmp_path)
    place.make()
    file = place.folder / "study.yaml"
    other = place.folder / "other.yaml"
    other.write_text(file.read_text().replace("name: looks", "name: other"))
    place.run(load_study(other))
    result = place.run(load_study(file), until_decided=True)
    assert result.tally is None or not result.tally.ended
    looks = place.looks()
    assert looks[-1].over
    assert looks[-1].replicates < 8
    rows = {row.levels["x"]: row for row in result.answer.arms}
    assert rows["far"].n_planned < rows["near"].n_planned == looks[-1].replicates


def test_an_arm_that_no_contrast_compares_runs_to_the_end(place: Looks):
    place.run(place.make(), until_decided=True)
    assert place.begun()[arm(place, "mid")] == place.looks()[-1].replicates


def test_equivalence_ends_a_contrast_and_does_not_leave(place: Looks):
    more = "  - {id: same, a: {x: near}, b: {x: base}, metric: score, margin: 0.8}\n"
    result = place.run(place.make(more=more, replicates=10), until_decided=True)
    looks = place.looks()
    at = next(k for k in looks if k.outcomes.get("same") and k.outcomes["same"].state != "open")
    assert at.outcomes["same"].verdict == "equivalent"
    by_id = {v.id: v for v in result.answer.verdicts if v.planned}
    assert by_id["same"].verdict == "equivalent"
    assert by_id["same"].left >= by_id["far"].left - 1


def test_most_trials_of_a_replicate_failing_is_no_look(place: Looks):
    """Mended, the same command goes on."""
    file = place.folder / "study.yaml"
    text = STUDY.format(spread=0.1, salt=1, replicates=8, more="")
    file.write_text(text.replace("fault: false", "fault: true"))
    result = place.run(load_study(file), until_decided=True)
    assert result.exit_code == 1
    assert place.looks() == []
    assert any("the look after 3 replicates was not taken" in text for text in result.warnings)
    assert result.answer.headline.startswith("Interim, no look yet")
    assert {v.verdict for v in result.answer.verdicts if v.planned} == {"undecided"}


def test_a_look_that_decided_by_other_numbers_is_told(place: Looks, monkeypatch):
    """A trial that failed before the look is run again by the next run, and moves the verdict."""
    monkeypatch.setenv("NOISY_FAILS", "5.0 1")
    made = place.make(spread=1.0, salt=15)
    first = place.run(made, until_decided=True)
    then = {v.id: v for v in first.answer.verdicts if v.planned}
    assert (then["far"].verdict, then["far"].n, then["far"].n_planned) == ("improves", 2, 3)
    assert not any("its numbers are others" in n for v in then.values() for n in v.notes)
    looks = place.looks()
    monkeypatch.delenv("NOISY_FAILS")
    again = place.run(made)
    assert place.looks() == looks, "a look is not taken again"
    now = {v.id: v for v in again.answer.verdicts if v.planned}
    assert (now["far"].verdict, now["far"].n, now["far"].n_planned) == ("undecided", 3, 3)
    moved = [n for n in now["far"].notes if "its numbers are others than the look after 3 saw" in n]
    assert len(moved) == 1
    assert "; improves): with the trials" in moved[0]
    assert moved[0].endswith("since it is undecided")
    assert not any("its numbers are others" in n for n in now["near"].notes)
    told = "far: undecided (improves by the numbers of the look after 3); near: undecided (futile)."
    assert again.answer.headline.endswith(told)
    assert again.report is not None
    assert "others than the look after 3 saw" in again.report.read_text()


def test_looks_travel_with_the_results(place: Looks):
    """Another workspace that has the recorded results knows the looks, and takes no other."""
    made = place.make()
    place.run(made, until_decided=True)
    written = place.workspace.study("looks") / "results"
    history = History.read([written])
    assert looks_of(history, "looks") == place.looks()
    plan = make_plan(OpenedStudy(made, place.workspace, history=history))
    assert plan.adaptive is not None
    assert plan.adaptive.over
    assert plan.missing() == []
    assert json.loads(plan.model_dump_json())["adaptive"]["at_most"] == 8


def test_plan_and_status_say_what_is_open(place: Looks):
    made = place.make()
    plan = make_plan(
        OpenedStudy(made, place.workspace, history=place.history()), until_decided=True
    )
    before = lines_of(plan, "study.yaml", expected=expected(plan))
    assert any("after replicate 3, then after each, at most 8" in line for line in before)
    assert any("32 trials at most; expected" in line for line in before)
    assert "--until-decided --at-most 8" in before[-1]
    with contextlib.suppress(Killed):
        place.run(made, until_decided=True, executor=Dies(14))
    assert [k.replicates for k in place.looks()] == [3]
    plan = make_plan(OpenedStudy(made, place.workspace, history=place.history()))
    told = "\n".join(lines_of(plan, "study.yaml"))
    assert "far improves (after 3)" in told
    assert "open: near" in told
    standing = study_status("looks", place.history(), place.workspace)
    assert standing.looks == [
        "the last one after 3 of at most 8 replicates",
        "far improves (after 3); open: near",
    ]


@pytest.mark.parametrize("at_most", [6, 10])
def test_expected_trials_are_those_of_the_looks(place: Looks, at_most: int):
    """Against looks by the product's functions, of 150 studies with nothing and with effects."""
    made = place.make(replicates=at_most)
    plan = make_plan(
        OpenedStudy(made, place.workspace, history=place.history()), until_decided=True
    )
    found = expected(plan)
    assert found is not None
    assert found.at_most == 4 * at_most
    spending = calibrated(at_most, 0.05, 2, cells=60)
    effect = detectable(at_most, 0.05 / 2) * 2**0.5
    for shift, told in ((0.0, found.nothing_differs), (effect, found.as_detectable)):
        counts = []
        for study in range(150):
            y = np.random.default_rng([study, at_most]).standard_normal((4, at_most))
            y[1:3] += shift
            counts.append(_looked_trials(y, spending))
        error = np.std(counts) / np.sqrt(len(counts))
        assert told == pytest.approx(np.mean(counts), abs=4 * error + 0.02 * told)


def _looked_trials(y: np.ndarray, spending) -> int:
    """Trials of one study of a baseline, two compared arms and one that nobody compares."""
    arms_of = {"far": ("far", "base"), "near": ("near", "base")}
    names, ended, read = ["base", "far", "near", "mid"], {}, {}
    going, trials = set(names), 3 * len(names)
    for n in range(3, spending.at_most + 1):
        for c in arms_of.keys() - ended.keys():
            rows = {a: dict(enumerate(y[names.index(a), :n])) for a in (c, "base")}
            found = Linear(estimate(rows, one_group([{c: 1.0, "base": -1.0}])), None, True)
            read[c] = AtLook(found, n, spending)
        said = outcomes(read, 0.05, 2, ended)
        ended = {c: o.state for c, o in said.items() if o.state != "open"}
        going = needed(arms_of, [c for c in arms_of if c not in ended], going)
        if not going or n == spending.at_most:
            break
        trials += len(going)
    return trials


def test_the_live_view_tells_decided_contrasts_from_open_ones(place: Looks):
    made = place.make()
    with contextlib.suppress(Killed):
        place.run(made, until_decided=True, executor=Dies(14))
    plan = make_plan(OpenedStudy(made, place.workspace, history=place.history()))
    outlook = Outlook(plan, place.history())
    outlook.looked(plan.adaptive)
    far, near = outlook.lines()
    assert far == "far improves (after 3 of at most 8)"
    assert near.startswith("near ")
    assert near.endswith("interim)")


def test_a_deadline_between_looks_leaves_the_rest(place: Looks):
    result = place.run(place.make(), until_decided=True, deadline=time.time() - 1)
    assert result.exit_code == STOPPED
    assert result.tally is not None
    assert result.tally.expired
    assert place.looks() == []


@pytest.mark.slow
def test_ray_goes_on_behind_each_look(tmp_path: Path):
    inline, ray = Looks(tmp_path / "inline"), Looks(tmp_path / "ray")
    inline.run(inline.make(), until_decided=True)
    ray.run(ray.make(), until_decided=True, executor="ray", parallel=2)
    assert [(k.replicates, k.outcomes) for k in ray.looks()] == [
        (k.replicates, k.outcomes) for k in inline.looks()
    ]
    assert ray.begun() == inline.begun()
