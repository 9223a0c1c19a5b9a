import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BACK = "from circled.upper import name"
PLACES = {
    "at the top": BACK,
    "inside a function": f"def late():\n    {BACK}",
    "for types only": f"from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    {BACK}",
}


def linted(folder: Path, files: dict[str, str]) -> tuple[int, str]:
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "circled" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    settings = folder / "linted.toml"
    settings.write_text(
        "[tool.importlinter]\n"
        'root_packages = ["circled"]\n'
        'contract_types = ["acyclic_files: tests.acyclic_files.AcyclicFiles"]\n'
        "[[tool.importlinter.contracts]]\n"
        'name = "no circle"\n'
        'type = "acyclic_files"\n'
        'packages = ["circled"]\n'
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", settings, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_circle_is_told_wherever_its_imports_stand(tmp_path: Path, place: str):
    code, told = linted(
        tmp_path,
        {
            "upper.py": "from circled.middle import name",
            "middle.py": "from circled.lower import name",
            "lower.py": PLACES[place],
        },
    )
    assert code == 1
    assert "circled.lower -> circled.upper -> circled.middle -> circled.lower" in told


def test_a_folder_may_stand_above_and_below_a_file_outside_it(tmp_path: Path):
    files = {
        "room/__init__.py": "",
        "room/upper.py": "from circled.middle import name",
        "middle.py": "from circled.room.lower import name",
        "room/lower.py": "name = 1",
    }
    code, told = linted(tmp_path, files)
    assert code == 0, told
    assert "1 kept, 0 broken" in told


def test_two_circles_are_told_each_once(tmp_path: Path):
    files = {
        "a.py": "import circled.b\nimport circled.c",
        "b.py": "import circled.a",
        "c.py": "import circled.a",
    }
    code, told = linted(tmp_path, files)
    assert code == 1
    assert [line for line in told.splitlines() if "->" in line] == [
        "circled.a -> circled.b -> circled.a",
        "circled.a -> circled.c -> circled.a",
    ]
