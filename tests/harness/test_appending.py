"""A line is written whole or not at all, really limited by the system."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import WorkspaceError
from harness.executors.trial_log import LogStream
from harness.journal.history import History
from harness.journal.records import Planned, Superseded
from harness.journal.writer import Journal, append_line


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes (EFBIG, as ENOSPC on a full disk)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("sync", [False, True])
def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, sync: bool) -> None:
    file = tmp_path / "lines"
    append_line(file, "a" * 60, sync=sync)
    with files_of_at_most(100), pytest.raises(OSError, match="too large"):
        append_line(file, "b" * 60, sync=sync)  # 39 bytes of it did fit
    append_line(file, "c" * 60, sync=sync)
    assert file.read_text().splitlines() == ["a" * 60, "c" * 60]


def test_the_journal_says_what_to_do_and_goes_on_afterwards(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first, lost, last = (Superseded(at=float(n), key=f"k{n}", attempt=n) for n in (1, 2, 3))
    journal.append(first)
    size = journal.file.stat().st_size
    with (
        files_of_at_most(size + 20),
        pytest.raises(WorkspaceError, match="run the same command again"),
    ):
        journal.append(lost)
    journal.append(last)
    history = History.read([tmp_path])
    assert history.warnings == []
    assert {k: t.superseded_to for k, t in history.trials.items()} == {"k1": 1, "k3": 3}


def test_a_log_on_a_full_disk_loses_its_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with LogStream(log) as stream:
        stream.write("before\n")
        with files_of_at_most(log.stat().st_size):
            print("lost", file=stream)
        print("after", file=stream)
    assert log.read_text() == "before\nafter\n"
    with LogStream(tmp_path / "log.txt" / "no" / "folder") as stream:
        print("nowhere", file=stream)


def test_a_plan_made_after_the_clock_was_set_back_is_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History()
    for day, digest in ((3, "old"), (1, "new")):
        monkeypatch.setattr("harness.journal.history.time.time", lambda day=day: day * 86400.0)
        at = history.now("demo")
        history.add(Planned(at=at, study="demo", digest=digest, study_json={}, trials=[]))
    latest = history.latest_plan("demo")
    assert latest is not None
    assert latest.digest == "new"
    assert history.latest_plan("other") is None
