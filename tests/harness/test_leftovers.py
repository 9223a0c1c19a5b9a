"""What killed processes left in temporary places goes with the next run; nothing else does."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.journal import environment, temporary_folders
from tests.harness.run_place import Place


def test_folders_of_dead_processes_go_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    place = Place(tmp_path / "place")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host, ray = environment.host(), place.workspace.cache / "ray"
    mine = f"{host}-{os.getpid()}-abc"
    left, kept = f"{host}-{dead.pid}-abc", [mine, f"elsewhere-{dead.pid}-abc", "0badcafe"]
    for name in (left, *kept):
        (ray / name / "inside").mkdir(parents=True)
        (scratch / f"stillhouse-tables-{name}" / "inside").mkdir(parents=True)
    (scratch / f"somebody-tables-{left}").mkdir()
    (scratch / f"stillhouse-upload-{left}").symlink_to(tmp_path)
    assert place.run(place.study()).exit_code == 0
    assert sorted(p.name for p in ray.iterdir()) == sorted(kept)
    names = [f"stillhouse-tables-{name}" for name in kept]
    names += [f"somebody-tables-{left}", f"stillhouse-upload-{left}"]
    assert sorted(p.name for p in scratch.iterdir()) == sorted(names)


def test_what_this_process_makes_is_known_as_its_own(tmp_path: Path) -> None:
    made = tempfile.mkdtemp(prefix=temporary_folders.folder_prefix("upload"), dir=tmp_path)
    named = temporary_folders._NAMED.fullmatch(Path(made).name)
    assert named is not None
    assert (named["host"], int(named["pid"])) == (environment.host(), os.getpid())
