"""Faults really caused, on `stillhouse run` in a process of its own: signals and kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study_processes import StudyProcesses

STUDY = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {{cycles: 6, seconds: {seconds}, fault: '{fault}'}}
factors: {{part.x: [0.0, 1.0]}}
baseline: {{part.x: 0.0}}
replicates: 2
protocol: p
"""
PATIENCE = 240.0
"""Seconds; generous, because Ray starts slowly on a busy machine."""


class Project(StudyProcesses):
    """A study of the stub that fails as often, and takes as long, as a test wants."""

    patience = PATIENCE
    runs = ("--no-mlflow",)

    def __init__(self, folder: Path, fault: str = "", seconds: float = 0.0) -> None:
        super().__init__(folder, STUDY.format(seconds=seconds, fault=fault))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], float | None]:
    """Scores of the same study undisturbed."""
    project = Project(tmp_path_factory.mktemp("undisturbed"))
    assert project.ran("--inline").returncode == 0
    return project.scores()


@pytest.fixture
def disturbed(tmp_path: Path) -> Iterator[Project]:
    """A study slow enough to be disturbed: 0.15 s a step."""
    project = Project(tmp_path / "disturbed", seconds=0.15)
    yield project
    project.end()


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "deadline"),  # the trial had the time to checkpoint
        (signal.SIGUSR1, 138, "deadline"),
    ],
    ids=["ctrl-c", "sigterm", "notice"],
)
def test_a_signal_ends_cleanly_and_the_rerun_completes(
    disturbed: Project, expected, number: signal.Signals, code: int, reason: str
):
    process = disturbed.start("--inline")
    disturbed.await_reports(process, 3)
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    assert "continue with: stillhouse run" in output
    assert disturbed.counts() == {"killed": 1, "pending": 3}
    (trial,) = disturbed.trials()
    assert trial.latest is not None
    assert trial.latest.closed is not None
    assert trial.latest.closed.reason == reason
    assert trial.latest.closed.seconds > 0.3
    again = disturbed.ran("--inline")
    assert again.returncode == 0, again.stdout + again.stderr
    assert disturbed.scores() == expected
    assert sorted(len(t.attempts) for t in disturbed.trials()) == [1, 1, 1, 2]
    resumed = next(t for t in disturbed.trials() if len(t.attempts) == 2)
    assert resumed.ordered[1].opened.resumed_from == 1


def test_a_second_signal_forces_the_end(tmp_path: Path):
    """The subject holds on to the interpreter, so that the first signal cannot end its step."""
    project = Project(tmp_path / "stuck")
    text = project.file.read_text().replace("harness.testing.stub", "stuck_subject")
    project.file.write_text(text)
    (tmp_path / "stuck" / "stuck_subject.py").write_text(STUCK)
    process = project.start("--inline")
    project.await_reports(process, 1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, output
    assert "forced" in output
    assert project.counts() == {"pending": 3, "interrupted": 1}


STUCK = """
import time
from harness.testing.stub import *
from harness.testing.stub import run as _run

def run(recipe, context):
    for report in _run(recipe, context):
        yield report
        until = time.time() + 60
        while time.time() < until:
            try:
                time.sleep(1)
            except KeyboardInterrupt:
                pass
"""


def test_a_killed_driver_is_continued(disturbed: Project, expected):
    process = disturbed.start("--inline")
    disturbed.hold_midway(process, 8)
    assert disturbed.counts()["running"] == 1
    process.kill()
    process.communicate()
    counts = disturbed.counts()
    assert counts["interrupted"] == 1
    assert "running" not in counts, "nobody runs it any more, and status says so"
    again = disturbed.ran("--inline")
    assert again.returncode == 0, again.stdout + again.stderr
    assert disturbed.scores() == expected
    (broken,) = [t for t in disturbed.trials() if len(t.attempts) == 2]
    first, second = broken.ordered
    assert first.closed is not None
    assert first.closed.state == "killed"
    assert second.opened.resumed_from == 1


def test_a_subject_that_kills_the_driver_is_continued(tmp_path: Path, expected):
    project = Project(tmp_path / "killing", fault="kill")
    codes = []
    for _ in range(9):
        codes.append(project.ran("--inline").returncode)
        if codes[-1] == 0:
            break
    assert codes == [-signal.SIGKILL] * 4 + [0]
    assert project.scores() == expected


def test_two_runs_at_once(disturbed: Project):
    first = disturbed.start("--inline")
    disturbed.await_reports(first, 1)
    second = disturbed.ran("--inline")
    assert second.returncode == 2
    assert f"pid {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    output, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, output
    assert disturbed.counts() == {"done": 4}
    assert {len(t.attempts) for t in disturbed.trials()} == {1}


def test_two_studies_share_their_trials(disturbed: Project):
    """A second study with the same arms waits for those that the first one runs."""
    other = disturbed.file.with_name("other.yaml")
    other.write_text(disturbed.file.read_text().replace("name: demo", "name: other"))
    first = disturbed.start("--inline")
    disturbed.await_reports(first, 1)
    command = [
        sys.executable, "-m", "harness.cli", "run", str(other), "--no-mlflow", "--inline",
    ]  # fmt: skip
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert second.returncode == 0, second.stdout + second.stderr
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0
    assert {len(t.attempts) for t in disturbed.trials()} == {1}, "no trial ran twice"
    assert {t.state for t in disturbed.trials()} == {"done"}


def test_a_really_full_disk_ends_with_a_clear_error(tmp_path: Path):
    """A tmpfs of 1 MiB, where the machine allows mounting one."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        project = Project(tmp_path / "full")
        found = project.ran("--inline", "--workspace", str(mount / "w"))
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    assert found.returncode == 2
    assert "MiB free" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
class TestRay:
    def test_a_killed_worker_is_retried_and_the_others_go_on(
        self, tmp_path: Path, expected, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # joining takes --ray-address, said aloud
        project = Project(tmp_path / "killing", fault="kill")
        done = project.ran("--parallel", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        assert project.scores() == expected
        for trial in project.trials():
            first, second = trial.ordered
            assert first.closed is not None
            assert first.closed.state == "killed"
            assert "worker process died" in first.closed.reason
            assert second.opened.resumed_from == 1

    def test_ctrl_c_ends_cleanly_and_the_rerun_completes(self, disturbed: Project, expected):
        process = disturbed.start("--parallel", "2")
        disturbed.await_reports(process, 3)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, output
        counts = disturbed.counts()
        assert set(counts) <= {"killed", "pending", "done"}
        assert 1 <= counts["killed"] <= 2
        again = disturbed.ran("--parallel", "2")
        assert again.returncode == 0, again.stdout + again.stderr
        assert disturbed.scores() == expected
        assert not list(disturbed.workspace.cache.iterdir()), "Ray's scratch is removed"

    def test_a_killed_driver_takes_its_workers_along(self, disturbed: Project, expected):
        process = disturbed.start("--parallel", "2")
        disturbed.await_reports(process, 3)
        process.kill()
        process.communicate()
        assert disturbed.counts().get("interrupted", 0) >= 1
        again = disturbed.ran("--inline")
        assert again.returncode == 0, again.stdout + again.stderr
        assert disturbed.scores() == expected
