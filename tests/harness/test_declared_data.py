"""Declared data of a command: read once a command, kept by path, size and times, links followed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.errors import HarnessError
from harness.subjects import digests
from harness.subjects.digests import WORTH_KEEPING, file_digests
from harness.tracking.mlflow_tracker import finite_reports

STUDY = """\
name: declared
question: What is read?
subject:
  command: "python train.py {attempt} {recipe.lr}"
  code: [train.py]
  data: [data]
  metrics: {loss: {unit: "", higher_is_better: false, headline: true}}
recipe: {lr: 1.0}
factors: {lr: [1.0, 2.0]}
replicates: 2
primary: loss
"""
TRAINER = """\
import json, sys
with open(sys.argv[1] + "/progress.jsonl", "a") as out:
    out.write(json.dumps({"step": 1, "metrics": {"loss": float(sys.argv[2])}}) + "\\n")
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    digests._known.clear()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files whose content was read, in order."""
    names: list[str] = []
    original = digests._digest
    monkeypatch.setattr(digests, "_digest", lambda p: names.append(p.name) or original(p))
    return names


def _project(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "big.bin").write_bytes(b"x" * WORTH_KEEPING)
    (folder / "train.py").write_text(TRAINER)
    (folder / "study.yaml").write_text(STUDY)
    _aged(folder / "data" / "big.bin")
    return folder / "study.yaml"


def _aged(path: Path) -> None:
    os.utime(path, (1_000_000_000, 1_000_000_000))


def test_each_command_reads_declared_data_once_and_the_next_one_not_at_all(
    tmp_path: Path, read: list[str]
):
    study = _project(tmp_path / "p")
    cli._register()
    for number, words in enumerate((["plan"], ["run", "--inline", "--no-mlflow"], ["report"])):
        digests._known.clear()  # a command is a process
        read.clear()
        done = CliRunner().invoke(cli.app, [words[0], str(study), *words[1:]])
        assert done.exit_code == 0, done.output
        assert read.count("big.bin") == (1 if number == 0 else 0)
        assert read.count("train.py") == 1


def test_a_changed_file_is_read_again(tmp_path: Path, read: list[str]):
    big = tmp_path / "big.bin"
    seen = []
    for letter in "xyz":
        big.write_bytes(letter.encode() * WORTH_KEEPING)
        _aged(big)  # the same size and time
        seen.append(file_digests(tmp_path, ["big.bin"])["big.bin"])
        digests._known.clear()
        assert file_digests(tmp_path, ["big.bin"])["big.bin"] == seen[-1]
    assert len(set(seen)) == 3
    assert read == ["big.bin"] * 3


def test_a_file_as_young_as_its_reading_is_not_kept(tmp_path: Path, read: list[str]):
    (tmp_path / "big.bin").write_bytes(b"x" * WORTH_KEEPING)
    for _ in range(2):
        file_digests(tmp_path, ["big.bin"])
        digests._known.clear()
    assert read == ["big.bin"] * 2


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 0, "files": {}}'])
def test_a_cache_that_is_not_ours_is_read_over(tmp_path: Path, read: list[str], content: str):
    (tmp_path / "big.bin").write_bytes(b"x" * WORTH_KEEPING)
    _aged(tmp_path / "big.bin")
    first = file_digests(tmp_path, ["big.bin"])
    (kept,) = (tmp_path / "user" / "stillhouse" / "file-digests").iterdir()
    kept.write_text(content)
    digests._known.clear()
    assert file_digests(tmp_path, ["big.bin"]) == first
    assert len(read) == 2


def test_links_are_followed_or_refused(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_text("a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "part").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "round").symlink_to(tmp_path / "data")
    before = file_digests(tmp_path, ["data"])
    assert list(before) == ["data/part/a.png"]
    (tmp_path / "real" / "a.png").write_text("b")
    assert file_digests(tmp_path, ["data"]) != before
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HarnessError, match="gone is a link that leads nowhere"):
        file_digests(tmp_path, ["data"])
    (tmp_path / "data" / "gone").unlink()
    os.mkfifo(tmp_path / "data" / "pipe")
    with pytest.raises(HarnessError, match="pipe is no file"):
        file_digests(tmp_path, ["data"])


def test_reports_end_at_line_feeds_alone(tmp_path: Path):
    """A text of JSON may hold any other separator as it is."""
    artifact = {"kind": "panel", "path": "a.png", "step": 1, "item": "i", "caption": "\u2028\u0085"}
    row = {"at": 1.0, "report": {"step": 1, "metrics": {"loss": 1.0}, "artifacts": [artifact]}}
    file = tmp_path / "reports.jsonl"
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    ((at, report),) = finite_reports(file)
    assert (at, report.artifacts[0].caption) == (1.0, "\u2028\u0085")
