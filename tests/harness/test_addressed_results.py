"""A result is addressed by (key, protocol, code): studies share trials, never each other's code."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from harness.analysis.answered_study import AnsweredStudy
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.journal.writer import Journal
from harness.planning.make import make_plan
from harness.planning.plan import Plan
from harness.planning.reuse import as_read_by
from harness.running import plan_record
from harness.running.refusals import StaleError
from harness.running.run_study import run
from harness.study.load import load_study
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.subjects.identity import changed_words, identity_of, program_of
from harness.subjects.settings import CommandSettings

TRAINER = """\
import sys, json
out, seed, x = sys.argv[1:4]
value = {slope} * float(x) + {offset} + int(seed) % 5 * .01
open(out + "/m.jsonl", "w").write(json.dumps({{"step": 1, "total": 1, "loss": value}}) + "\\n")
"""
COMMAND = """\
name: {name}
question: What does x do?
subject:
  command: {command}
  code: [{code}]
  data: [{data}]
  progress: "{{attempt}}/m.jsonl"
  metrics: {{loss: {{higher_is_better: false, headline: true}}}}
recipe: {{x: 1.0}}
factors: {{x: [1.0, 2.0]}}
replicates: 3
contrasts: [{{id: x, a: {{x: 2.0}}, b: {{x: 1.0}}}}]
"""
MODULE = """\
from pydantic import BaseModel
from harness.contract import Fingerprints, MetricSpec, Outcome, Report
{imports}
metrics = {{"score": MetricSpec(higher_is_better=True, headline=True)}}
TIMES = {times}

class Recipe(BaseModel):
    x: float = 1.0

def fingerprints(recipe, protocol):
    return Fingerprints(data="none", code="1", protocol="none")

def run(recipe, context):
    value = TIMES * recipe["x"]
    yield Report(step=1, total=1, metrics={{"score": value}}, measured=True,
                 outcome=Outcome(state="done"))
"""
OF_MODULE = """\
name: {name}
question: What does x do?
subject: {module}
recipe: {{x: 1.0}}
factors: {{x: [1.0, 2.0]}}
replicates: 3
contrasts: [{{id: x, a: {{x: 2.0}}, b: {{x: 1.0}}}}]
"""


SELF_READING = """\
import re
from pathlib import Path
from pydantic import BaseModel
from harness.contract import Fingerprints, MetricSpec, Outcome, Report
SLOPE = {slope}
metrics = {{"score": MetricSpec(higher_is_better=True, headline=True)}}

class Recipe(BaseModel):
    x: float = 1.0

def fingerprints(recipe, protocol):
    return Fingerprints(data="none", code="1", protocol="none")

def run(recipe, context):  # from the file: an import is remembered by this process
    slope = float(re.search("SLOPE = (.*)", Path(__file__).read_text())[1])
    value = slope * recipe["x"] + context.replicate / 100
    yield Report(step=1, total=1, metrics={{"score": value}}, measured=True,
                 outcome=Outcome(state="done"))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch):
    """Writes a subject of one file, whose number is in its text, and studies of it."""
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "slope_of_mine", raising=False)

    def write(slope: float, *names: str) -> list[Study]:
        (folder / "slope_of_mine.py").write_text(SELF_READING.format(slope=slope))
        for name in names:
            text = OF_MODULE.format(name=name, module="slope_of_mine")
            (folder / f"{name}.yaml").write_text(text)
        return [load_study(folder / f"{name}.yaml") for name in names]

    yield write
    sys.modules.pop("slope_of_mine", None)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


def trainer(folder: Path, file: str, slope: float, offset: float = 0.0) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").touch()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(TRAINER.format(slope=slope, offset=offset))


def command(
    folder: Path,
    name: str,
    file: str = "train.py",
    options: str = "",
    data: str = "",
    code: str = "",
) -> Study:
    words = f"python {file} {{attempt}} {{seed.init}} {{recipe.x}} {options}"
    study = folder / f"{name}.yaml"
    study.write_text(COMMAND.format(name=name, command=words, code=code or file, data=data))
    return load_study(study)


