"""`bundle`: one file that holds all of a study, checks itself, and can be planned from."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.bundle.read import STUDENTS, unpacked_bundle, verify_bundle
from harness.bundle.write import write_bundle
from harness.commands import bundle as command
from harness.commands import plan
from harness.errors import BundleError, HarnessError, NotJudgedError
from harness.journal.history import History
from harness.text.archive import Archive

from .bundles import contents, rewritten, studied
from .run_place import Place


def call(words: list[str], of=command.command):
    app = typer.Typer()
    app.command()(of)
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return studied(tmp_path_factory.mktemp("bundle") / "p")


@pytest.fixture(scope="module")
def file(made, tmp_path_factory) -> Path:
    return write_bundle(made, tmp_path_factory.mktemp("b") / "demo.zip").file


def test_the_same_records_give_the_same_bytes(made, file: Path, tmp_path: Path, monkeypatch):
    os.utime(made.study.file, (1_000_000_000, 1_000_000_000))
    monkeypatch.chdir(tmp_path)
    again = write_bundle(made, tmp_path / "other-name.zip")
    assert again.file.read_bytes() == file.read_bytes()
    assert {info.date_time for info in zipfile.ZipFile(file).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_verifier_needs_only_python(file: Path, tmp_path: Path):
    script = tmp_path / "verify.py"
    script.write_bytes(contents(file)["verify.py"])
    words = [sys.executable, "-I", "-S", str(script), str(file)]  # no site-packages, no project
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout
    changed = rewritten(file, tmp_path / "x.zip", {"report/report.md": b"better"}, sums=False)
    words[-1] = str(changed)
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "report/report.md" in done.stdout


def test_the_verifier_is_written_for_python_3_9(file: Path):
    import ast

    ast.parse(contents(file)["verify.py"], feature_version=(3, 9))


def test_it_holds_what_a_reviewer_needs(made, file: Path):
    held = contents(file)
    keys = [t.trial.key for t in made.plan.trials]
    assert {f"recipes/{key}.json" for key in keys} <= held.keys()
    items = [n for n in held if n.startswith("trials/") and n.endswith("items.csv")]
    assert len(items) == 24
    assert not any("student" in n for n in held if n.startswith("trials/"))
    assert held["code/study.yaml"] == made.study.file.read_bytes()
    assert "stillhouse/harness/bundle/read.py" in held
    page = held["ARTIFACT.md"].decode()
    for verdict in made.answer.verdicts:
        assert not verdict.planned or verdict.words in page
    assert "Kick the tires" in page
    assert "What each rung costs" in page


def test_unpacked_it_looks_like_results_and_a_project(made, file: Path, tmp_path: Path):
    folder = unpacked_bundle(file, tmp_path / "cache")
    assert unpacked_bundle(file, tmp_path / "cache") == folder
    history = History.read([folder / "results"])
    assert not history.warnings
    assert set(history.trials) == {t.trial.key for t in made.plan.trials}
    for record in history.trials.values():
        closed = record.complete.closed
        for artifact in closed.artifacts:
            attempt = folder / "trials" / record.key / "attempts" / record.complete.folder_name
            assert artifact.kind == "items"
            assert (attempt / artifact.path).is_file()
    words = [str(folder / "code" / "study.yaml"), "--json", "--workspace", str(tmp_path / "w")]
    planned = json.loads(call(words, plan.command).stdout)
    assert planned["counts"]["reuse"] == len(made.plan.trials)


def test_source_is_what_git_tracks_and_what_was_not_added_yet(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("harness.bundle.contents.PACKAGES", ("lab",))
    made = studied(tmp_path / "p")
    project = tmp_path / "p"
    (project / "lab" / "kept").mkdir(parents=True)
    for name in ("lab/a.py", "lab/kept/data.bin", "secret.txt", ".gitignore", "strange.py"):
        (project / name).write_text("w/\nlab/ignored.py\n")
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", str(project), *words], check=True)
    for name in ("lab/new.py", "lab/notes.txt", "lab/ignored.py"):
        (project / name).touch()
    (project / "lab" / "link.py").symlink_to("/etc/passwd")
    held = contents(write_bundle(made, tmp_path / "x.zip").file)
    code = {n for n in held if n.startswith("code/") and "/results/" not in n}
    lab = {"code/lab/a.py", "code/lab/kept/data.bin", "code/lab/new.py"}
    assert code == {"code/study.yaml", "code/pyproject.toml", *lab}


def test_students_go_along_when_asked_for(made, tmp_path: Path):
    file = write_bundle(made, tmp_path / "s.zip", kinds=STUDENTS).file
    folder = unpacked_bundle(file, tmp_path)
    assert len(list(folder.glob("trials/*/attempts/*/student/weights.json"))) == 24


def test_failures_and_missing_replicates_are_verified_too(tmp_path: Path):
    hurt = studied(tmp_path / "p", recipe="{cycles: 2, fault: raise, fault_replicate: 1}")
    assert any(row.states.get("failed") for row in hurt.answer.arms)
    assert verify_bundle(write_bundle(hurt, tmp_path / "x.zip").file)


def test_a_study_without_results_is_refused(tmp_path: Path):
    place = Place(tmp_path / "p")
    made = place.study()
    found = call(
        [str(made.file), "-o", str(tmp_path / "x.zip"), "--workspace", str(tmp_path / "w")]
    )
    assert isinstance(found.exception, NotJudgedError)
    assert not (tmp_path / "x.zip").exists()


def test_the_command_writes_checks_and_unpacks(made, tmp_path: Path):
    file, words = tmp_path / "x.zip", ["--workspace", str(made.workspace.root)]
    told = json.loads(call([str(made.study.file), "-o", str(file), "--json", *words]).stdout)
    assert told["bytes"] == file.stat().st_size
    assert call(["--verify", str(file)]).exit_code == 0
    folder = tmp_path / "unpacked"
    assert call(["--unpack", str(file), "-o", str(folder)]).exit_code == 0
    with Archive(file) as archive:
        names = set(archive.members)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == names
    assert isinstance(call(["--unpack", str(file), "-o", str(folder)]).exception, BundleError)
    for wrong in ([], ["--verify", str(tmp_path / "none.zip")], ["x.yaml", "--verify", str(file)]):
        assert isinstance(call(wrong).exception, HarnessError)
