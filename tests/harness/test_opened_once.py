"""A command makes a study's subject once, so that declared data is hashed once, and reads it so."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.study.load import open_study
from harness.study.opened_study import OpenedStudy
from harness.subjects import command
from tests.harness.test_command_study import _write


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Subjects made, and hashings of what they declare."""
    found = {"subjects": 0, "hashed": 0}
    made, hashed = command.CommandSubject.__init__, command.file_digests

    def make(self: Any, *given: Any) -> None:
        found["subjects"] += 1
        made(self, *given)

    def digest(*given: Any) -> dict[str, str]:
        found["hashed"] += 1
        return hashed(*given)

    monkeypatch.setattr(command.CommandSubject, "__init__", make)
    monkeypatch.setattr(command, "file_digests", digest)
    return found


def _invoke(*words: str) -> None:
    cli._register()
    done = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_each_command_makes_the_subject_once(
    tmp_path: Path, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"data": ["rows.txt"]}
    (tmp_path / "studies" / "theirs").mkdir(parents=True)
    (tmp_path / "studies" / "theirs" / "rows.txt").write_text("1\n2\n")
    file = _write(tmp_path, subject=data)
    _invoke("plan", str(file))
    assert counts["subjects"] == 1
    assert counts["hashed"] == 2, "code and data, once each"
    counts.update(subjects=0, hashed=0)
    _invoke("run", str(file), "--inline", "--no-mlflow")
    assert counts["subjects"] == 1 + 4, "the driver's, and one for each of four attempts"
    assert counts["hashed"] == 2
    for words in (["report"], ["bundle"], ["export", "--to", str(tmp_path / "results")]):
        counts.update(subjects=0, hashed=0)
        _invoke(words[0], str(file), *words[1:])
        assert counts["subjects"] == 1, words
        assert counts["hashed"] == 2, words


def test_the_history_is_read_when_it_is_needed_and_again_only_when_asked(tmp_path: Path) -> None:
    file = _write(tmp_path)
    opened = open_study(file)
    assert isinstance(opened, OpenedStudy)
    first = opened.history
    assert opened.history is first
    assert opened.reread() is not first