def planned(study: Study, workspace: Workspace) -> Plan:
    return make_plan(OpenedStudy(study, workspace))


def states(study: Study, workspace: Workspace) -> dict[str, int]:
    plan = planned(study, workspace)
    kinds = ("new", "measure", "reuse", "stale", "running")
    return {state: n for state in kinds if (n := plan.count(state))} | (
        {"orphan": len(plan.orphans)} if plan.orphans else {}
    )


def go(study: Study, workspace: Workspace, **options) -> None:
    told: list[str] = []
    assert (
        run(OpenedStudy(study, workspace), executor="inline", echo=told.append, **options).exit_code
        == 0
    )


def difference(study: Study, workspace: Workspace) -> float:
    """Of the contrast x, by what the study reads now."""
    found = AnsweredStudy.of(OpenedStudy(study, workspace)).answer.verdicts[0].difference
    assert found is not None
    return round(found, 6)


def test_two_trainers_with_equal_recipes_share_nothing(tmp_path, workspace):
    folder = tmp_path / "p"
    trainer(folder, "a.py", 1)
    trainer(folder, "b.py", 7, 100)
    a, b = command(folder, "a", "a.py"), command(folder, "b", "b.py")
    go(a, workspace)
    assert states(b, workspace) == {"new": 6}
    go(b, workspace)
    assert (difference(a, workspace), difference(b, workspace)) == (1.0, 7.0)
    keys = [{t.trial.key for t in planned(study, workspace).trials} for study in (a, b)]
    assert not keys[0] & keys[1]


def test_two_projects_with_one_name_of_program_keep_their_numbers(tmp_path, workspace):
    trainer(tmp_path / "a", "train.py", 1)
    trainer(tmp_path / "b", "train.py", 7)
    a, b = command(tmp_path / "a", "a"), command(tmp_path / "b", "b")
    go(a, workspace)
    assert states(b, workspace) == {"new": 6}
    go(b, workspace)
    assert states(a, workspace) == {"reuse": 6}
    assert (difference(a, workspace), difference(b, workspace)) == (1.0, 7.0)
    assert states(b, workspace) == {"reuse": 6}


def test_two_modules_whose_fingerprints_were_written_by_hand(tmp_path, workspace, monkeypatch):
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    monkeypatch.syspath_prepend(str(folder))
    made = []
    for name, times in (("hand_one", 2.0), ("hand_two", 200.0)):
        (folder / f"{name}.py").write_text(MODULE.format(imports="", times=times))
        (folder / f"{name}.yaml").write_text(OF_MODULE.format(name=name, module=name))
        made.append(load_study(folder / f"{name}.yaml"))
    go(made[0], workspace)
    assert states(made[1], workspace) == {"new": 6}
    go(made[1], workspace)
    assert [difference(study, workspace) for study in made] == [2.0, 200.0]


def test_an_edit_of_what_a_module_imports_is_seen_whatever_its_author_declares(
    tmp_path, workspace, monkeypatch
):
    from harness.subjects.load import load_subject

    folder = tmp_path / "p"
    (folder / "inner").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "inner" / "__init__.py").touch()
    (folder / "inner" / "numbers_of_mine.py").write_text("ONE = 1\n")
    (folder / "nothing_imports_me.py").write_text("ONE = 1\n")
    (folder / "mine_too.py").write_text(
        MODULE.format(imports="def late():\n    from inner.numbers_of_mine import ONE\n", times=2.0)
    )
    (folder / "s.yaml").write_text(OF_MODULE.format(name="s", module="mine_too"))
    monkeypatch.syspath_prepend(str(folder))
    study = load_study(folder / "s.yaml")
    go(study, workspace)
    files = load_subject("mine_too", project=folder).fingerprints({}, "p").code_files
    assert list(files) == ["inner/__init__.py", "inner/numbers_of_mine.py", "mine_too.py"]
    (folder / "nothing_imports_me.py").write_text("ONE = 2\n")
    assert states(study, workspace) == {"reuse": 6}
    (folder / "inner" / "numbers_of_mine.py").write_text("ONE = 2\n")
    plan = planned(study, workspace)
    assert {(t.state, t.why) for t in plan.trials} == {("stale", "inner/numbers_of_mine.py")}


