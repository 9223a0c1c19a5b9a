"""What a trial's log tells between the output of its worker."""

import io
import re
from pathlib import Path

import pytest

from harness.contract import Estimate, Outcome, Report
from harness.executors.base import Ended
from harness.executors.trial_log import EVERY_SECONDS, TrialLog, line_of, note_end
from harness.journal import attempts
from tests.harness.run_place import KEEPER, Dying, Place
from tests.support.executor_contract import make_job


def test_progress_is_told_every_few_seconds_and_measurements_always(tmp_path: Path) -> None:
    stream = io.StringIO()
    job = make_job(tmp_path, "k" * 16, replicate=2).model_copy(update={"code": "c0de" * 16})
    log = TrialLog(job, stream, "a processor")
    for second in range(20):
        log.report(Report(step=second, total=20), 1e9 + second)
    log.report(Report(step=20, metrics={"score": 0.5}, measured=True), 1e9 + 20.1)
    head, where, *lines = stream.getvalue().splitlines()
    assert "attempt 1  train" in head
    assert re.search(
        r"key k{16}  replicate 2  a processor  host \S+  pid \d+  code c0dec0dec0de$", where
    )
    steps = [int(re.search(r"step (\d+)", line).group(1)) for line in lines]  # type: ignore[union-attr]
    assert steps == [*range(0, 20, int(EVERY_SECONDS)), 20]


def test_lines_are_readable() -> None:
    many = {f"train/{name}": 1 / 3 for name in "abcdefgh"}
    line = line_of(Report(step=3, total=9, metrics=many, info={"resumed": "at cycle 2"}), 0.0)
    assert re.match(r"\d\d:\d\d:\d\d  step 3/9  train/a 0.3333  ", line)
    assert "train/f" in line
    assert "train/g" not in line
    assert line.endswith("resumed: at cycle 2")
    estimates = (Estimate(name="kd", value=0.25, lo=0.0, hi=0.5), Estimate(name="fid", value=1.0))
    ends = Outcome(state="diverged", reason="loss")
    line = line_of(
        Report(step=9, metrics={"kd": 0.25, "fid": float("nan"), **many}, measured=True,
               estimates=estimates, outcome=ends),
        0.0,
    )  # fmt: skip
    assert "measured  kd 0.25 [0, 0.5]  fid nan  train/a" in line
    assert "train/h" in line
    assert line.endswith("  loss")


def test_an_end_is_written_once_by_whoever_knows_it(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = TrialLog(make_job(tmp_path, "one"), stream, "")
    log.ended(Ended(state="killed", reason="deadline", seconds=2.0))
    assert "== killed" not in stream.getvalue()
    log.ended(Ended(state="failed", reason="Oops: no", traceback="Traceback: no\n", seconds=2.0))
    assert stream.getvalue().endswith("Traceback: no\n== failed  Oops: no  2.0 s\n")
    note_end(tmp_path / "log.txt", "done", "", 2.04)
    assert (tmp_path / "log.txt").read_text() == "== done  2.0 s\n"


def test_the_driver_writes_the_end_of_a_worker_that_vanished(tmp_path: Path) -> None:
    place = Place(tmp_path / "p")
    place.run(place.study(KEEPER), executor=Dying())
    for trial in place.trials():
        lines = (place.workspace.trial(trial.key) / attempts.LOG).read_text().splitlines()
        marked = [line for line in lines if line.startswith("== ")]
        short = trial.latest.opened.trial.short  # type: ignore[union-attr]
        starts = (f"== {short}  attempt 1", "== killed  died", f"== {short}  attempt 2", "== done")
        ordered = (marked[0], marked[2], marked[3], marked[5])
        assert all(line.startswith(start) for line, start in zip(ordered, starts, strict=True))
        assert len(marked) == 6
        assert any("measured  score" in line for line in lines)
        assert f"code {trial.latest.opened.code[:12]}" in marked[1]  # type: ignore[union-attr]


@pytest.mark.parametrize("running", [3, 0])
def test_following_prints_all_that_was_written_before_the_end(
    running: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.commands import logs

    monkeypatch.setattr(logs, "POLL_SECONDS", 0.0)
    left = [running]
    written = [f"line {number}\n" for number in range(running + 1)]

    def is_running() -> bool:
        left[0] -= 1
        return left[0] >= 0

    logs._follow(lambda: written.pop(0), is_running)
    assert capsys.readouterr().out == "".join(f"line {n}\n" for n in range(running + 1))
