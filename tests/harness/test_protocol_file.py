"""A protocol's file of a project that was moved or copied is the one that lies there now."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.reproduce import recorded
from harness.study.protocol_file import protocol_here
from tests.harness.reproduce_lab import Lab

STUDY = "studies/again/study.yaml"
PLACES = ["studies/again/mine.yaml", "studies/again/../../protocols/mine.yaml"]


@pytest.mark.parametrize("kept", [True, False], ids=["copied", "moved"])
@pytest.mark.parametrize("place", PLACES)
def test_the_one_of_this_project_is_taken(tmp_path: Path, place: str, kept: bool) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for project in (old, new) if kept else (new,):
        (project / "studies/again").mkdir(parents=True)
        (project / "protocols").mkdir()
        (project / place).touch()
    found = protocol_here(str(old / place), STUDY, new)
    assert Path(found).resolve() == (new / place).resolve()


@pytest.mark.parametrize("study", [STUDY, "study.yaml", ""])
def test_names_and_files_of_nobodys_project_stay(tmp_path: Path, study: str) -> None:
    (tmp_path / "other").mkdir()
    file = tmp_path / "other" / "mine.yaml"
    file.touch()
    assert protocol_here("toyworld-v1", study, tmp_path / "project") == "toyworld-v1"
    assert protocol_here(str(file), study, tmp_path / "project") == str(file)


def test_a_study_at_the_top_of_its_project(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.yaml").touch()
    found = protocol_here(str(tmp_path / "old" / "mine.yaml"), "study.yaml", tmp_path / "new")
    assert found == str(tmp_path / "new" / "mine.yaml")


def test_a_trial_is_reproduced_under_the_file_that_is_here(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "old")
    was = str(lab.file.parent / "mine.yaml")
    Path(was).write_text("what the original says now\n")

    def name_it(record: dict[str, Any]) -> None:
        if record["type"] == "planned":
            record["study_json"]["protocol"] = was
        if record["type"] == "opened":
            record["protocol_name"] = was

    lab.edit_journal(name_it)
    copy = lab.copy(tmp_path / "new")
    found = recorded.find(copy.key, copy.workspace)
    assert found.measurement.protocol == str(copy.file.parent / "mine.yaml")
    shutil.rmtree(tmp_path / "old")
    assert recorded.find(copy.key, copy.workspace).measurement == found.measurement