def test_what_another_study_runs_with_other_code_changes_nothing_here(module, workspace):
    """One program, edited between two studies of it: each goes on reading its own numbers."""
    one, two = module(1, "one", "two")
    go(one, workspace)
    assert states(two, workspace) == {"reuse": 6}
    module(3)
    assert states(two, workspace) == {"new": 6}
    go(two, workspace)
    assert difference(two, workspace) == 3.0
    assert difference(one, workspace) == 1.0, "a report without a run reads what it read before"
    go(one, workspace)  # the code of today has its results, made by the other study
    assert difference(one, workspace) == 3.0


def test_stale_is_asked_and_superseding_is_of_one_study(module, workspace):
    one, two = module(1, "one", "two")
    go(one, workspace)
    go(two, workspace)
    module(3)
    assert states(one, workspace) == {"stale": 6}
    assert states(two, workspace) == {"stale": 6}, "it was planned with results of that code"
    with pytest.raises(StaleError, match="were run before something changed"):
        go(one, workspace)
    go(one, workspace, rerun_stale=True)
    assert states(one, workspace) == {"reuse": 6}
    assert (difference(one, workspace), difference(two, workspace)) == (3.0, 1.0)
    assert states(two, workspace) == {"reuse": 6}, "the code of today has its results now"


def test_accepted_results_are_read_until_something_else_is_said(module, workspace):
    (study,) = module(1, "one")
    go(study, workspace)
    module(3)
    go(study, workspace, accept_stale=True)
    assert difference(study, workspace) == 1.0
    assert states(study, workspace) == {"stale": 6}
    go(study, workspace, rerun_stale=True)
    assert difference(study, workspace) == 3.0


def test_an_edit_taken_back_costs_nothing(module, workspace):
    (study,) = module(1, "one")
    go(study, workspace)
    module(3)
    go(study, workspace, rerun_stale=True)
    module(1)
    assert states(study, workspace) == {"reuse": 6}
    go(study, workspace)
    assert difference(study, workspace) == 1.0
    attempts = [a for t in OpenedStudy(study, workspace).history.trials.values() for a in t.ordered]
    assert len(attempts) == 12


def test_what_was_read_last_is_what_an_edit_makes_stale(module, workspace):
    """Not the newest result: an edit that was taken back is read no more."""
    (study,) = module(1, "one")
    go(study, workspace)
    module(3)
    go(study, workspace, rerun_stale=True)
    module(1)
    go(study, workspace)
    module(7)
    assert states(study, workspace) == {"stale": 6}
    go(study, workspace, accept_stale=True)
    assert difference(study, workspace) == 1.0


def test_results_that_are_read_again_are_stale_again(module, workspace):
    """They were superseded by a run that ended there, and its edit was taken back."""
    (study,) = module(1, "one")
    go(study, workspace)
    module(3)
    history = OpenedStudy(study, workspace).history
    plan = make_plan(OpenedStudy(study, workspace, history=history))
    plan_record.supersede("one", plan.trials, Journal(workspace.journal), history)
    module(1)
    go(study, workspace)
    module(7)
    assert states(study, workspace) == {"stale": 6}


