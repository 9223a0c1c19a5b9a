"""`doctor`: each check that can fail is made to fail, and says how to mend it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness.commands.doctor import _findings
from harness.doctor import machine, shadows, storage
from harness.doctor.finding import ProbeError, ok, probe
from harness.journal.workspace import Workspace
from harness.study.model import Resources
from tests.harness.trainers import settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "w")
    made.ensure_usable()
    return made


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "size=1m")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "read-only", "size=1m", "ro")


def test_the_installation_that_runs_is_said():
    assert shadows.installation(None) == ok("installation", str(ROOT))


def test_another_stillhouse_on_the_path_is_named(tmp_path: Path, monkeypatch):
    other = tmp_path / "bin" / "stillhouse"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}{os.pathsep}{os.environ['PATH']}")
    found = shadows.installation(None)
    assert found.state == "warn"
    assert str(other) in found.found
    assert str(Path(sys.executable).with_name("stillhouse")) in found.fix


def test_an_installation_that_another_shadows_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shadows, "installed", lambda: tmp_path)
    found = shadows.installation(None)
    assert (found.state, str(tmp_path) in found.found) == ("warn", True)


@pytest.mark.parametrize("name", ["torch.py", "mlflow/__init__.py", "evaluation/__init__.py",
                                  "json.py", "ray.py", "PIL/__init__.py"])  # fmt: skip
def test_what_comes_in_the_place_of_what_is_installed_is_named(
    tmp_path: Path, monkeypatch, name: str
):
    """In the project, in the current folder, in PYTHONPATH; said once a folder."""
    clean = [ok("shadows", "nothing comes in the place of what is installed")]
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    assert shadows.shadows(tmp_path) == clean
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    called = name.split("/")[0].removesuffix(".py")
    for project in (tmp_path, None):
        (found,) = shadows.shadows(project)
        assert (found.state, found.found) == ("warn", f"{tmp_path} holds `{called}`")
        assert "rename" in found.fix
    monkeypatch.chdir("/")
    assert shadows.shadows(None) == clean
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (found,) = shadows.shadows(None)
    assert "out of PYTHONPATH" in found.fix


def test_a_probe_imports_what_this_process_would(tmp_path: Path, monkeypatch):
    """Not what lies in the current folder; `python -c` would take that first."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    code = "import harness; print(harness.__file__)"
    assert probe(code, seconds=30.0) == str(ROOT / "harness" / "__init__.py")


def test_python_and_packages_here_are_those_asked_for():
    assert machine.python().state == "ok"
    assert machine.packages(distill=True).state == "ok"


