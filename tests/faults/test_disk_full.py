"""The disk is full: of the workspace, or of MLflow's artifacts, or nearly so. On a small tmpfs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.faults.aftermath import Undisturbed, assert_clean
from tests.faults.stage import Stage

MIB = 2**20


@contextmanager
def mounted(folder: Path, mib: int) -> Iterator[Path]:
    """A tmpfs of so many MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the disk up to its last byte, or leave some; the file to delete."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as handle, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(folder).free) > leave:
            handle.write(b"x" * min(MIB, free - leave))
    assert shutil.disk_usage(folder).free <= leave
    return file


@contextmanager
def kept_full(folder: Path) -> Iterator[None]:
    """Fill the disk and take what others give back, as when a database gives up a transaction."""
    file = fill(folder)
    over = Event()

    def take() -> None:
        while not over.wait(0.002):
            with file.open("ab", buffering=0) as handle, contextlib.suppress(OSError):
                while free := shutil.disk_usage(folder).free:
                    handle.write(b"x" * min(MIB, free))

    taking = Thread(target=take)
    taking.start()
    try:
        yield
    finally:
        over.set()
        taking.join()
        file.unlink()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose workspace has a disk of 96 MiB."""
    with mounted(tmp_path / "disk", 96) as disk:
        made = Stage(tmp_path / "project", workspace=disk / "w")
        yield made
        made.close()


def uri(stage: Stage) -> str:
    return f"sqlite:///{stage.workspace.database}"


@pytest.mark.parametrize(
    "options",
    [("--inline",), pytest.param(("--parallel", "2"), marks=pytest.mark.slow)],
    ids=["inline", "ray"],
)
def test_a_full_disk_ends_the_run_and_nothing_is_lost(
    small: Stage, expected: Undisturbed, options: tuple[str, ...]
) -> None:
    small.disturb(seconds=0.2)
    process = small.start(*options)
    small.await_reports(process, 24)
    with contextlib.ExitStack() as disk:
        with small.held_at_checkpoint(process):
            disk.enter_context(kept_full(small.workspace.root.parent))
        output = small.finish(process)
    assert process.returncode == 2, output
    assert "run the same command again" in output
    assert "Traceback" not in output
    counts = small.counts()
    assert set(counts) <= {"done", "pending", "interrupted", "failed", "killed"}
    assert counts.get("done", 0) < 4
    small.disturb()
    small.completes(*options)
    assert any(a.opened.resumed_from for t in small.trials() for a in t.ordered)
    assert_clean(small.workspace, expected, uri=uri(small))


def test_on_a_nearly_full_disk_no_trial_starts_and_those_under_way_end(
    small: Stage, expected: Undisturbed
) -> None:
    small.disturb(seconds=0.2)
    process = small.start("--inline")
    small.await_reports(process, 3)
    with small.held_at_checkpoint(process):
        filler = fill(small.workspace.root.parent, leave=16 * MIB)
    output = small.finish(process)
    assert process.returncode == 2, output
    assert "MiB free" in output
    assert small.counts() == {"done": 1, "pending": 3}
    filler.unlink()
    small.disturb()
    small.completes("--inline")
    assert small.attempts() == [1, 1, 1, 1]
    assert_clean(small.workspace, expected, uri=uri(small))


def test_full_artifacts_cost_mlflow_only_and_sync_brings_them(
    stage: Stage, expected: Undisturbed
) -> None:
    with mounted(stage.workspace.artifacts, 1) as artifacts:
        filler = fill(artifacts)
        output = stage.completes("--inline")
        assert "No space left on device" in output
        assert "stillhouse sync demo" in output
        assert_clean(stage.workspace, expected)
        filler.unlink()
        assert stage.sync().returncode == 0
        assert_clean(stage.workspace, expected, uri=uri(stage))


@pytest.mark.parametrize("what", ["journal", "trials"])
def test_a_folder_that_becomes_read_only_is_told_as_such(
    stage: Stage, expected: Undisturbed, what: str
) -> None:
    """As a network disk that is remounted read-only after an error."""
    folder = stage.workspace.root / what
    with mounted(folder, 8):
        undo = remount(folder, "ro")
        found = stage.ran("--inline", "--no-mlflow")
        assert found.returncode == 2, found.stdout + found.stderr
        assert "Read-only file system" in found.stderr
        assert "Traceback" not in found.stderr
        undo()
        stage.completes("--inline", "--no-mlflow")
        assert_clean(stage.workspace, expected)


def remount(folder: Path, mode: str) -> Callable[[], object]:
    """Remount a tmpfs; how to undo it."""
    command = ["mount", "-o", f"remount,{mode}", str(folder)]
    subprocess.run(command, check=True)
    return lambda: subprocess.run([*command[:2], "remount,rw", str(folder)], check=True)
