"""What a bundle or a server names is not started: only a folder the user chose may be a project."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.bundle.write import write_bundle
from harness.commands.opening import answered
from harness.journal.workspace import Workspace
from harness.reproduce import places
from harness.reproduce.one_trial import loaded
from harness.reproduce.places import Places, places_given, why_not_trusted
from harness.subjects.settings import StudentSettings, StudentsSettings
from tests.harness.reproduce_lab import CLAIM, Lab
from tests.harness.trainers import settings

LOOSE = """
import pathlib
pathlib.Path({mark!r}).touch()  # what importing it does
from harness.testing.stub_measured import *
from harness.testing.stub_measured import measure, metrics
"""


def test_a_bundle_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tmp_path / "unpacked"
    (content / "results").mkdir(parents=True)
    (content / "results" / "journal.jsonl").touch()
    (content / "pyproject.toml").touch()  # would make it a project of its own
    monkeypatch.setattr(places, "_unpacked", lambda file, workspace: content)
    bundle = tmp_path / "bundle.zip"
    bundle.touch()
    workspace = Workspace(tmp_path / "w")
    found = places_given(str(bundle), workspace)
    assert found.foreign
    assert not any(p.is_relative_to(content) for p in found.projects)
    chosen = places_given(str(content), workspace)
    assert not chosen.foreign
    assert content.resolve() in chosen.projects


def test_a_command_named_by_a_bundle_is_not_started() -> None:
    spec = settings()
    recorded = SimpleNamespace(places=Places([], foreign=True), subject=spec, project=Path())
    subject, why = loaded(recorded)  # type: ignore[arg-type]
    assert subject is None
    assert "nothing of that is started" in why


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Path, Path]:
    """A lab whose subject is a module of its own, its bundle, and a mark of every import."""
    root = tmp_path_factory.mktemp("theirs")
    mark = root / "imported"
    (root / "lab").mkdir()
    (root / "lab" / "loose_subject.py").write_text(LOOSE.format(mark=str(mark)))
    lab = Lab(root / "lab", subject="loose_subject", more=CLAIM)
    made = answered(lab.file, lab.workspace.root)
    return lab, write_bundle(made, root / "theirs.zip").file, mark


@pytest.mark.parametrize("options", [
    {"depth": "record"}, {"depth": "tables"}, {"depth": "train"}, {"fresh_seeds": 1},
    {"key": "", "contrast": "H1"}, {"key": "", "contrast": "H1", "depth": "tables"},
])  # fmt: skip
def test_a_module_is_not_imported_on_a_bundles_word(
    theirs, options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, file, mark = theirs
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "loose_subject", raising=False)
    monkeypatch.syspath_prepend(str(lab.workspace.root.parent))  # importable here, by accident
    mark.unlink(missing_ok=True)
    given = {"depth": "auto", "source": str(file), "workspace": Workspace(tmp_path / "w")}
    found = lab.again(**{**given, **options})
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "none of your studies names" in found.reason
    assert "--study FILE" in found.reason
    assert not mark.exists()


@pytest.mark.parametrize("how", ["a study of the project", "--study"])
def test_a_module_that_a_study_of_the_readers_names_is_imported(
    how: str, theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, file, _ = theirs
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(lab.workspace.root.parent))
    own = tmp_path / "studies" / "mine" / "study.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("name: mine\nsubject: loose_subject\n")
    study = None
    if how == "--study":
        study = own.rename(tmp_path.parent / f"{tmp_path.name}.yaml")
    workspace = Workspace(tmp_path / "w")
    found = lab.again("train", source=str(file), workspace=workspace, study=study)
    assert found.decision == "bit-equal", found.reason


def test_what_measures_students_of_a_bundle_is_not_imported_either() -> None:
    foreign = Places([], foreign=True)
    one = StudentSettings(path="x", levels={"arm": "a"})
    for measured_by, fine in (("lab.measuring", False), ("recipes.subject", True)):
        spec = StudentsSettings(students=[one], measured_by=measured_by)
        assert (why_not_trusted(spec, foreign) == "") is fine
        command = settings(student="{attempt}/s", measured_by=measured_by)
        assert (why_not_trusted(command, foreign) == "") is fine
    assert why_not_trusted(settings(), foreign) == "", "its numbers can be read without it"
    assert "recipe.json" in why_not_trusted(settings(recipe_schema="/x/recipe.json"), foreign)
    for name in ("harness.testing.stub", "recipes.subject"):
        assert why_not_trusted(name, foreign) == ""
    for name in ("recipes.toyworld.train", "harnessed", "os"):
        assert why_not_trusted(name, foreign)
