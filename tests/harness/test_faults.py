"""Faults really caused, on `stillhouse run` in a process of its own: signals and kills."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.journal import History, TrialHistory
from harness.workspace import Workspace

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


class Project:
    """A study and the processes that run it."""

    def __init__(self, folder: Path, fault: str = "", seconds: float = 0.0) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").touch()
        self.file = folder / "study.yaml"
        self.file.write_text(STUDY.format(seconds=seconds, fault=fault))
        self.workspace = Workspace(folder / "stillhouse-workspace")
        self.processes: list[subprocess.Popen[str]] = []

    def command(self, *options: str) -> list[str]:
        return [
            sys.executable, "-m", "harness.cli", "run", str(self.file), "--no-mlflow", *options,
        ]  # fmt: skip

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options), capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def start(self, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that a Ctrl-C can go to the whole group, as a terminal's
        )
        self.processes.append(process)
        return process

    def status(self) -> dict[str, int]:
        command = [sys.executable, "-m", "harness.cli", "status", "--json", str(self.file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        counts: dict[str, int] = json.loads(done.stdout)["studies"][0]["counts"]
        return counts

    def trials(self) -> list[TrialHistory]:
        return list(History.read([self.workspace.journal]).trials.values())

    def scores(self) -> dict[tuple[str, int], float | None]:
        found = {}
        for trial in self.trials():
            assert trial.complete is not None, trial.state
            planned = trial.complete.opened.trial
            found[planned.arm, planned.replicate] = trial.measured("stub-p")[0].metrics["score"]
        return found

    def reported(self) -> int:
        """Lines of reports.jsonl in all attempts."""
        files = self.workspace.root.glob("trials/*/attempts/*/reports.jsonl")
        return sum(len(f.read_text().splitlines()) for f in files)

    def await_reports(self, process: subprocess.Popen[str], count: int) -> None:
        until = time.monotonic() + PATIENCE
        while self.reported() < count:
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], float | None]:
    """Scores of the same study undisturbed."""
    project = Project(tmp_path_factory.mktemp("undisturbed"))
    assert project.run("--inline").returncode == 0
    return project.scores()


@pytest.fixture
def disturbed(tmp_path: Path) -> Iterator[Project]:
    """A study slow enough to be disturbed: 0.15 s a step."""
    project = Project(tmp_path / "disturbed", seconds=0.15)
    yield project
    for process in project.processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


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
    assert disturbed.status() == {"killed": 1, "pending": 3}
    (trial,) = disturbed.trials()
    assert trial.latest is not None
    assert trial.latest.closed is not None
    assert trial.latest.closed.reason == reason
    assert trial.latest.closed.seconds > 0.3
    again = disturbed.run("--inline")
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
    assert project.status() == {"pending": 3, "interrupted": 1}


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
    disturbed.await_reports(process, 8)
    assert disturbed.status()["running"] == 1
    process.kill()
    process.communicate()
    counts = disturbed.status()
    assert counts["interrupted"] == 1
    assert "running" not in counts, "nobody runs it any more, and status says so"
    again = disturbed.run("--inline")
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
        codes.append(project.run("--inline").returncode)
        if codes[-1] == 0:
            break
    assert codes == [-signal.SIGKILL] * 4 + [0]
    assert project.scores() == expected


def test_two_runs_at_once(disturbed: Project):
    first = disturbed.start("--inline")
    disturbed.await_reports(first, 1)
    second = disturbed.run("--inline")
    assert second.returncode == 2
    assert f"pid {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    output, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, output
    assert disturbed.status() == {"done": 4}
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
        found = project.run("--inline", "--workspace", str(mount / "w"))
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
        done = project.run("--parallel", "2")
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
        counts = disturbed.status()
        assert set(counts) <= {"killed", "pending", "done"}
        assert 1 <= counts["killed"] <= 2
        again = disturbed.run("--parallel", "2")
        assert again.returncode == 0, again.stdout + again.stderr
        assert disturbed.scores() == expected
        assert not list(disturbed.workspace.cache.iterdir()), "Ray's scratch is removed"

    def test_a_killed_driver_takes_its_workers_along(self, disturbed: Project, expected):
        process = disturbed.start("--parallel", "2")
        disturbed.await_reports(process, 3)
        process.kill()
        process.communicate()
        assert disturbed.status().get("interrupted", 0) >= 1
        again = disturbed.run("--inline")
        assert again.returncode == 0, again.stdout + again.stderr
        assert disturbed.scores() == expected
