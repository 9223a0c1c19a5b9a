"""Secrets of a command's `env`, and credentials in addresses: used, and told to nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.executors.job_file import take_job, write_job
from harness.journal.workspace import Workspace
from harness.slurm_script import script
from harness.study.load import load_study
from harness.text.secrets import is_secret, public, secrets_of, without_credentials
from tests.harness.test_slurm_script import request
from tests.harness.trainers import COMMAND, OWN, TRAINER, settings
from tests.support.executor_contract import make_job

SECRET, OUTSIDE = "hunter2-in-the-file", "swordfish-from-outside"
ENV = {
    "COLOUR": "red",
    "LAB_TOKEN": SECRET,
    "MY_PASSWORD": SECRET,
    "EXTRA": "{env:LAB_EXTRA}",
    "OTHER_KEY": "{env:LAB_EXTRA}",
}
CHECK = """
import hashlib, os
def told(name):
    return hashlib.sha256(os.environ[name].encode()).hexdigest()[:12]
assert told("LAB_TOKEN") == told("MY_PASSWORD") == "07238be6f12a"
assert told("EXTRA") == told("OTHER_KEY") == "dc8c24a67657"
"""


def write(folder: Path, env: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    home = folder / "studies" / "theirs"
    home.mkdir(parents=True)
    (home / "trainer.py").write_text(CHECK + TRAINER)
    content: dict[str, Any] = {
        "name": "theirs", "question": "Do more steps help?",
        "subject": {"command": COMMAND, "code": ["trainer.py"], "metrics": OWN, "env": env},
        "recipe": {"mode": "", "train": {"steps": 2}, "optimiser": None},
        "factors": {"train.steps": [2, 4]}, "replicates": 1,
        "contrasts": [{"id": "H1", "a": {"train.steps": 4}, "b": {"train.steps": 2}}],
    }  # fmt: skip
    with (home / "study.yaml").open("w") as stream:
        YAML(typ="safe").dump(content, stream)
    return home / "study.yaml"


def cli(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "LAB_EXTRA"}
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=kept | env)


def holding(folder: Path, word: str, but: Path) -> list[Path]:
    files = [f for f in folder.rglob("*") if f.is_file() and f != but]
    return [f for f in files if word.encode() in f.read_bytes()]


@pytest.mark.parametrize("how", ["--inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_they_reach_the_trainer_and_no_record(how: str, tmp_path: Path) -> None:
    """Journal, frozen study, MLflow's database and artifacts, report, and the bundle."""
    file = write(tmp_path / "lab", ENV)
    root = tmp_path / "lab" / "stillhouse-workspace"
    refused = cli("run", str(file), "--inline")
    assert refused.returncode == 2
    assert "LAB_EXTRA" in refused.stderr
    options = ["--inline"] if how == "--inline" else []
    done = cli("run", str(file), *options, LAB_EXTRA=OUTSIDE)
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("report", "plan", "status"):
        told = cli(command, str(file), LAB_EXTRA=OUTSIDE)
        assert SECRET not in told.stdout + told.stderr
    out = tmp_path / "b.zip"
    made = cli("bundle", str(file), "--output", str(out), LAB_EXTRA=OUTSIDE)
    assert made.returncode == 0, made.stderr
    (tmp_path / "unpacked").mkdir()
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "unpacked")
    for folder in (root, tmp_path / "unpacked"):
        assert holding(folder, SECRET, file) == []
        assert holding(folder, OUTSIDE, file) == []
    study = next((tmp_path / "unpacked").rglob("study.yaml"))
    assert "{env:LAB_TOKEN}" in study.read_text()
    assert load_study(study).name == "theirs"
    key = json.loads(cli("status", str(file), "--json").stdout)
    assert "red" in json.dumps(next(r for r in records(root) if r["type"] == "planned")), key