def test_an_interrupted_rerun_goes_on(module, workspace):
    """Superseded and not yet run again is new, not stale once more."""
    (study,) = module(1, "one")
    go(study, workspace)
    module(3)
    history = OpenedStudy(study, workspace).history
    plan = make_plan(OpenedStudy(study, workspace, history=history))
    journal = Journal(workspace.journal)
    assert plan_record.supersede("one", plan.trials[:2], journal, history) == 2
    assert states(study, workspace) == {"new": 2, "stale": 4}


def test_other_words_of_a_command_make_stale_and_are_named(tmp_path, workspace):
    folder = tmp_path / "p"
    trainer(folder, "train.py", 1)
    go(command(folder, "one"), workspace)
    other = command(folder, "one", options="--verbose")
    assert {(t.state, t.why) for t in planned(other, workspace).trials} == {
        ("stale", "command: +--verbose")
    }
    go(other, workspace, accept_stale=True)
    assert difference(other, workspace) == 1.0


def test_a_renamed_program_is_looked_for_among_what_the_study_planned(tmp_path, workspace):
    folder = tmp_path / "p"
    trainer(folder, "train.py", 1)
    go(command(folder, "one"), workspace)
    (folder / "train.py").rename(folder / "distil.py")
    plan = planned(command(folder, "one", "distil.py"), workspace)
    assert {(t.state, t.why) for t in plan.trials} == {
        ("stale", "subject was command python train.py")
    }
    trainer(folder, "distil.py", 1)
    assert states(command(folder, "another", "distil.py"), workspace) == {"new": 6}


def test_changed_data_of_a_command_are_named(tmp_path, workspace):
    folder = tmp_path / "p"
    trainer(folder, "train.py", 1)
    (folder / "prompts.txt").write_text("one\n")
    study = command(folder, "one", data="prompts.txt")
    go(study, workspace)
    (folder / "prompts.txt").write_text("two\n")
    found = {t.why.partition(" since")[0] for t in planned(study, workspace).trials}
    assert found == {"data changed (prompts.txt)"}
    other = command(folder, "other", data="prompts.txt")
    assert states(other, workspace) == {"new": 6}


def test_the_workspace_says_once_what_a_trial_is(module, workspace):
    """The resolved recipe stands in the journals once a trial, however often they run."""
    for study in module(1, "one", "two"):
        go(study, workspace)
    module(3)
    go(module(3, "one")[0], workspace, rerun_stale=True)
    lines = [x for f in workspace.journal.glob("*.jsonl") for x in f.read_text().split("\n")]
    assert sum('"recipe":{"x":' in line and '"type":"planned"' not in line for line in lines) == 6
    history = History.read([workspace.journal])
    assert history.warnings == []
    assert {t.recipe["x"] for p in history.planned["one"] for t in p.trials} == {1.0, 2.0}


def test_a_journal_without_the_description_of_its_trials_says_so(module, workspace):
    go(module(1, "one")[0], workspace)
    (file,) = workspace.journal.glob("*.jsonl")
    kept = [x for x in file.read_text().split("\n") if not x.startswith('{"type":"trial"')]
    file.write_text("\n".join(kept))
    shutil.rmtree(workspace.root / "trials")
    warnings = History.read([workspace.journal]).warnings
    assert sum("no line describes 6 of the trials it plans" in w for w in warnings) == 1
    assert sum("no line describes its trial" in w for w in warnings) == 6


def test_one_damaged_line_forgets_neither_the_plan_nor_the_other_trials(module, workspace):
    (study,) = module(1, "one")
    go(study, workspace)
    (file,) = workspace.journal.glob("*.jsonl")
    lines = file.read_text().split("\n")
    file.write_text("\n".join([lines[0][:40], *lines[1:]]))
    history = OpenedStudy(study, workspace).history
    assert len(history.warnings) == 1, "the line; what it said stands beside the attempts"
    assert states(study, workspace) == {"reuse": 6}
    shutil.rmtree(workspace.root / "trials")
    history = OpenedStudy(study, workspace).history
    assert len(history.warnings) == 3, "the line, the plan without that trial, its attempt"
    assert states(study, workspace) == {"new": 1, "reuse": 5}
    go(study, workspace)
    assert difference(study, workspace) == 1.0


