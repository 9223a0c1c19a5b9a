"""How deep a reproduction goes: what each depth says, what it costs, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.reproduce.depths import prices
from harness.reproduce.one_trial import loaded
from harness.reproduce.recorded import find
from tests.harness.reproduce_lab import CLAIM, Lab


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("ladder") / "lab", replicates=3, more=CLAIM)


@pytest.fixture
def lab(ran, tmp_path) -> Lab:
    return ran.copy(tmp_path / "lab")


def test_the_price_of_each_depth_is_printed_before_anything_runs(ran):
    said: list[str] = []
    ran.again("train", echo=said.append)
    first = next(i for i, line in enumerate(said) if line.startswith("ladder"))
    ladder = said[first : first + 4]
    assert [line[11:].split()[0] for line in ladder] == ["record", "tables", "measure", "train"]
    closed = ran.history.trials[ran.key].complete.closed
    price = prices(recorded := find(ran.key, ran.workspace), loaded(recorded)[0])[-1]
    assert price.seconds == closed.seconds
    assert price.gpu_hours == 0.0
    level = next(i for i, line in enumerate(said) if line.startswith("level"))
    assert all(said.index(line) < level for line in ladder)


def test_gpu_hours_are_priced_and_a_missing_gpu_is_no_mere_failure(lab):
    def change(record):
        if record["type"] == "planned":
            record["study_json"]["resources"] = {"gpus": 2.0, "cpus": 1.0}
        if record["type"] == "closed":
            record["seconds"] = 1800.0

    lab.edit_journal(change)
    found = lab.again("train")
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "it takes 2 GPU(s), this machine offers 0" in found.reason
    assert "--level record, --level tables" in found.reason
    recorded = find(lab.key, lab.workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        assert prices(recorded, loaded(recorded)[0])[-1].gpu_hours == 1.0


def test_the_record_alone_is_compared_by_hashes(ran, monkeypatch):
    found = ran.again("record")
    assert (found.decision, found.exit_code, found.folder) == ("as recorded", 0, "")
    monkeypatch.setenv("STUB_CODE", "newer")
    found = ran.again("record")
    assert (found.decision, found.exit_code) == ("not reproduced", 1)
    assert "stub.py (changed)" in found.reason


def test_another_device_or_version_does_not_fail_the_record_but_is_told(lab):
    def change(record):
        if record["type"] == "opened":
            record["device"] = "abacus"

    lab.edit_journal(change)
    found = lab.again("record")
    assert found.decision == "as recorded"
    assert "abacus" in found.reason


def test_tables_are_worked_out_again_from_what_is_stored(ran):
    found = ran.again("tables")
    assert (found.decision, found.exit_code) == ("bit-equal", 0)
    assert "1 numbers of the trial from its stored items" in found.reason
    assert "verdicts and tables" in found.reason
    assert not (ran.workspace.root / "reproductions" / ran.key).exists()


@pytest.mark.parametrize("place", ["verdict", "number", "journal", "items"])
def test_tables_that_do_not_follow_from_the_record_are_found(lab, place):
    results = lab.workspace.study("again") / "results"
    answer = json.loads((results / "answer.json").read_text())
    verdict = answer["verdicts"][0]
    if place == "verdict":
        assert verdict["verdict"] != "harms"
        verdict["verdict"] = "harms"
    elif place == "number":
        verdict["difference"] *= 1.001
    elif place == "items":
        items = next(lab.workspace.trial(lab.key).rglob("items.csv"))
        items.write_text("item,score\n0,3.5\n")
    else:
        journal = results / "journal.jsonl"
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        last = next(r for r in records if r["type"] == "closed" and r["key"] == lab.key)
        last["measurements"][0]["metrics"]["score"] += 1e-6
        journal.write_text("".join(json.dumps(r) + "\n" for r in records))
    (results / "answer.json").write_text(json.dumps(answer))
    found = lab.again("tables")
    assert (found.decision, found.exit_code) == ("not reproduced", 1)


def test_a_last_digit_is_not_another_table(lab):
    file = lab.workspace.study("again") / "results" / "answer.json"
    answer = json.loads(file.read_text())
    answer["verdicts"][0]["difference"] *= 1 + 1e-14
    file.write_text(json.dumps(answer))
    found = lab.again("tables")
    assert (found.decision, found.exit_code) == ("same digits", 0)


def test_tables_need_no_items_but_say_so_and_need_an_answer(lab):
    shutil.rmtree(lab.workspace.root / "trials")
    found = lab.again("tables")
    assert found.decision == "bit-equal"
    assert found.reason.startswith("the study's ")
    assert found.reason.endswith("; not the trial's own: the trial's stored items are not here")
    shutil.rmtree(lab.workspace.study("again") / "results")
    found = lab.again("tables")
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert f"{lab.workspace.study('again') / 'results'} (no answer.json)" in found.reason


def test_an_answer_without_its_journal_is_passed_over(lab):
    """As the quickstart ships one beside its study file: the reader's own is what is compared."""
    own = lab.workspace.study("again") / "results"
    shipped = lab.file.parent / "results"
    shipped.mkdir()
    answer = json.loads((own / "answer.json").read_text())
    answer["verdicts"][0]["difference"] += 1.0  # what came out on another machine
    (shipped / "answer.json").write_text(json.dumps(answer))
    found = lab.again("tables")
    assert found.decision == "bit-equal", found.reason
    assert str(own) in found.reason
    shutil.rmtree(own)
    shutil.rmtree(lab.workspace.root / "trials")
    found = lab.again("tables")
    assert found.decision == "not judged"
    assert f"{shipped} (an answer.json without the journal it rests on)" in found.reason
    assert str(own) in found.reason


def test_tables_of_a_trial_that_another_study_ran(lab):
    """Only the study that shares it has recorded results here."""
    text = lab.file.read_text().replace("name: again", "name: later")
    lab.run_other("later", text)
    shutil.rmtree(lab.workspace.study("again") / "results")
    found = lab.again("tables")
    assert found.decision == "bit-equal", found.reason
    assert str(lab.workspace.study("later") / "results") in found.reason


def test_without_its_subject_only_record_and_tables_are_left(lab):
    def change(record):
        if record["type"] == "planned":
            record["study_json"]["subject"] = "no.such.subject"

    lab.edit_journal(change)
    for depth in ("auto", "train", "measure", "record"):
        found = lab.again(depth)
        assert found.decision == "not judged"
        assert "no.such.subject" in found.reason
