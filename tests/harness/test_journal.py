import json
import os
from pathlib import Path

import pytest

from harness.contract import Artifact
from harness.journal.history import History, TrialHistory
from harness.journal.records import Closed, MeasuredAt, Opened, Planned, Superseded
from harness.journal.trial import Trial, key_of
from harness.journal.writer import Journal
from harness.testing import stub

RECIPE = stub.Recipe().model_dump()
KEY = key_of(RECIPE, 0, "d", subject="s")
TRIAL = Trial(key=KEY, arm="a", replicate=0, recipe=RECIPE, data="d", subject="s")


def opened(number: int = 1, nonce: str = "n", protocol: str = "p", mode: str = "train") -> Opened:
    return Opened(
        at=float(number), key=TRIAL.key, attempt=number, nonce=nonce, study="s", mode=mode,
        trial=TRIAL, protocol=protocol, code="c",
    )  # fmt: skip


def closed(
    number: int = 1, state: str = "done", nonce: str = "n", **metrics: float | None
) -> Closed:
    measured = [MeasuredAt(step=3, metrics=metrics)] if metrics else []
    return Closed(
        at=number + 0.5, key=TRIAL.key, attempt=number, nonce=nonce, state=state, seconds=2.0,
        measurements=measured,
    )  # fmt: skip


def merged(*records) -> TrialHistory:
    history = History()
    for record in records:
        history.add(record)
    return history.trials[TRIAL.key]


def test_records_come_back(tmp_path: Path):
    journal = Journal(tmp_path)
    assert not journal.file.exists()
    planned = Planned(at=1.0, study="s", digest="d", study_json={"x": 1e-4}, trials=[TRIAL])
    for record in (planned, opened(), closed(score=1.5), Superseded(at=9.0, key="k", attempt=1)):
        journal.append(record)
    history = History.read([tmp_path, tmp_path / "missing"])
    assert history.planned["s"] == [planned]
    assert history.trials[TRIAL.key].complete is not None
    assert history.trials[TRIAL.key].measured("p")[0].metrics == {"score": 1.5}
    assert history.warnings == []


def test_a_listing_of_code_is_written_once_and_read_for_all(tmp_path: Path):
    journal, other = Journal(tmp_path), Journal(tmp_path)
    listing = {"a.py#f": "1-2", "b.py": "3"}
    for number in (1, 2, 3):
        record = opened(number).model_copy(update={"code_files": listing})
        (other if number == 3 else journal).append(record)
    lines = [json.loads(line) for line in journal.file.read_text().splitlines()]
    assert [line["code_files"] for line in lines if line["type"] == "opened"] == [listing, {}]
    assert json.loads(other.file.read_text().split("\n")[1])["code_files"] == listing
    attempts = History.read([tmp_path]).trials[TRIAL.key].ordered
    assert [a.opened.code_files for a in attempts] == [listing] * 3


def test_a_glance_sees_how_things_stand_and_no_numbers(tmp_path: Path):
    journal = Journal(tmp_path)
    panel = Artifact(kind="panel", path="a.png", step=3)
    ended = closed(score=1.5).model_copy(update={"artifacts": [panel], "reason": "why"})
    for record in (opened(), ended, opened(2), closed(2, "failed")):
        journal.append(record)
    whole, glance = History.read([tmp_path]), History.read([tmp_path], numbers=False)
    assert glance.warnings == []
    one, other = whole.trials[TRIAL.key], glance.trials[TRIAL.key]
    assert (other.state, other.seconds()) == (one.state, one.seconds()) == ("failed", 4.0)
    first = other.ordered[0].closed
    assert first is not None
    assert (first.reason, first.measurements, first.artifacts) == ("why", [], [])
    assert len(one.ordered[0].closed.measurements) == 1


def test_files_of_several_drivers_merge_in_any_order(tmp_path: Path):
    first, second = Journal(tmp_path), Journal(tmp_path)
    assert first.file != second.file
    second.append(opened(2, "m"))
    first.append(opened())
    first.append(closed(state="killed"))
    second.append(closed(2, "done", "m", score=2.0))
    trial = History.read([tmp_path]).trials[TRIAL.key]
    assert [a.opened.attempt for a in trial.ordered] == [1, 2]
    assert trial.state == "done"
    assert trial.seconds() == 4.0


