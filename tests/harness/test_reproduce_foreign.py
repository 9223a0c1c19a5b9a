"""What a bundle or a server names is not started: only a folder the user chose may be a project."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.reproducing import places
from harness.reproducing.one_trial import loaded
from harness.workspace import Workspace
from tests.harness.trainers import settings


def test_a_bundle_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tmp_path / "unpacked"
    (content / "results").mkdir(parents=True)
    (content / "results" / "journal.jsonl").touch()
    (content / "pyproject.toml").touch()  # would make it a project of its own
    monkeypatch.setattr(places, "_unpacked", lambda file, workspace: content)
    bundle = tmp_path / "bundle.zip"
    bundle.touch()
    workspace = Workspace(tmp_path / "w")
    found = places.given(str(bundle), workspace)
    assert found.foreign
    assert not any(p.is_relative_to(content) for p in found.projects)
    chosen = places.given(str(content), workspace)
    assert not chosen.foreign
    assert content.resolve() in chosen.projects


def test_a_command_named_by_a_bundle_is_not_started() -> None:
    spec = settings()
    recorded = SimpleNamespace(places=places.Places([], foreign=True), subject=spec, project=Path())
    subject, why = loaded(recorded)  # type: ignore[arg-type]
    assert subject is None
    assert "nothing of that is started" in why
