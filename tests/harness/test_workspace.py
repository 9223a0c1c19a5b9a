import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from harness.errors import WorkspaceError
from harness.journal.workspace import FOLDER, VARIABLE, Workspace, project_of

Usage = namedtuple("Usage", "total used free")


def test_found_from_the_study_not_from_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "p" / "studies" / "s").mkdir(parents=True)
    (tmp_path / "p" / "pyproject.toml").touch()
    file = tmp_path / "p" / "studies" / "s" / "study.yaml"
    monkeypatch.chdir(tmp_path)
    assert project_of(file) == tmp_path / "p"
    assert Workspace.find(file).root == tmp_path / "p" / FOLDER
    assert Workspace.find(file, "w").root == tmp_path / "w"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "v"))
    assert Workspace.find(file).root == tmp_path / "v"
    assert list((tmp_path / "p").glob(FOLDER)) == [], "finding writes nothing"


def test_one_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkspaceError, match="cannot be written") as caught:
        Workspace(tmp_path / "file" / "w").ensure_usable()
    assert "--workspace" in str(caught.value)


def test_a_full_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 99, 2**20))
    with pytest.raises(WorkspaceError, match="1 MiB free"):
        Workspace(tmp_path / "w").ensure_usable()


def test_usable(tmp_path: Path):
    workspace = Workspace(tmp_path / "a" / "b")
    workspace.ensure_usable()
    workspace.ensure_usable()
    assert workspace.journal.is_dir()
    assert not list(workspace.root.glob(".probe*"))
