"""`stillhouse measure` on the stub's students: labels, files, adding, comparing, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness import cli
from harness.commands.opening import answered
from harness.errors import HarnessError
from harness.study.from_checkpoints import (
    ForeignCheckpoint,
    foreign_checkpoints,
    labels_of,
    numbered,
)
from harness.study.load import load_study
from harness.subjects.settings import StudentsSettings


def _student(folder: Path, score: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.json").write_text(json.dumps({"score": score, "cost": 1.0}))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    for arm, base, step in (("a", 1.0, 0.1), ("b", 3.0, 0.15)):
        for replicate in range(3):
            _student(tmp_path / f"{arm}-{replicate}" / "student", base + step * replicate)
    cli._register()
    return tmp_path


def _measure(*words: str, fails: bool = False, by: str = "harness.testing.stub_measured") -> Result:
    shared = [*(["--measured-by", by] if by else []), "--no-mlflow"]
    found = CliRunner().invoke(cli.app, ["measure", *words, *shared])
    if not fails and found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def _json(*words: str, **options: Any) -> Any:
    return json.loads(_measure(*words, "--json", **options).stdout.splitlines()[-1])


def test_paths_of_one_label_are_replicates_and_calls_add_up(project: Path) -> None:
    first = _json("a-0/student", "a-1/student", "a-2/student", "--label", "arm=a")
    assert first["exit_code"] == 0
    assert [(s["levels"], s["replicate"]) for s in first["students"]] == [
        ({"arm": "a"}, 0), ({"arm": "a"}, 1), ({"arm": "a"}, 2),
    ]  # fmt: skip
    assert [s["metrics"]["score"] for s in first["students"]] == [1.0, 1.1, 1.2]
    second = _json("b-0/student", "b-1/student", "b-2/student", "--label", "arm=b",
                   "--baseline", "arm=a")  # fmt: skip
    assert len(second["students"]) == 6
    file = Path(second["study"])
    made = answered(file, None)
    assert {t.state for t in made.plan.trials} == {"reuse"}
    (verdict,) = [v for v in made.answer.verdicts if v.id == "b-vs-a"]
    assert verdict.difference == pytest.approx(2.05)
    assert verdict.verdict == "improves"
    assert {r.arm for r in made.answer.arms if r.kind == "reference"} == {"truth", "untrained"}
    assert Path(second["report"]).is_file()


def test_the_same_again_measures_nothing(project: Path) -> None:
    before = _json("a-0/student", "a-1/student", "--label", "arm=a")
    text = Path(before["study"]).read_text()
    again = _measure("a-1/student", "a-0/student", "--label", "arm=a")
    assert "nothing to run" in again.output
    assert "score 1.1" in again.output.splitlines()[-1]
    assert Path(before["study"]).read_text() == text


def test_another_checkpoint_in_the_same_place_is_measured_anew(project: Path) -> None:
    _json("a-0/student", "--label", "arm=a")
    (project / "a-0" / "student" / "weights.json").write_text('{"score": 7.0, "cost": 1.0}')
    (student,) = _json("a-0/student", "--label", "arm=a")["students"]
    assert student["metrics"]["score"] == 7.0


def test_results_stay_readable_without_the_checkpoints(project: Path) -> None:
    import shutil

    file = Path(_json("a-0/student", "a-1/student", "--label", "arm=a")["study"])
    for folder in project.glob("a-*"):
        shutil.rmtree(folder)
    assert {t.state for t in answered(file, None).plan.trials} == {"reuse"}


def test_what_cannot_be_measured_again_keeps_its_result(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measuring code changed, and one of two checkpoints is gone: it is kept, and told."""
    import shutil

    _json("a-0/student", "a-1/student", "--label", "arm=a")
    shutil.rmtree(project / "a-0")
    (project / "a-1" / "student" / "weights.json").write_text('{"score": 7.0, "cost": 1.0}')
    monkeypatch.setenv("STUB_CODE", "newer")
    found = _measure("a-1/student", "b-0/student:arm=b", "--label", "arm=a", "--json")
    students = json.loads(found.stdout.splitlines()[-1])["students"]
    assert [(s["levels"]["arm"], s["replicate"], s["metrics"]["score"]) for s in students] == [
        ("a", 0, 1.0), ("b", 0, 3.0), ("a", 1, 7.0),
    ]  # fmt: skip
    assert "their checkpoints are gone: " in found.output
    plan = answered(project / "stillhouse-workspace" / "measured.yaml", None).plan
    assert [t.state for t in plan.trials if t.trial.kind == "reference"] == ["reuse"] * 2


def test_the_next_call_measures_by_what_the_file_names(project: Path) -> None:
    file = _json("a-0/student", "--label", "arm=a")["study"]
    again = _json("a-1/student", "--label", "arm=a", by="")
    assert [s["metrics"]["score"] for s in again["students"]] == [1.0, 1.1]
    subject = load_study(Path(file)).subject
    assert isinstance(subject, StudentsSettings)
    assert subject.measured_by == "harness.testing.stub_measured"


def test_edits_of_the_study_file_stay(project: Path) -> None:
    file = project / "mine.yaml"
    _json("a-0/student", "--label", "arm=a", "--study", "mine.yaml")
    text = file.read_text().replace("How do checkpoints", "# my own note\nquestion: Why? #")
    text = text.replace("question: # my own note\n", "# my own note\n")
    file.write_text(text)
    _json("b-0/student", "--label", "arm=b", "--study", "mine.yaml")
    assert "# my own note" in file.read_text()
    assert load_study(file).question == "Why?"


