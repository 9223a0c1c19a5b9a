"""What earlier versions recorded is read by today's code: keys, plan, answer, reproduction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness import cli
from harness.commands.opening import answered
from harness.journal.history import History
from harness.journal.trial import canonical, identity, key_of
from harness.planning.amendments import frozen_of
from tests.compat.record import RECORDS, WORKSPACE

VERSIONS = sorted(f.parent.name for f in RECORDS.glob("*/study.yaml"))
JOURNALS = sorted(f.parent for f in RECORDS.rglob("*.jsonl") if f.name != "reports.jsonl")


@pytest.fixture(params=VERSIONS)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what one version left, as if it were moved to another machine."""
    return Path(shutil.copytree(RECORDS / request.param, tmp_path / "project"))


def stillhouse(project: Path, *words: str) -> Result:
    cli._register()
    found = CliRunner().invoke(cli.app, [*words, "--workspace", str(project / WORKSPACE)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def recorded(project: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((project / "results" / "answer.json").read_text())
    return made


def history(folder: Path) -> History:
    found = History.read([folder])
    assert found.trials
    assert found.warnings == []
    return found


def test_there_is_something_to_read():
    assert VERSIONS
    assert RECORDS / "first-export" in JOURNALS


@pytest.mark.parametrize("folder", JOURNALS, ids=lambda f: str(f.relative_to(RECORDS)))
def test_keys_come_out_of_what_they_are_the_hash_of(folder: Path):
    for key, known in history(folder).trials.items():
        for attempt in known.ordered:
            trial = attempt.opened.trial
            parts = trial.recipe, trial.replicate, trial.data, trial.kind, trial.rerun
            again = key_of(*parts, subject=trial.subject)
            assert key == trial.key == again


def test_identities_beside_trials_are_those_of_today(project: Path):
    files = list(project.glob(f"{WORKSPACE}/trials/*/trial.json"))
    assert len(files) == 12
    for file in files:
        kept = json.loads(file.read_text())
        one = identity(kept["recipe"], kept["replicate"], kept["data"], kept["kind"],
                       kept.get("rerun", 0), subject=kept.get("subject", ""))  # fmt: skip
        assert canonical(one) == canonical({name: kept[name] for name in one})
        assert kept["key"] == file.parent.name


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A study of somebody's trainer, from when the words of a command were in the key as data."""
    return Path(shutil.copytree(RECORDS / "commands" / "0.2.0", tmp_path / "project"))


def states(project: Path) -> set[tuple[str, str]]:
    planned = json.loads(stillhouse(project, "plan", str(project / "study.yaml"), "--json").stdout)
    assert planned["orphans"] == []
    return {(t["state"], t["why"]) for t in planned["trials"]}


def test_trials_of_commands_are_found_by_their_old_keys(command: Path):
    assert states(command) == {("reuse", "")}
    said = stillhouse(command, "report", str(command / "study.yaml"))
    assert said.exit_code == 0
    assert "Complete, 4 of 4" in said.stdout
    assert "not comparable" not in said.stdout
    assert "other code" not in said.stdout


@pytest.mark.parametrize(
    ("file", "before", "now", "why"),
    [
        ("train.py", "0.01", "0.02", "train.py"),
        ("prompts.txt", "a prompt", "another", "data changed"),
        ("study.yaml", "{recipe.x}", "{recipe.x} -v", "command: +-v"),
    ],
)
def test_what_changed_of_a_command_since_is_named(command: Path, file, before, now, why):
    text = (command / file).read_text()
    assert before in text
    (command / file).write_text(text.replace(before, now))
    assert states(command) == {("stale", why)}


def test_another_program_is_not_an_old_commands(command: Path):
    (command / "train.py").rename(command / "other.py")
    text = (command / "study.yaml").read_text()
    (command / "study.yaml").write_text(text.replace("train.py", "other.py"))
    assert states(command) == {("stale", "subject was command python train.py")}


def test_an_old_command_goes_on_with_new_keys(command: Path):
    """More replicates are run under keys of today; the answer holds both."""
    text = (command / "study.yaml").read_text()
    (command / "study.yaml").write_text(text.replace("replicates: 2", "replicates: 3"))
    study = str(command / "study.yaml")
    assert stillhouse(command, "run", study, "--inline", "--no-mlflow").exit_code == 0
    answer = stillhouse(command, "report", study)
    assert "Complete, 6 of 6" in answer.stdout
    assert "code differs" not in answer.stdout
    keys = {t["key"] for t in planned_trials(command)}
    assert sorted(key[0] == "k" for key in keys) == [False] * 5 + [True] * 2


def test_old_results_that_changed_code_replaces_are_no_orphans(command: Path):
    text = (command / "train.py").read_text()
    (command / "train.py").write_text(text.replace("0.01", "0.02"))
    study = str(command / "study.yaml")
    said = stillhouse(command, "run", study, "--inline", "--no-mlflow", "--rerun-stale")
    assert said.exit_code == 0
    assert states(command) == {("reuse", "")}
    assert {t["key"][0] for t in planned_trials(command)} == {"k"}


@pytest.mark.parametrize("project", ["0.2.0"], indirect=True)
def test_code_that_nothing_compares_is_told_beside_the_verdict(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    subject = "harness.testing.stub_measured.earlier_fingerprints"
    monkeypatch.setattr(subject, lambda recipe, protocol: None, raising=False)
    assert {state for state, _ in states(project)} == {"reuse"}
    said = stillhouse(project, "report", str(project / "study.yaml"))
    assert "code not comparable: 6 of 6 results are records of an earlier version" in said.stdout


def planned_trials(project: Path) -> list[dict[str, Any]]:
    said = stillhouse(project, "plan", str(project / "study.yaml"), "--json").stdout
    listed: list[dict[str, Any]] = json.loads(said)["trials"]
    return listed


def test_the_first_export_ever_made():
    """No plan of it carries what the first run froze, no closing the GPUs, no opening a host."""
    found = history(RECORDS / "first-export")
    frozen = frozen_of(found, "teacher-guidance")
    planned = found.latest_plan("teacher-guidance")
    assert frozen is not None
    assert planned is not None
    assert planned.frozen is None
    assert frozen.study_json["name"] == "teacher-guidance"
    assert frozen.at == planned.at
    assert set(frozen.arms) == {"base", "specialist"}
    base = [t for t in planned.trials if t.arm == "base"]
    for trial in base:
        known = found.trials[trial.key]
        assert known.state == "done"
        attempt = known.complete
        assert attempt is not None
        measured = known.measured(attempt.opened.protocol)
        assert [m.step for m in measured] == [20, 40, 60]
        assert measured[-1].metrics["edit/fidelity"] is not None
    listings = {json.dumps(a.opened.code_files) for t in found.trials.values() for a in t.ordered}
    assert len(listings) == 1, "the listing that is written once holds for all of its digest"


def test_every_kind_of_record_counts_as_it_did(project: Path):
    found = history(project / WORKSPACE / "journal")
    assert {len(records) for records in found.planned.values()} == {1, 2}
    attempts = [a for known in found.trials.values() for a in known.ordered]
    ends = {a.closed.state for a in attempts if a.closed}
    assert ends == {"done", "diverged", "killed"}
    assert {a.opened.mode for a in attempts} == {"train", "measure"}
    assert {a.opened.resumed_from for a in attempts} == {None, 1}
    superseded = [
        known for known in found.trials.values() if known.superseded_to or known.superseded
    ]
    assert len(superseded) == 6
    assert {known.ordered[0].opened.code for known in superseded} == {"older"}
    assert all(known.complete and known.complete.opened.code != "older" for known in superseded)


@pytest.mark.parametrize(
    ("study", "records"),
    [("study.yaml", WORKSPACE), ("study.yaml", "results"), ("shared.yaml", WORKSPACE)],
)
def test_plan_finds_nothing_to_run(project: Path, study: str, records: str):
    other = {WORKSPACE: "results", "results": WORKSPACE}[records]
    shutil.rmtree(project / other)
    planned = json.loads(stillhouse(project, "plan", str(project / study), "--json").stdout)
    assert {t["state"] for t in planned["trials"]} == {"reuse"}
    assert len(planned["trials"]) == {"study.yaml": 12, "shared.yaml": 8}[study]
    assert planned["orphans"] == []


def test_the_answer_is_what_it_was(project: Path):
    """Its numbers; verdicts and intervals only where they are by the same rules."""
    told = recorded(project)
    then = {v["id"]: v for v in told["verdicts"]}
    now = answered(project / "study.yaml", project / WORKSPACE).answer
    assert {v.id for v in now.verdicts} == set(then)
    for verdict in now.verdicts:
        old = then[verdict.id]
        assert (verdict.n, verdict.planned) == (old["n"], old["planned"])
        same = told.get("rules", 1) == now.rules
        assert not same or verdict.verdict == old["verdict"]
        for name in ("difference", "lo", "hi", "p") if same else ("difference",):
            assert getattr(verdict, name) == pytest.approx(old[name], rel=1e-9), name
    assert not next(v for v in now.verdicts if v.id == "H1").planned, "its margin was changed"


def test_the_report_is_made_and_status_counts(project: Path):
    assert stillhouse(project, "report", str(project / "study.yaml")).exit_code == 0
    page = (project / WORKSPACE / "studies" / "recorded" / "report.html").read_text()
    assert "Is what was recorded still read?" in page
    stood = json.loads(stillhouse(project, "status", str(project / "study.yaml"), "--json").stdout)
    assert stood["studies"][0]["counts"] == {"done": 11, "diverged": 1}


@pytest.mark.parametrize("level", ["record", "tables", "train"])
def test_a_recorded_trial_is_reproduced(project: Path, level: str):
    found = history(project / WORKSPACE / "journal")
    resumed = {
        key: known
        for key, known in found.trials.items()
        if known.state == "done" and known.ordered[-1].opened.resumed_from
    }
    key = min(resumed)  # of those that no other protocol measured since
    done = stillhouse(project, "reproduce", key, "--level", level, "--json")
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 0, told
    assert told["decision"] == ("as recorded" if level == "record" else "bit-equal"), told


@pytest.mark.parametrize("project", ["0.3.0"], indirect=True)
def test_verdicts_by_earlier_rules_are_not_compared_and_that_is_said(project: Path):
    key = next(k for k, known in history(project / "results").trials.items() if known.complete)
    words = ("--level", "tables", "--study", str(project / "study.yaml"), "--json")
    told = json.loads(stillhouse(project, "reproduce", key, *words).stdout.splitlines()[-1])
    assert "verdicts were made by earlier rules" in told["reason"], told
    assert told["verdict_changed"] is False
    assert told["decision"] in ("bit-equal", "same digits"), told