def test_an_ending_read_before_its_beginning_counts(tmp_path: Path):
    """The driver that closes an interrupted attempt is not the one that opened it."""
    (tmp_path / "a.jsonl").write_text(closed(state="killed").model_dump_json() + "\n")
    (tmp_path / "b.jsonl").write_text(opened().model_dump_json() + "\n")
    assert History.read([tmp_path]).trials[TRIAL.key].state == "killed"


def test_a_torn_last_line_is_a_crash_others_are_told(tmp_path: Path):
    good = opened().model_dump_json()
    (tmp_path / "a.jsonl").write_text(f"{good}\n" + closed().model_dump_json()[:40])
    history = History.read([tmp_path])
    assert history.trials[TRIAL.key].state == "running"
    assert history.warnings == []
    (tmp_path / "b.jsonl").write_text(f'{{"type": "later"}}\n{good}\n')
    warnings = History.read([tmp_path]).warnings
    assert len(warnings) == 1
    assert "b.jsonl:1" in warnings[0]


def test_fields_of_later_versions_are_ignored(tmp_path: Path):
    content = {**json.loads(opened().model_dump_json()), "invented_later": 1}
    (tmp_path / "a.jsonl").write_text(json.dumps(content) + "\n\n")
    assert History.read([tmp_path]).trials[TRIAL.key].state == "running"


@pytest.mark.parametrize(
    ("records", "state", "complete"),
    [
        ([opened()], "running", None),
        ([opened(), closed(state="failed")], "failed", None),
        ([opened(), closed(state="diverged")], "diverged", 1),
        ([opened(), closed(), opened(2, "m")], "running", None),
        ([opened(), closed(), opened(2, "m"), closed(1, "failed")], "running", None),
        ([opened(), closed(), Superseded(at=3.0, key=TRIAL.key, attempt=1)], "pending", None),
        (
            [opened(), closed(), Superseded(at=3.0, key=TRIAL.key, attempt=1), opened(2, "m"),
             closed(2, "done", "m")],
            "done",
            2,
        ),
        ([opened(), closed(), opened(2, "m", "q", "measure")], "done", 1),
    ],
)  # fmt: skip
def test_state_is_that_of_the_latest_attempt(records, state: str, complete: int | None):
    trial = merged(*records)
    assert trial.state == state
    assert (trial.complete.opened.attempt if trial.complete else None) == complete


def test_an_ending_of_another_nonce_never_counts():
    assert merged(opened(), closed(nonce="zombie")).state == "running"


def test_measurements_are_of_one_protocol_and_the_latest_student():
    trial = merged(
        opened(),
        closed(score=1.0),
        opened(2, "m", "q", "measure"),
        closed(2, "done", "m", score=2.0),
    )
    assert trial.measured("p")[0].metrics == {"score": 1.0}
    assert trial.measured("q")[0].metrics == {"score": 2.0}
    assert trial.measured("r") == []


def test_line_separators_inside_strings_are_kept(tmp_path: Path):
    reason = "odd\u2028text\x85of a subject\n"
    journal = Journal(tmp_path)
    journal.append(opened())
    journal.append(closed(state="failed").model_copy(update={"reason": reason}))
    history = History.read([tmp_path])
    assert history.warnings == []
    latest = history.trials[TRIAL.key].latest
    assert latest is not None
    assert latest.closed is not None
    assert latest.closed.reason == reason


def test_find_by_prefix():
    history = History()
    history.add(opened())
    assert history.find(TRIAL.key[:4]) == [TRIAL.key]
    assert history.find("zz") == []


def test_endings_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path)
    journal.append(opened())
    assert synced == []
    journal.append(closed())
    assert len(synced) == 1


def test_of_two_machines_with_the_same_attempt_number_the_complete_one_counts():
    here = (opened(1, "zz"), closed(1, "killed", "zz"))
    there = (opened(1, "aa"), closed(1, "done", "aa", score=1.0))
    assert merged(*here, *there).complete.opened.nonce == "aa"
    assert merged(*there, *here).complete.opened.nonce == "aa"


def test_a_compact_record_never_replaces_the_whole_one():
    files = [Artifact(kind="student", path="student")]
    end = closed().model_copy(update={"artifacts": files})
    whole = (opened().model_copy(update={"host": "h"}), end)
    for records in ((*whole, opened(), closed()), (opened(), closed(), *whole)):
        complete = merged(*records).complete
        assert complete.opened.host == "h"
        assert complete.closed.artifacts == files
