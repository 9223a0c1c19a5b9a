"""Keys do not hang on the versions of libraries: the same on the lowest that are allowed."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.compat.golden import FILE, ROOT, golden

IMPORTED = ("pydantic", "rfc8785", "ruamel.yaml", "typer", "rich", "filelock", "packaging")
"""What `plan` of these studies imports."""


def kept(made: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {name: {k: v for k, v in of.items() if k != "code"} for name, of in made.items()}


def test_keys_are_the_golden_ones():
    assert kept(golden()) == json.loads(FILE.read_text())


def test_a_key_is_no_number():
    keys = [key for of in json.loads(FILE.read_text()).values() for key in of["keys"].values()]
    assert keys
    assert all(re.fullmatch("k[0-9a-f]{15}", key) for key in keys)


@pytest.mark.slow
def test_the_lowest_versions_give_the_same_keys_and_code(tmp_path: Path):
    """Fetches wheels: the lowest version of everything that `plan` imports."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not in this environment")
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = [d for d in listed if re.split(r"[\[>=<]", d)[0] in IMPORTED]
    assert len(wanted) == len(IMPORTED)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, tmp_path / "env"], check=True)
    subprocess.run(
        [uv, "pip", "install", "-q", "-p", python, "--resolution", "lowest-direct", *wanted],
        check=True,
    )
    versions = subprocess.run(
        [uv, "pip", "freeze", "-p", python], check=True, capture_output=True, text=True
    ).stdout
    lowest = next(d for d in wanted if d.startswith("pydantic")).replace(">=", "==")
    assert f"{lowest}.0" in versions
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [python, "-m", "tests.compat.golden"],
        check=True, capture_output=True, text=True, cwd=ROOT, env=env,
    ).stdout  # fmt: skip
    assert json.loads(said) == golden()