def records(root: Path) -> list[dict[str, Any]]:
    lines = [x for f in (root / "journal").glob("*.jsonl") for x in f.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_reproduce_names_what_must_be_set(tmp_path: Path) -> None:
    file = write(tmp_path / "lab", ENV)
    root = tmp_path / "lab" / "stillhouse-workspace"
    assert cli("run", str(file), "--inline", "--no-mlflow", LAB_EXTRA=OUTSIDE).returncode == 0
    key = next(r["key"] for r in records(root) if r["type"] == "opened")
    place = ["--workspace", str(root), "--level", "train"]
    found = cli("reproduce", key, *place)
    assert found.returncode == 3, found.stdout + found.stderr
    assert all(name in found.stdout for name in ("LAB_TOKEN", "MY_PASSWORD", "LAB_EXTRA"))
    given = {"LAB_TOKEN": SECRET, "MY_PASSWORD": SECRET, "LAB_EXTRA": OUTSIDE}
    again = cli("reproduce", key, *place, **given)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "bit-equal" in again.stdout


def test_another_secret_changes_no_digest(tmp_path: Path) -> None:
    one = load_study(write(tmp_path / "one", ENV))
    two = load_study(write(tmp_path / "two", {**ENV, "LAB_TOKEN": "another"}))
    three = load_study(write(tmp_path / "three", {**ENV, "COLOUR": "blue"}))
    assert one.digest() == two.digest() != three.digest()


def test_what_counts_as_a_secret() -> None:
    for name in ("HF_TOKEN", "aws_secret_access_key", "WANDB_API_KEY", "PASSWD", "Credentials"):
        assert is_secret(name)
    assert not is_secret("OMP_NUM_THREADS")
    env = {"A_KEY": "x", "B": "y", "C_TOKEN": "{env:D}", "E": "{env:F}"}
    assert public(env) == {**env, "A_KEY": "{env:A_KEY}"}
    assert secrets_of(env) == {"A_KEY": "x"}


def test_a_place_for_a_variable_is_in_env_only() -> None:
    with pytest.raises(ValueError, match="has no meaning here"):
        settings(command="python train.py {env:HOME}")
    with pytest.raises(ValueError, match="unknown placeholder"):
        settings(env={"A": "{env:not a name}"})


def test_a_worker_eats_what_it_is_handed(tmp_path: Path) -> None:
    job = make_job(tmp_path, "a" * 16).model_copy(update={"subject": settings(env=ENV)})
    file = tmp_path / "job.json"
    write_job(job, file)
    assert SECRET not in file.read_text()
    assert take_job(file).subject == job.subject
    assert holding(tmp_path, SECRET, file) == []


@pytest.mark.parametrize(("text", "left"), [
    ("http://ada:hunter2@lab:5000/x", "http://lab:5000/x"),
    ("postgresql+psycopg2://ada:p@ss@db/mlflow", "postgresql+psycopg2://db/mlflow"),
    ("failed at https://tok@h/ and http://a:b@c", "failed at https://h/ and http://c"),
    ("mail ada@lab.example", "mail ada@lab.example"),
    ("http://lab/x@y", "http://lab/x@y"),
])  # fmt: skip
def test_addresses_without_credentials(text: str, left: str) -> None:
    assert without_credentials(text) == left


def test_no_batch_script_holds_a_password() -> None:
    text = script(request(mlflow="http://ada:hunter2@track.lab:5000"))
    assert "hunter2" not in text
    assert "ada" not in text
    assert "--mlflow http://track.lab:5000" in text
    assert "MLFLOW_TRACKING_PASSWORD" in text


def test_no_command_prints_a_password(tmp_path: Path) -> None:
    """An absent server at the address, at every command that takes one."""
    (tmp_path / "pyproject.toml").touch()
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: s\nquestion: q?\nsubject: harness.testing.stub\nrecipe: {cycles: 1}\n"
        "factors: {part.x: [0.0, 1.0]}\nreplicates: 1\nprotocol: p\nprimary: score\n"
    )
    address = "http://ada:hunter2@127.0.0.1:9"
    place = Workspace.find(file).root
    for words in (
        ["run", str(file), "--inline", "--mlflow", address],
        ["sync", "s", "--workspace", str(place), "--mlflow", address],
        ["doctor", str(file), "--mlflow", address],
        ["reproduce", "1f9c2a7b", "--from", address],
        ["report", str(file)],
        ["run", str(file), "--inline", "--mlflow", "file://ada:hunter2@127.0.0.1/x"],
    ):
        done = cli(*words)
        assert "hunter2" not in done.stdout + done.stderr, words
    assert holding(tmp_path, "hunter2", file) == []
