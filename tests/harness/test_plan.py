"""Plans: states against the history, order, contrasts, cost, what can be detected."""

import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import claims, cost, subjects
from harness.analyse import power
from harness.contract import Artifact, Fingerprints
from harness.errors import HarnessError
from harness.journal import History, Superseded
from harness.plan import Plan
from harness.plan_text import duration, lines_of
from harness.study import Study
from harness.testing import stub
from harness.trial import key_of
from harness.workspace import Workspace
from tests.harness.study_files import BODY, add_planned, add_run, plan, study


@pytest.fixture
def made(tmp_path: Path) -> Study:
    return study(tmp_path)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put extra names on the stub subject."""

    def put(**names: Any) -> None:
        subject = SimpleNamespace(**{k: getattr(stub, k) for k in dir(stub)} | names)
        monkeypatch.setattr(subjects, "load", lambda name, project=None: subject)

    return put


def states(planned: Plan) -> dict[str, int]:
    return {s: planned.count(s) for s in ("new", "measure", "reuse", "stale", "running")}  # type: ignore[arg-type]


def done(planned: Plan, history: History, **options: Any) -> None:
    for item in planned.trials:
        add_run(history, item.trial, **options)


# order and identity ---------------------------------------------------------------------


def test_order_is_replicate_major_with_the_baseline_first(made: Study) -> None:
    planned = plan(made)
    rows = [(t.trial.replicate, t.trial.arm) for t in planned.trials]
    arms = [arm.name for arm in planned.arms]
    assert arms[0] == "x0-warm"
    assert planned.arms[0].baseline
    assert rows == [(r, a) for r in range(6) for a in arms]


def test_keys_are_those_of_the_recipe_replicate_and_data(made: Study) -> None:
    for item in plan(made).trials[:9]:
        trial = item.trial
        assert trial.key == key_of(trial.recipe, trial.replicate, "stub-data")


def test_reusing_the_file_name_does_not_matter(tmp_path: Path, made: Study) -> None:
    again = study(tmp_path, BODY.replace("look:", "appearance:").replace("look:", "appearance:"))
    keys = {t.trial.key for t in plan(made).trials}
    assert {t.trial.key for t in plan(again).trials} == keys, "names of factors are no identity"


def test_references_come_first_once_each(made: Study, offer: Any) -> None:
    def references(recipe: dict[str, Any], protocol: str) -> dict[str, dict[str, Any]]:
        return {
            "teacher": {"steps": 20},
            "source": {"row": "source", "x": recipe["part"]["x"]},
            "x0-warm": {"row": "clash"},
        }

    offer(references=references)
    planned = plan(made)
    rows = [t.trial for t in planned.trials if t.trial.kind == "reference"]
    assert [t.trial.kind for t in planned.trials[: len(rows)]] == ["reference"] * len(rows)
    assert rows[0].key == key_of({"steps": 20}, 0, "stub-data", kind="reference")
    names = [row.arm for row in rows]
    assert names[:2] == ["teacher", "source"]
    assert len(names) == len(set(names)) == 5, "teacher and clash once, source for each x"
    assert "x0-warm" not in names
    assert "+ 5 references" in lines_of(planned, "s.yaml")[0]


def test_select_is_part_of_how_it_is_measured(tmp_path: Path) -> None:
    ema = plan(study(tmp_path)).fingerprints.protocol
    last = plan(study(tmp_path, BODY + "select: last\n")).fingerprints.protocol
    assert (ema, last) == ("stub-default", "stub-default+last")


# states --------------------------------------------------------------------------------


def test_everything_is_new_without_a_history(made: Study) -> None:
    planned = plan(made)
    assert states(planned) == {"new": 36, "measure": 0, "reuse": 0, "stale": 0, "running": 0}
    assert len(planned.missing()) == planned.cost.trials == 36


def test_what_is_done_under_the_protocol_is_reused(made: Study) -> None:
    history, planned = History(), plan(made)
    for item in planned.trials[:6]:
        add_run(history, item.trial)
    add_run(history, planned.trials[6].trial, state="diverged")
    again = plan(made, history)
    assert [t.state for t in again.trials[:8]] == ["reuse"] * 7 + ["new"]
    assert again.trials[6].why == "diverged"


@pytest.mark.parametrize(
    ("state", "why"),
    [("failed", "failed before"), ("killed", "killed before"), (None, "interrupted")],
)
def test_what_did_not_end_is_new_again(made: Study, state: str | None, why: str) -> None:
    history = History()
    add_run(history, plan(made).trials[0].trial, state=state)
    first = plan(made, history).trials[0]
    assert (first.state, first.why) == ("new", why)


def test_what_another_driver_runs_is_running(made: Study) -> None:
    history, trial = History(), plan(made).trials[0].trial
    add_run(history, trial, state=None)
    place = Workspace(made.file.parent / "workspace")
    claim = claims.try_claim(claims.trial_lock(place, trial.key))
    assert claim is not None
    with claim:
        assert plan(made, history).trials[0].state == "running"
    assert plan(made, history).trials[0].state == "new"


def test_other_code_is_stale_and_names_the_files(made: Study, offer: Any) -> None:
    history = History()
    before = {"evaluation/edit.py": "1", "recipes/flow.py": "1", "gone.py": "1"}
    done(plan(made), history, code="old", code_files=before)
    now = {"evaluation/edit.py": "2", "recipes/flow.py": "1", "new.py": "1"}
    prints = Fingerprints(data="stub-data", protocol="stub-default", code="new", code_files=now)
    offer(fingerprints=lambda recipe, protocol: prints)
    planned = plan(made, history)
    assert states(planned)["stale"] == 36
    assert planned.trials[0].why == "evaluation/edit.py, gone.py, new.py"
    text = lines_of(planned, "s.yaml")
    assert "stale 36 (evaluation/edit.py, gone.py, new.py)" in text[0]
    assert "--rerun-stale" in text[-1]


def test_other_data_is_stale_until_superseded(made: Study, offer: Any) -> None:
    history = History()
    old = plan(made).trials
    done(plan(made), history)
    prints = Fingerprints(data="data-2", protocol="stub-default", code="stub-code")
    offer(fingerprints=lambda recipe, protocol: prints)
    planned = plan(made, history)
    assert states(planned)["stale"] == 36
    assert [t.trial.key for t in planned.trials] == [t.trial.key for t in old], "accepting finds it"
    assert planned.trials[0].why == f"data changed since it was recorded as {old[0].trial.key}"
    assert planned.orphans == []
    for item in planned.trials:
        history.add(Superseded(at=1e9, key=item.trial.key, attempt=1))
    again = plan(made, history)
    assert states(again)["new"] == 36
    assert again.trials[0].trial.data == "data-2"
    assert again.trials[0].trial.key != old[0].trial.key


def test_another_protocol_measures_kept_students(made: Study, offer: Any) -> None:
    history, planned = History(), plan(made)
    place = Workspace(made.file.parent / "workspace")
    student = Artifact(kind="student", path="student", step=3)
    for item in planned.trials[:2]:
        add_run(history, item.trial, protocol="stub-older", artifacts=[student])
    (place.trial(planned.trials[0].trial.key) / "attempts" / "1-n1" / "student").mkdir(parents=True)
    assert [t.state for t in plan(made, history).trials[:2]] == ["new", "new"]
    offer(measure=lambda student, protocol, context: iter(()))
    again = plan(made, history)
    assert [t.state for t in again.trials[:3]] == ["measure", "new", "new"]
    assert again.trials[1].why == "protocol not yet run, student not kept"
    add_run(history, planned.trials[0].trial, number=2, mode="measure")
    assert plan(made, history).trials[0].state == "reuse"


def test_measure_at_asks_for_every_cycle(tmp_path: Path) -> None:
    made = study(tmp_path, BODY + "measure_at: [50, 100, 200, 900]\n")
    history, planned = History(), plan(made)
    add_run(history, planned.trials[0].trial, steps=(50, 100, 200))
    add_run(history, planned.trials[1].trial, steps=(100, 200))
    again = plan(made, history)
    assert again.trials[0].state == "reuse", "cycle 900 is beyond its end"
    assert (again.trials[1].state, again.trials[1].why) == ("new", "not measured at cycle 50")


def test_orphans_were_planned_and_run_but_are_no_longer(tmp_path: Path, made: Study) -> None:
    history, whole = History(), plan(made)
    add_planned(history, "demo", [t.trial for t in whole.trials])
    done(whole, history)
    smaller = study(tmp_path, BODY.replace("[0.0, 1.0, 2.0]", "[0.0, 2.0]"))
    gone = {t.trial.key for t in whole.trials if t.trial.levels["part.x"] == "1"}
    assert set(plan(smaller, history).orphans) == gone
    assert plan(made, history).orphans == []


# contrasts --------------------------------------------------------------------------------


def test_sides_are_matched_cell_by_cell(tmp_path: Path) -> None:
    body = BODY.replace(
        "contrasts:", "where: ['not (part.x == 2 and look == \"cool\")']\ncontrasts:"
    )
    body += "  - {id: H2, a: {look: cool}, b: {look: warm}, at: {part.x: 1.0}}\n"
    body += "  - {id: H3, a: {part.x: 1.0}, b: {look: cool}}\n"
    first, second, third = plan(study(tmp_path, body)).contrasts
    assert first.pairs == [("x2-warm", "x0-warm")]
    assert first.unmatched == ["x0-cool"]
    assert second.pairs == [("x1-cool", "x1-warm")]
    assert third.pairs == [("x1-warm", "x0-cool")], "what a side leaves open is at the baseline"


def test_cells_with_one_recipe_on_both_sides_are_dropped_and_said(tmp_path: Path) -> None:
    body = """\
        recipe: {}
        factors:
          look: {levels: {plain: {colour: red}, again: {colour: red}, blue: {colour: blue}}}
        contrasts:
          - {id: H1, a: {look: blue}, b: {look: plain}}
          - {id: H2, a: {look: blue}, b: {look: again}}
        """
    made = study(tmp_path, body)
    planned = plan(made)
    assert [c.pairs for c in planned.contrasts] == [[("blue", "plain")]] * 2
    assert "stands for 2 combinations that are the same recipe" in planned.warnings[0]


def test_detectable_is_in_sds_without_a_history(made: Study) -> None:
    (contrast,) = plan(made).contrasts
    assert contrast.detectable == pytest.approx(1.4, abs=0.05)
    assert contrast.detectable_in == "sd"


def _record_differences(planned: Plan, history: History, differences: list[float]) -> None:
    """x2 is above x0 by a difference of its own in each replicate."""
    for item in planned.trials:
        trial = item.trial
        if trial.replicate < len(differences):
            up = differences[trial.replicate] if trial.levels["part.x"] == "2" else 0.0
            add_run(history, trial, metrics={"score": 5.0 + trial.replicate + up})


def test_detectable_is_in_units_from_three_replicates_on(tmp_path: Path) -> None:
    made = study(tmp_path, BODY.replace("expect: higher", "expect: higher, margin: 0.01"))
    history = History()
    differences = [0.10, 0.14, 0.09]
    _record_differences(plan(made), history, differences[:2])
    assert plan(made, history).contrasts[0].detectable_in == "sd"
    history = History()
    _record_differences(plan(made), history, differences)
    (contrast,) = plan(made, history).contrasts
    spread = statistics.stdev(differences)
    assert contrast.detectable_in == "units"
    assert contrast.detectable == pytest.approx(power.detectable(6) * spread)
    needed = power.replicates_needed(0.01 / spread)
    assert f"margin 0.01: may end undecided; {needed} replicates reach it" in contrast.notes
    assert "spread from 3 replicates in the history" in contrast.notes


def test_holm_makes_it_harder_and_the_floor_of_the_sign_flip_is_said(tmp_path: Path) -> None:
    body = BODY + "".join(
        f"  - {{id: G{i}, a: {{part.x: {i}.0}}, b: {{part.x: 0.0}}}}\n" for i in (1, 2)
    )
    one, three = plan(study(tmp_path)).contrasts[0], plan(study(tmp_path, body)).contrasts[0]
    assert three.detectable is not None
    assert one.detectable is not None
    assert three.detectable == pytest.approx(power.detectable(6, 0.05 / 3))
    assert three.detectable > one.detectable
    assert one.notes == []
    (note,) = three.notes
    assert note == (
        "cannot reach p < 0.05 after Holm (3 contrasts) with 6 replicates by sign-flip "
        "(at best 0.094); 7 can"
    )
    assert 3 * power.sign_flip_floor(7) < 0.05 <= 3 * power.sign_flip_floor(6)


@pytest.mark.parametrize(
    ("replicates", "notes"),
    [
        (1, ["one replicate: nothing about recipes can be judged; give 2 or more, better 6"]),
        (
            3,
            [
                "cannot reach p < 0.05 with 3 replicates by sign-flip (at best 0.25); 6 can",
                "fewer than 6 replicates: judged with the residual variance of the arm x replicate "
                "model",
            ],
        ),
    ],
)
def test_few_replicates_are_said(tmp_path: Path, replicates: int, notes: list[str]) -> None:
    (contrast,) = plan(study(tmp_path, BODY + f"replicates: {replicates}\n")).contrasts
    assert contrast.notes == notes
    assert (contrast.detectable is None) == (replicates == 1)


# cost --------------------------------------------------------------------------------


def test_cost_comes_from_finished_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "gpus_here", lambda: 4)
    monkeypatch.setattr(cost, "cpus_here", lambda: 16)
    body = BODY + "resources: {gpus: 0.5, cpus: 4}\nbudget: {gpu_hours: 2.9}\n"
    made = study(tmp_path, body)
    history, planned = History(), plan(made)
    assert planned.cost.seconds_per_trial is None
    assert planned.cost.parallel == 4, "16 cores hold four trials of four"
    seconds = [600.0, 620.0, 640.0, 660.0, 680.0]
    for item, took in zip(planned.trials, seconds, strict=False):
        add_run(history, item.trial, seconds=took, gpus=0.5)
    add_run(history, planned.trials[5].trial, state="failed", seconds=360.0, gpus=0.5)
    found = plan(made, history).cost
    assert found.trials == 31
    assert found.seconds_per_trial == 640
    assert found.gpu_hours == pytest.approx(31 * 640 * 0.5 / 3600)
    assert found.hours == pytest.approx(31 * 640 / 4 / 3600)
    assert found.lo_hours == pytest.approx(31 * 608 / 4 / 3600)
    assert found.hi_hours == pytest.approx(31 * 672 / 4 / 3600)
    assert found.spent_gpu_hours == pytest.approx((sum(seconds) + 360) * 0.5 / 3600)
    assert found.basis == "5 finished trial(s) of this plan"
    planned = plan(made, history)
    assert any("over budget: 3.25 GPU-h in all (0.494 spent) of 2.9" in w for w in planned.warnings)
    assert "EXCEEDED" in "\n".join(lines_of(planned, "s.yaml"))
    assert plan(made, history, parallel=2).cost.hours == pytest.approx(31 * 640 / 2 / 3600)


def test_cost_falls_back_to_other_trials_and_says_so(tmp_path: Path, made: Study) -> None:
    history = History()
    done(plan(made), history, seconds=30.0, study_name="elsewhere")
    other = study(tmp_path, BODY.replace("[0.0, 1.0, 2.0]", "[5.0, 6.0]").replace("x: 2.0", "x: 5")
                  .replace("x: 0.0", "x: 6"))  # fmt: skip
    found = plan(other, history).cost
    assert found.basis == "36 finished trial(s) of other studies"
    assert found.seconds_per_trial == 30


def test_devices_that_do_not_exist_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    assert cost.gpus_here() == 1
    made = study(tmp_path, BODY + "resources: {gpus: 2}\n")
    with pytest.raises(HarnessError, match=r"gpus is 2 a trial, this machine offers 1"):
        plan(made)
    assert plan(made, check_devices=False).cost.parallel == 1
    for visible, count in (("", 0), ("-1", 0), ("0,1", 2), ("GPU-aa, GPU-bb,", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert cost.gpus_here() == count


def test_cores_that_do_not_exist_are_an_error(tmp_path: Path) -> None:
    made = study(tmp_path, BODY + "resources: {cpus: 4096}\n")
    with pytest.raises(HarnessError, match=r"cpus is 4096 a trial"):
        plan(made)


# text --------------------------------------------------------------------------------


def test_text_is_aligned_and_says_what_to_type(made: Study) -> None:
    lines = lines_of(plan(made), "studies/demo.yaml", arms=True)
    assert lines[0] == (
        "demo  6 arms x 6 = 36 trials   new 36  measure 0  reuse 0  stale 0  orphan 0"
    )
    assert lines[-1] == "next    stillhouse run studies/demo.yaml"
    assert "H1      2 vs 2 arms matched on score   detects >= 1.43 SD" in "\n".join(lines)
    assert "arm     x0-warm  new 6  (baseline)" in lines
    assert "a balanced study every 6 trials" in "\n".join(lines)
    assert all(ord(character) < 128 for line in lines for character in line)
    assert all(line[6:8] == "  " or line[:4] == "demo" for line in lines)


def test_text_when_all_is_done(made: Study) -> None:
    history = History()
    done(plan(made), history)
    lines = lines_of(plan(made, history), "s.yaml")
    assert "reuse 36" in lines[0]
    assert lines[1].endswith("nothing to run")
    assert lines[-1].endswith("stillhouse report s.yaml")


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.01, "36 s"), (0.5, "30 min"), (3.17, "3 h 10"), (1.999, "2 h 00"), (60.0, "2.5 d")],
)
def test_durations(hours: float, text: str) -> None:
    assert duration(hours) == text
    assert not math.isnan(hours)