def test_a_package_that_is_too_old_or_missing_is_named(tmp_path: Path, monkeypatch):
    """Distributions in front of the others on the path, as `pip install --target` leaves them."""
    for name, version in (("stillhouse", "9"), ("rich", "1.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        text += "Requires-Python: <3.9\nRequires-Dist: rich>=13\nRequires-Dist: nowhere>=1\n"
        text += "Requires-Dist: neither>=1; extra == 'distill'\n"
        (folder / "METADATA").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = machine.packages(distill=False)
    assert found.state == "fail"
    assert found.found == "rich 1.0, >=13 is asked for; nowhere is missing"
    assert "neither is missing" in machine.packages(distill=True).found
    assert machine.python().state == "fail"
    assert "<3.9 is asked for" in machine.python().found


def test_a_version_that_is_not_pinned_is_named(tmp_path: Path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# made by uv\nrich==0.1\npytest==0.2 ; python_version > '3'\nnot-here==1\n")
    found = machine.pins(lock)
    assert found.state == "warn"
    assert found.found.startswith("2 of 3 differ: rich ")
    assert "(pinned 0.2)" in found.found


FAKE_TORCH = {
    "cpu build": ("2.0+cpu", None, 0, "", "CPUs"),
    "old driver": ("2.0", "13.0", 0, "driver too old (found version 11040)", "update the driver"),
}


@pytest.mark.parametrize("name", FAKE_TORCH)
def test_torch_and_cuda_that_do_not_fit(name: str, tmp_path: Path, monkeypatch):
    version, cuda, count, reason, fix = FAKE_TORCH[name]
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"__version__ = {version!r}\nfrom . import cuda, version\n"
    )
    (package / "version.py").write_text(f"cuda = {cuda!r}\n")
    (package / "cuda.py").write_text(
        f"def device_count(): return {count}\ndef init(): raise RuntimeError({reason!r} or 'x')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = machine.torch()
    assert found.state == "fail"
    assert fix in found.fix
    assert reason in found.found
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.torch().state == "ok", "no GPU, no harm"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise ImportError('libcudart.so.13 is missing')", "libcudart"),
        (SLOW := "import time; time.sleep(60)", "no answer in 1 s"),
    ],
)
def test_a_torch_that_does_not_load(text: str, told: str, tmp_path: Path, monkeypatch):
    (tmp_path / "torch.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = machine.torch(seconds=1.0 if text == SLOW else 60.0)
    assert found.state == "fail"
    assert told in found.found


def test_gpus_that_are_not_here(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine.gpus(0.5, elsewhere=False).state == "ok"
    assert machine.gpus(2, elsewhere=False).state == "fail"
    assert machine.gpus(2, elsewhere=True).state == "ok"


def test_cores_that_are_not_here(monkeypatch):
    monkeypatch.setattr(machine, "cpus_here", lambda: 2)
    assert machine.cores(2, elsewhere=False).state == "ok"
    lacking = machine.cores(64, elsewhere=False)
    assert lacking.state == "fail"
    assert "2 for this process, a trial asks for 64" in lacking.found
    assert "cpus: 2" in lacking.fix
    assert machine.cores(64, elsewhere=True).state == "ok"


def test_a_workspace_that_can_be_used(workspace: Workspace):
    assert storage.writable(workspace).state == "ok"
    assert storage.locking(workspace.root).state == "ok"
    assert storage.clock(workspace.root).state == "ok"
    assert storage.filesystem(workspace.root, sqlite=True).state == "ok"
    kept = ["artifacts", "cache", "journal", "workspace.json"]
    assert sorted(f.name for f in workspace.root.iterdir()) == kept


def test_a_read_only_workspace(read_only: Path):
    found = storage.writable(Workspace(read_only / "w"))
    assert (found.state, "Read-only" in found.found) == ("fail", True)
    assert "--workspace" in found.fix


def test_a_full_disk(small: Path):
    found = storage.writable(Workspace(small / "w"))
    assert found.state == "fail"
    assert "MiB free" in found.found
    assert storage.disk(small).state == "warn"


def test_locks_that_do_not_exclude(workspace: Workspace):
    """As on a mount whose locks hold on one node only: the other process locks another file."""

    def elsewhere(file: Path) -> str:
        other = file.with_name("other")
        other.touch()
        told = probe(storage.ASK_LOCK, str(other), seconds=30)
        other.unlink()
        return told

    found = storage.locking(workspace.root, ask=elsewhere)
    assert found.state == "fail"
    assert "same lock at once" in found.found
    assert "flock" in found.fix


def test_a_lock_that_does_not_let_go(workspace: Workspace):
    """Another process takes the probe's lock and keeps it."""
    held: list[int] = []

    def sticky(file: Path) -> str:
        told = probe(storage.ASK_LOCK, str(file), seconds=30)
        if not held:
            held.append(os.open(file, os.O_RDWR))
            return told
        return "refused"

    assert "still holds" in storage.locking(workspace.root, ask=sticky).found
    os.close(held[0])


def test_sqlite_on_a_network_file_system(workspace: Workspace, monkeypatch):
    """The mount table is the kernel's; here it is told to say NFS."""
    part = type("Part", (), {"mountpoint": str(workspace.root), "fstype": "nfs4"})
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [part])
    found = storage.filesystem(workspace.root, sqlite=True)
    assert (found.state, "nfs4" in found.found) == ("warn", True)
    assert "--mlflow" in found.fix
    assert storage.filesystem(workspace.root, sqlite=False).state == "ok"


@pytest.mark.parametrize(("skew", "word"), [(90.0, "90 s behind"), (-90.0, "90 s ahead of")])
def test_clocks_that_differ(skew: float, word: str):
    found = storage.skewed("clock", skew, "the server")
    assert (found.state, word in found.found) == ("warn", True)


def test_a_probe_tells_why_it_failed():
    assert probe("print('a'); print('b')", seconds=30) == "b"
    with pytest.raises(ProbeError, match="ValueError: no"):
        probe("raise ValueError('no')", seconds=30)
    with pytest.raises(ProbeError, match="code 3"):
        probe("raise SystemExit(3)", seconds=30)


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "doctor", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


def test_the_command_says_ready_or_what_failed(tmp_path: Path):
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: demo\nquestion: q?\nsubject: harness.testing.stub\nrecipe: {}\n"
        "factors: {part.x: [0.0, 1.0]}\n"
    )
    good = doctor(str(study), "--inline")
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.endswith("ready to run\n")
    assert "torch" not in good.stdout, "the stub needs none"
    bad = doctor(str(study), "--inline", "--mlflow", "http://127.0.0.1:1", "--json")
    assert bad.returncode == 1
    told = json.loads(bad.stdout)
    assert told["ok"] is False
    (failed,) = [f for f in told["findings"] if f["state"] == "fail"]
    assert failed["check"] == "mlflow"
    assert failed["fix"]


@pytest.mark.parametrize(("subject", "ours"), [
    ("recipes.subject", True),
    ("lab.subject", False),
    (settings(), False),
    (settings(student="{attempt}/student"), True),
    (settings(student="{attempt}/student", measured_by="lab.subject"), False),
])  # fmt: skip
def test_the_packages_of_our_subject_are_looked_for_where_it_measures(
    subject: object, ours: bool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(machine, "packages", asked.append)
    study = SimpleNamespace(subject=subject, resources=Resources(), file=Path("study.yaml"))
    findings = _findings(study, workspace, None, None, True)  # type: ignore[arg-type]
    next(findings), next(findings)
    assert asked == [ours]