@pytest.mark.parametrize("first", [True, False])
def test_of_two_lines_that_describe_one_trial_the_one_counts_that_its_key_is_of(
    first, module, workspace
):
    (study,) = module(1, "one")
    go(study, workspace)
    (file,) = workspace.journal.glob("*.jsonl")
    lines = file.read_text().split("\n")
    told = next(json.loads(line) for line in lines if line.startswith('{"type":"trial"'))
    told["is"]["recipe"] = {"x": 9.0}
    other = f"{'0' if first else '9'}-of-somebody.jsonl"
    (workspace.journal / other).write_text(json.dumps(told) + "\n")
    history = OpenedStudy(study, workspace).history
    (warning,) = history.warnings
    assert f"describes trial {told['key']}" in warning
    opened = [a.opened.trial for t in history.trials.values() for a in t.ordered]
    listed = [t for p in history.planned["one"] for t in p.trials]
    assert {t.recipe["x"] for t in opened + listed} == {1.0, 2.0}
    assert states(study, workspace) == {"reuse": 6}


def test_a_shared_journal_brings_results_and_their_codes(module, workspace, tmp_path):
    """Copying the journals of the one workspace into another is how histories are shared."""
    one, two = module(1, "one", "two")
    go(one, workspace)
    other = Workspace(tmp_path / "other")
    shutil.copytree(workspace.journal, other.journal)
    module(3)
    go(two, other)
    assert (difference(one, other), difference(two, other)) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["python", "train.py", "--x"], ["python", "train.py"]),
        (["/lab/env/bin/python3.11", "-u", "./train.py"], ["python", "train.py"]),
        (["python", "-m", "lab.train", "--lr", "1"], ["python", "-m", "lab.train"]),
        (
            ["torchrun", "--nproc_per_node={gpus}", "train.py", "-", "a=b.py"],
            ["torchrun", "train.py"],
        ),
        (["torchrun", "--nproc_per_node", "8", "tools/train.py"], ["torchrun", "tools/train.py"]),
        (["accelerate", "launch", "-m", "lab.train"], ["accelerate", "-m", "lab.train"]),
        (["bash", "run.sh", "{attempt}"], ["bash", "run.sh"]),
        (["./bin/distil", "{attempt}"], ["distil"]),
        (["python", "/lab/t/train.py"], ["python", "train.py"]),
        (["python", "/home/ada/tools/train.py"], ["python", "train.py"]),
        (["uv", "run", "{recipe.file}.py", "../lib/go.py"], ["uv", "../lib/go.py"]),
    ],
)
def test_what_a_command_is_called(words, program):
    assert program_of(words, "/lab/t") == program


def test_a_name_takes_the_place_of_the_program():
    told = {"command": "python a.py", "code": ["a.py"], "metrics": {"m": {"headline": True}}}
    assert identity_of(CommandSettings.model_validate(told)) == "command python a.py"
    named = CommandSettings.model_validate({**told, "name": "my trainer"})
    assert identity_of(named) == "command my trainer"


def test_changed_words():
    one = ["python", "a.py", "--lr", "1e-4", "-v"]
    assert changed_words(one, ["python", "-u", "a.py", "--lr", "1e-3"]) == "+-u, 1e-4 -v -> 1e-3"
    assert changed_words(one, one) == ""


def test_time_spent_counts_what_was_superseded_and_not_what_others_ran(module, workspace):
    from harness.analysis.observed import spent

    one, two = module(1, "one", "two")
    go(one, workspace)
    module(3)
    go(two, workspace)
    go(one, workspace)
    history = OpenedStudy(one, workspace).history
    plan = make_plan(OpenedStudy(one, workspace, history=history))
    assert spent(plan, as_read_by(plan, history)).attempts == 12
    module(5)
    go(two, workspace, rerun_stale=True)
    module(3)
    history = OpenedStudy(one, workspace).history
    plan = make_plan(OpenedStudy(one, workspace, history=history))
    found = spent(plan, as_read_by(plan, history))
    assert (found.attempts, found.attempts_failed) == (12, 6)