def test_a_manifest_lists_many(project: Path) -> None:
    (project / "lists").mkdir()
    (project / "lists" / "all.csv").write_text(
        "path,arm,guidance,replicate\n../a-0/student,a,2,0\n../a-1/student,a,2.5,0\n"
        "../b-0/student,b,2,4\n"
    )
    found = _json("lists/all.csv")["students"]
    assert [(s["levels"], s["replicate"]) for s in found] == [
        ({"arm": "a", "guidance": "2"}, 0),
        ({"arm": "a", "guidance": "2.5"}, 0),
        ({"arm": "b", "guidance": "2"}, 4),
    ]


def test_labels_of_one_path_and_names_of_folders(project: Path) -> None:
    found = _json("a-0/student:arm=x,replicate=2", "b-0/student:arm=y")["students"]
    assert [(s["levels"]["arm"], s["replicate"]) for s in found] == [("y", 0), ("x", 2)]
    named = _json("a-0/student", "b-0/student", "--study", "named.yaml")["students"]
    assert [s["levels"]["arm"] for s in named] == ["a-0", "b-0"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gone"], "gone does not exist"),
        (["a-0/student", "--label", "arm"], "label 'arm' must be NAME=VALUE"),
        (["a-0/student", "--label", "a.b=1"], "must be NAME=VALUE"),
        (["a-0/student:arm=a,replicate=-1"], "replicate must be a whole number"),
        (["a-0/student:arm=a,replicate=1", "a-1/student:arm=a,replicate=1"], "both are"),
        (["a-0/student:arm=a", "b-0/student:group=b"], "every checkpoint needs the same labels"),
        (["a-0/student", "--label", "arm=a", "--baseline", "arm=z"], "is no label"),
        (["gone.csv"], "manifest gone.csv cannot be read"),
        (["a-0/student", "--study", "pyproject.toml"], "must be a .yaml file"),
        (["a-0/student", "--study", "other.yaml"], "is no study of checkpoints"),
    ],
)
def test_mistakes(project: Path, words: list[str], told: str) -> None:
    (project / "other.yaml").write_text("name: x\n")
    before = sorted(project.rglob("*.yaml"))
    found = _measure(*words, fails=True)
    assert isinstance(found.exception, HarnessError), found.output
    assert told in str(found.exception)
    assert sorted(project.rglob("*.yaml")) == before, "nothing was written"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it has no rows"),
        (b"path,arm\n\n", "it has path, arm"),
        (b"arm\nx\n", "needs a column `path`, and one for each label; it has arm"),
        (b"path;arm\na;b\n", "cells are parted by commas"),
        (b"path,arm,arm\na,b,c\n", "names columns twice: 'arm'"),
        (b"path,arm\na-0/student,a\nb-0/student\n", "line 3: 1 cells under 2 columns"),
        (b"path,arm\na-0/student,a,b\n", "line 2: 3 cells under 2 columns"),
        (b"path,arm\n,a\n", "line 2: `path` is empty"),
        (b"path,arm\n\na-0/student,=B2\n", "line 3: arm holds a formula (=B2)"),
        (b"path,the arm\na-0/student,x\n", "line 2: label 'the arm=x' must be NAME=VALUE"),
        (b'path,arm\na-0/student,"x\n', "line 2: unexpected end of data"),
        ("path,arm\na-0/student,a\n".encode("utf-16"), "cannot be read: not UTF-8"),
        (b"path,arm\na-0/student,caf\xe9\n", "cannot be read: not UTF-8"),
        (b"#" * 2_000_001, "too long"),
    ],
)
def test_mistakes_of_a_manifest_have_a_place(project: Path, content: bytes, told: str) -> None:
    (project / "m.csv").write_bytes(content)
    with pytest.raises(HarnessError) as error:
        foreign_checkpoints(["m.csv"], {}, {})
    assert told in str(error.value)
    assert "m.csv" in str(error.value)


def test_a_manifest_of_a_spreadsheet_is_read(project: Path) -> None:
    text = "path,arm,replicate\r\na-0/student,a\u2028b,1\r\n,,\r\n"
    (project / "M.CSV").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (one,) = foreign_checkpoints(["M.CSV"], {}, {})
    assert (one.path, one.levels, one.replicate) == (Path("a-0/student"), {"arm": "a\u2028b"}, 1)


def test_another_protocol_needs_another_file(project: Path) -> None:
    _json("a-0/student", "--label", "arm=a", "--protocol", "plain")
    found = _measure("a-1/student", "--label", "arm=a", "--protocol", "noisy", fails=True)
    assert "numbers of different protocols do not compare" in str(found.exception)


def test_numbers_are_given_where_they_are_free() -> None:
    a, b = {"arm": "a"}, {"arm": "b"}
    given = [ForeignCheckpoint(Path("1"), a), ForeignCheckpoint(Path("2"), a, 0),
             ForeignCheckpoint(Path("3"), b),
             ForeignCheckpoint(Path("4"), a)]  # fmt: skip
    assert [s.replicate for s in numbered(given)] == [1, 0, 0, 2]


def test_values_of_labels_are_those_of_yaml() -> None:
    assert labels_of(["a=1", "b=1e-4", "c=x y", "d=9:1", "e='1'"]) == {
        "a": 1, "b": 1e-4, "c": "x y", "d": "9:1", "e": "1",
    }  # fmt: skip
    (one,) = foreign_checkpoints(["p:setting.base=x"], {"arm": "a"}, {"rungs": 4})
    assert (one.settings, one.levels) == ({"rungs": 4, "base": "x"}, {"arm": "a"})
