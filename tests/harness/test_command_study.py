"""A study of a command: mistakes with their place, then plan, run, continue, reproduce."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.contract import Artifact, Report
from harness.executors.base import Executor
from harness.executors.inline import InlineExecutor
from harness.journal import attempts
from harness.journal.workspace import Workspace
from harness.planning.make import make_plan
from harness.reproduce.depths import DepthOption
from harness.reproduce.entry import reproduction
from harness.running.run_study import run
from harness.study.load import load_study
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.subjects.settings import CommandSettings
from tests.harness.study_files import mistakes
from tests.harness.trainers import COMMAND, OWN, TRAINER

MEASURES = "harness.testing.stub_measured"
STUDY: dict[str, Any] = {
    "name": "theirs",
    "question": "Do more steps help?",
    "subject": {
        "command": COMMAND,
        "code": ["trainer.py"],
        "metrics": OWN,
        "checkpoint": "{attempt}/checkpoint-*",
        "resume": "resume={resume}",
        "grace_seconds": 10.0,
    },
    "recipe": {"mode": "", "train": {"steps": 4}, "optimiser": None},
    "factors": {"train.steps": [2, 4]},
    "replicates": 2,
    "contrasts": [{"id": "H1", "a": {"train.steps": 4}, "b": {"train.steps": 2}}],
}


def _write(folder: Path, subject: dict[str, Any] | None = None, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").touch()
    home = folder / "studies" / "theirs"
    home.mkdir(parents=True, exist_ok=True)
    (home / "trainer.py").write_text(TRAINER)
    content = {**STUDY, "subject": {**STUDY["subject"], **(subject or {})}, **changes}
    with (home / "study.yaml").open("w") as stream:
        YAML(typ="safe").dump(content, stream)
    return home / "study.yaml"


def _place(study: Study) -> Workspace:
    return Workspace(study.file.parent / "workspace")


def _run(study: Study, executor: Executor | None = None) -> int:
    place = _place(study)
    return run(
        OpenedStudy(study, place), executor=executor or InlineExecutor(), echo=lambda _: None
    ).exit_code


def test_a_value_of_a_study_file_becomes_a_subject(tmp_path: Path) -> None:
    made = load_study(_write(tmp_path))
    assert isinstance(made.subject, CommandSettings)
    assert made.subject.cwd == "studies/theirs", "relative to the project, wherever it lies"
    assert made.primary == "score"
    assert made.protocol == "trainer"


@pytest.mark.parametrize(
    ("subject", "changes", "told"),
    [
        ({"command": "x {recipe.train.stepz}"}, {}, "no field 'stepz' in 'train'; did you mean"),
        ({"command": "x {sed.init}"}, {}, "unknown placeholder {sed.init} at column 3 of"),
        ({"command": "x {seed}"}, {}, "unknown placeholder {seed} at column 3"),
        ({"command": "x a={b"}, {}, "a lone '{' at column 5"),
        ({"command": "x 'y"}, {}, "cannot be split into words: No closing quotation"),
        ({"progress": "/tmp/{key}.jsonl"}, {}, "must start with {attempt}/"),
        ({"student": "{attempt}/../x"}, {}, "must start with {attempt}/"),
        ({"checkpoint": "{attempt}/{resume}"}, {}, "{resume} has no meaning here"),
        ({"code": ["gone.py"]}, {}, "'gone.py' does not exist in"),
        ({"cwd": "gone"}, {}, "gone is not a folder"),
        ({"metrics": {}}, {}, "nothing would be measured"),
        ({"metrics": {"score": {}}}, {}, "marks none as headline"),
        ({"kommand": "x"}, {}, "unknown key 'kommand'; did you mean 'command'?"),
        ({"recipe_schema": "gone.json"}, {}, "No such file"),
        ({}, {"factors": {"train.stepz": [1]}}, "no field 'stepz' in 'train'"),
        ({}, {"factors": {"train.steps": [1, "2"]}}, "has a number here, 4;"),
        ({}, {"factors": {"train.steps": [1, True]}}, "has a number here, 4;"),
        ({}, {"factors": {"train": [{"steps": 1}, 2]}}, "has a mapping here"),
        (
            {"student": "{attempt}/student", "measured_by": "harness.testing.stub_measured"},
            {"measure_at": [2]},
            "a command's student is measured at the end",
        ),
    ],
)
def test_mistakes_have_a_place_and_a_remedy(
    tmp_path: Path, subject: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    error = mistakes(_write(tmp_path, subject, **{"contrasts": [], **changes}))
    assert any(told in p.message and p.line and p.line > 1 for p in error.problems), str(error)


def test_any_key_and_type_of_yaml_is_a_recipe(tmp_path: Path) -> None:
    odd = {"_target_": "a.B", "model_config": 1, "copy": [1, 2], "x-y": {"1": "on "}, "lr": 1e-4}
    file = _write(tmp_path, recipe={**STUDY["recipe"], **odd})
    study = load_study(file)
    plan = make_plan(OpenedStudy(study, _place(study)))
    assert plan.arms[0].recipe == {**STUDY["recipe"], **odd, "train": {"steps": 2}}
    assert type(plan.arms[0].recipe["train"]["steps"]) is int


def test_what_is_null_in_the_base_may_become_anything(tmp_path: Path) -> None:
    levels = [None, "adam", {"name": "sgd", "momentum": 0.9}]
    study = load_study(_write(tmp_path, factors={"optimiser": levels}, contrasts=[]))
    plan = make_plan(OpenedStudy(study, _place(study)))
    assert [arm.recipe["optimiser"] for arm in plan.arms] == levels


def test_a_json_schema_says_what_may_be_set(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {
            "mode": {"type": "string"},
            "train": {
                "type": "object",
                "properties": {
                    "steps": {"type": "integer", "maximum": 10},
                    "warm_up": {"type": ["integer", "null"]},
                    "clip": {"default": 1.0},
                },
            },
        },
    }
    file = _write(tmp_path, {"recipe_schema": "recipe.schema.json"}, factors={
        "train.steps": [2, 4], "train.warm_up": [0, None]})  # fmt: skip
    (file.parent / "recipe.schema.json").write_text(json.dumps(schema))
    study = load_study(file)
    plan = make_plan(OpenedStudy(study, _place(study)))
    assert plan.arms[0].recipe["train"] == {"steps": 2, "warm_up": 0, "clip": 1.0}
    wrong = {"train.steps": [2, 11], "train.warm_up": [0, "x"], "train.other": [1]}
    text = str(mistakes(_write(tmp_path, {"recipe_schema": "recipe.schema.json"}, factors=wrong,
                               contrasts=[])))  # fmt: skip
    assert "11 is greater than the maximum of 10" in text
    assert "'x' is not of type 'integer', 'null'" in text
    assert "no field 'other' in 'train'" in text


def test_it_runs_answers_and_reproduces(tmp_path: Path) -> None:
    study = load_study(_write(tmp_path))
    assert _run(study) == 0
    history = OpenedStudy(study, _place(study)).history
    plan = make_plan(OpenedStudy(study, _place(study), history=history))
    assert {t.state for t in plan.trials} == {"reuse"}
    key = plan.trials[0].trial.key
    log = (_place(study).trial(key) / "log.txt").read_text()
    assert "argv [" in log, "the trainer's own output is in the trial's log"
    depths: tuple[DepthOption, ...] = ("auto", "train")
    for depth in depths:
        found = reproduction(
            key, workspace=_place(study), depth=depth, study=study.file, echo=print
        )
        assert (found.decision, found.level) == ("bit-equal", "train"), found


def test_a_trainer_of_other_code_is_stale(tmp_path: Path) -> None:
    study = load_study(_write(tmp_path))
    assert _run(study) == 0
    (study.file.parent / "trainer.py").write_text(TRAINER + "\n# better\n")
    plan = make_plan(OpenedStudy(study, _place(study)))
    assert {(t.state, t.why) for t in plan.trials} == {("stale", "trainer.py")}


def test_failures_and_divergence_are_of_their_trial_only(tmp_path: Path) -> None:
    modes = ["", "breaks", "nan"]
    study = load_study(_write(tmp_path, factors={"mode": modes}, contrasts=[], replicates=1))
    assert _run(study) == 1
    history = OpenedStudy(study, _place(study)).history
    states = {t.latest.opened.trial.arm: t.state for t in history.trials.values() if t.latest}
    assert sorted(states.values()) == ["diverged", "done", "failed"]
    (failed,) = [t.latest for t in history.trials.values() if t.state == "failed"]
    assert failed is not None
    assert failed.closed is not None
    assert "code 3" in failed.closed.reason
    assert "shapes do not match" in failed.closed.reason


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ({}, [1, 2, 3, 4]),
        ({"keep": 1}, [4]),
        ({"keep": 3}, [2, 3, 4]),
        ({"keep": 2, "student": "{attempt}/student", "measured_by": MEASURES}, [3, 4]),
        ({"student": "{attempt}/student", "measured_by": MEASURES}, [1, 2, 3, 4]),
    ],
)
def test_what_a_trainer_wrote_goes_only_where_the_study_says_so(
    tmp_path: Path, keep: dict[str, Any], left: list[int]
) -> None:
    """Its final weights above all: without `student` the last checkpoint is all there is."""
    recipe = {"mode": "slow", "train": {"steps": 4}}  # slow: each checkpoint is seen
    file = _write(tmp_path, subject=keep, recipe=recipe, factors={"mode": ["slow"]},
                  contrasts=[], replicates=1)  # fmt: skip
    study = load_study(file)
    assert _run(study) == 0
    (attempt,) = {p.parent for p in _place(study).root.glob("trials/*/attempts/*/checkpoint-*")}
    assert sorted(int(p.name.partition("-")[2]) for p in attempt.glob("checkpoint-*")) == left
    assert (attempt / "student" / "weights.json").exists(), "not a checkpoint"
    assert (attempt / "progress.jsonl").exists()


def test_keep_thins_what_earlier_attempts_left_too(tmp_path: Path) -> None:
    old, last = tmp_path / "attempts" / "1-a", tmp_path / "attempts" / "2-b"
    for folder, step in ((old, 1), (last, 2)):
        folder.mkdir(parents=True)
        (folder / f"c{step}").write_text("weights")
        made = Artifact(kind="checkpoint", path=f"c{step}")
        attempts.append_report(folder, 1.0, Report(step=step, artifacts=(made,)))
    attempts.drop_earlier_checkpoints(tmp_path, last)
    assert [p.name for p in tmp_path.rglob("c*")] == ["c2"]
    (last / "c2").unlink()
    (old / "c1").write_text("all there is")
    attempts.drop_earlier_checkpoints(tmp_path, last)
    assert [p.name for p in tmp_path.rglob("c*")] == ["c1"]


def test_keep_needs_checkpoints_and_is_no_other_study_where_it_is_not_said(tmp_path: Path) -> None:
    found = mistakes(_write(tmp_path, subject={"checkpoint": "", "resume": "", "keep": 1}))
    assert "`keep` counts checkpoints" in str(found)
    made = load_study(_write(tmp_path))
    assert "keep" not in made.model_dump(mode="json")["subject"]
    assert load_study(_write(tmp_path, subject={"keep": 2})).digest() != made.digest()


INTERRUPT = """
import sys, threading, os, signal, time
from pathlib import Path
from harness.cli import main
def press():
    root = Path(sys.argv[-1])
    while not list(root.glob("trials/*/attempts/*/checkpoint-2")): time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press, daemon=True).start()