def test_the_study_that_is_named_is_reproduced_where_two_lie_in_one_folder(module, workspace):
    from harness.reproduce import recorded

    one, two = module(1, "one", "two")
    go(one, workspace)
    module(3)
    go(two, workspace)
    for study, slope in ((one, 1.0), (two, 3.0)):
        found = recorded.find(planned(study, workspace).trials[0].trial.key, workspace, study.file)
        assert (found.planned.study, found.others) == (
            study.name,
            [other.name for other in (one, two) if other is not study],
        )
        (value,) = found.values()
        assert value.metrics["score"] == slope * found.trial.recipe["x"]


def test_show_says_which_study_made_each_of_the_results_of_a_key(module, workspace, capsys):
    from harness.commands import show

    one, two = module(1, "one", "two")
    go(one, workspace)
    module(3)
    go(two, workspace)
    key = planned(one, workspace).trials[0].trial.key
    show.command(key, workspace=workspace.root)
    assert capsys.readouterr().out.count("  for study one\n") == 1
    show.command(key, workspace=workspace.root, as_json=True)
    attempts = json.loads(capsys.readouterr().out)["attempts"]
    assert [attempt["study"] for attempt in attempts] == ["one", "two"]


@pytest.mark.parametrize(
    "said",
    [
        '{"factors":{},"contrasts":[{"id":[[]]}],"alpha":"x","replicates":[]}',
        '{"contrasts":7}',
        '{"reruns":1e400}',
        '{"set":1e99}',
    ],
)
def test_a_plan_whose_record_says_what_no_study_can(said, module, workspace):
    (study,) = module(1, "one")
    go(study, workspace)
    (file,) = workspace.journal.glob("*.jsonl")
    lines = file.read_text().split("\n")
    place = next(i for i, line in enumerate(lines) if line.startswith('{"type":"planned"'))
    told = json.loads(lines[place])
    told["study_json"] = "SAID"
    told["frozen"]["study_json"] = "SAID"
    lines[place] = json.dumps(told).replace('"SAID"', said)
    file.write_text("\n".join(lines))
    assert states(study, workspace) == {"reuse": 6}


def test_a_record_of_no_date_is_refused(module, workspace):
    """It would count as the latest plan for good, and no date can be told of it."""
    (study,) = module(1, "one")
    go(study, workspace)
    (file,) = workspace.journal.glob("*.jsonl")
    line = next(x for x in file.read_text().split("\n") if x.startswith('{"type":"planned"'))
    (workspace.journal / "z.jsonl").write_text(json.dumps(json.loads(line) | {"at": 1e308}) + "\n")
    history = OpenedStudy(study, workspace).history
    assert len(history.planned["one"]) == 1
    assert len(history.warnings) == 1


def test_a_record_with_half_a_letter_is_refused(module, workspace):
    """No report, and no other record, could be written with it."""
    (study,) = module(1, "one")
    go(study, workspace)
    (file,) = workspace.journal.glob("*.jsonl")
    line = next(x for x in file.read_text().split("\n") if x.startswith('{"type":"opened"'))
    told = json.loads(line)
    (workspace.journal / "z.jsonl").write_text(
        json.dumps(told | {"nonce": "ab", "device": "\ud83d\ude00"})  # a whole one
        + "\n"
        + json.dumps(told | {"nonce": "cd", "device": "\ud800"})
        + "\n"
    )
    history = OpenedStudy(study, workspace).history
    assert len(history.trials[told["key"]].attempts) == 2
    (warning,) = history.warnings
    assert "half of a surrogate pair" in warning
