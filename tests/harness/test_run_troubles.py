"""`run` when a tracker, the report or the disk fails: nothing recorded is lost."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from harness.errors import WorkspaceError
from harness.journal.workspace import Workspace
from harness.journal.writer import Journal
from tests.harness.run_place import Place, Spy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("moment", ["start", "opened", "report", "closed", "answer", "close"])
def test_a_broken_tracker_loses_nothing(place: Place, moment: str):
    result = place.run(place.study(), tracker=Spy(breaks=moment))
    assert result.exit_code == 0
    assert {t.state for t in place.trials()} == {"done"}
    assert "the server is gone" in " ".join(result.warnings)
    assert "stillhouse sync" in " ".join(result.warnings)


def test_a_tracker_that_cannot_be_made_loses_nothing(place: Place):
    def make() -> Spy:
        raise OSError("no such address")

    result = place.run(place.study(), tracker=make)
    assert result.exit_code == 0
    assert "no such address" in result.warnings[0]


def test_a_report_that_cannot_be_made_is_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("harness.report.page.write_report", lambda *given: 1 / 0)
    spy = Spy()
    result = place.run(place.study(), tracker=spy)
    assert result.exit_code == 0
    assert result.report is None
    assert "ZeroDivisionError" in result.warnings[0]
    assert "stillhouse report" in result.warnings[0]
    assert {t.state for t in place.trials()} == {"done"}


def test_a_workspace_that_cannot_be_written_is_refused_before_anything(place: Place):
    (place.folder / "file").write_text("in the way")
    place.workspace = Workspace(place.folder / "file" / "w")
    spy = Spy()
    with pytest.raises(WorkspaceError, match="cannot be written"):
        place.run(place.study(), tracker=spy)
    assert spy.calls == []


def test_a_full_workspace_is_refused_before_anything(place: Place, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 0))
    with pytest.raises(WorkspaceError, match="0 MiB free"):
        place.run(place.study())
    assert not list(place.workspace.journal.glob("*"))


def test_a_journal_that_cannot_be_written_any_more_ends_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    """The disk fills up in the middle: no result is claimed that is not recorded."""
    original = Journal.append
    written: list[str] = []

    def append(self, record) -> None:
        if written.count("closed") == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(record.type)
        original(self, record)

    monkeypatch.setattr(Journal, "append", append)
    spy = Spy()
    with pytest.raises(WorkspaceError, match="No space left on device"):
        place.run(place.study(), tracker=spy)
    assert spy.calls[-1] == "close"
    assert sorted(t.state for t in place.trials()) == ["done", "done"]
    monkeypatch.undo()
    assert place.run(place.study()).exit_code == 0
    assert {t.state for t in place.trials()} == {"done"}