main()
"""


def test_ctrl_c_saves_and_the_same_command_continues(tmp_path: Path) -> None:
    """Interrupted after two steps of four, told to stop, continued from what it saved then."""
    recipe = {"mode": "polite", "train": {"steps": 4}}
    file = _write(tmp_path, recipe=recipe, factors={"mode": ["polite"]}, contrasts=[], replicates=1)
    study = load_study(file)
    root = Path(__file__).parent.parent.parent
    script = tmp_path / "interrupt.py"
    script.write_text(INTERRUPT)
    told = subprocess.run(
        [sys.executable, str(script), "run", str(file), "--inline", "--no-mlflow",
         "--workspace", str(_place(study).root)],
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=400,
    )  # fmt: skip
    assert told.returncode == 130, told.stdout + told.stderr
    # `polite` would sleep at step two again, so what continues must be past it.
    assert _run(study) == 0
    (record,) = OpenedStudy(study, _place(study)).history.trials.values()
    assert [a.closed.state for a in record.ordered if a.closed] == ["killed", "done"]
    assert record.ordered[-1].opened.resumed_from == 1
    whole = load_study(_write(tmp_path / "whole", recipe={**recipe, "mode": ""},
                        factors={"mode": [""]}, contrasts=[], replicates=1))  # fmt: skip
    assert _run(whole) == 0
    (other,) = OpenedStudy(whole, _place(whole)).history.trials.values()
    got, expected = (
        t.latest.closed.measurements[-1].metrics  # type: ignore[union-attr]
        for t in (record, other)
    )
    assert got == expected


@pytest.mark.slow
def test_ray_runs_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    import psutil

    from harness.executors.ray_tune import RayExecutor

    study = load_study(_write(tmp_path))
    executor = RayExecutor(tmp_path / "ray" / "one", parallel=2)
    try:
        assert _run(study, executor) == 0
    finally:
        executor.close()
    history = OpenedStudy(study, _place(study)).history
    assert [t.state for t in history.trials.values()] == ["done"] * 4
    left = [p for p in psutil.process_iter() if str(tmp_path) in " ".join(_cmdline(p))]
    assert left == []


def _cmdline(process: Any) -> list[str]:
    import psutil

    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_trainers_share_the_reference_rows_of_who_measures(tmp_path: Path) -> None:
    """Rows are made by the measuring subject: no trainer's code, words or data is in their keys."""
    place = Workspace(tmp_path / "w")
    measured = {"student": "{attempt}/student", "measured_by": MEASURES, "metrics": {}}
    subjects = [measured, {**measured, "name": "other", "data": ["trainer.py"]}]
    recipe = {"mode": "student", "train": {"steps": 4}, "optimiser": None}
    rows: list[dict[str, tuple[str, str]]] = []
    for number, subject in enumerate(subjects):
        changes = {"name": f"s{number}", "recipe": recipe, "protocol": "p"}
        study = load_study(_write(tmp_path / f"p{number}", subject, **changes))
        plan = make_plan(OpenedStudy(study, place))
        made = [t for t in plan.trials if t.trial.kind == "reference"]
        rows.append({t.trial.arm: (t.trial.key, t.trial.subject) for t in made})
        if number:
            assert {t.state for t in made} == {"reuse"}
            assert {t.state for t in plan.trials if t not in made} == {"new"}
        else:
            run(OpenedStudy(study, place), executor=InlineExecutor(), echo=lambda _: None)
    assert rows[0] == rows[1]
    assert rows[0]
    assert {maker for _, maker in rows[0].values()} == {MEASURES}
