"""Code digests: deaf to comments, complete for what a run imports, and no wider than a recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import source_files, subject
from recipes.objectives.settings import OBJECTIVES
from recipes.recipe import Recipe
from recipes.source_files import ROOT, code_of
from recipes.source_text import source_text
from tests.recipes.data.files import write_jsonl

PROTOCOL = str(Path(__file__).parent / "toyworld-tiny-v1.yaml")
SETTINGS = ROOT / "recipes" / "objectives" / "settings.py"

RUN = """
import json, sys
from pathlib import Path
from harness.contract import Context, Measurement
from harness.seeds import stream_for
from recipes import subject
recipe, protocol, home = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
home.mkdir()
context = Context(
    key="k", replicate=0, seed=stream_for(0), folder=home,
    measurement=Measurement(protocol=protocol), cache=home / "cache",
)
entrance = subject.reference if "row" in recipe else subject.run
last = list(entrance(recipe, context))[-1]
assert last.outcome.state == "done"
packages = ("recipes", "evaluation")
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split(".")[0] in packages]))
"""


def _recipe(**fields) -> dict:
    small = {"cycles": 1, "batch_size": 4}
    return Recipe.model_validate({"train": small, **fields}).model_dump(mode="json")


def _objective(name: str) -> dict:
    more = {"warmup_fake_updates": 1, "fake_updates": 1} if "dmd" in name else {}
    return {"name": name, **more}


def _files(recipe: dict) -> dict[str, str]:
    return subject.fingerprints(recipe, PROTOCOL).code_files


def _imported(recipe: dict, tmp_path: Path) -> set[str]:
    """Source files of ours that a real run in a process of its own has imported."""
    command = [sys.executable, "-c", RUN, json.dumps(recipe), PROTOCOL, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout.splitlines()[-1])
    return {Path(file).relative_to(ROOT).as_posix() for file in files if file}


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_a_run_imports_is_never_left_out(name: str, tmp_path: Path):
    recipe = _recipe(objective=_objective(name))
    imported = _imported(recipe, tmp_path)
    assert OBJECTIVES[name].trained_by.split(":")[0].replace(".", "/") + ".py" in imported
    assert imported <= _files(recipe).keys()


@pytest.mark.slow
def test_nor_what_files_of_data_adapters_and_panels_bring_in(tmp_path: Path):
    rows = [{"caption": 'a red sign that says "TEA"'}]
    data = {
        "sources": {
            "mine": {"kind": "files", "path": str(write_jsonl(tmp_path / "m.jsonl", rows))}
        },
        "composition": {"mine": 1},
    }
    recipe = _recipe(
        data=data,
        objective=_objective("dmd"),
        roles={"kind": "adapters", "activation_checkpointing": True},
        teachers={"base": {"by_condition": {"t2i": 1, "other": 0}}, "specialist": {}},
    )
    imported = _imported(recipe, tmp_path)
    assert "recipes/data/rows.py" in imported
    assert imported <= _files(recipe).keys()


@pytest.mark.slow
def test_nor_what_a_reference_row_brings_in(tmp_path: Path):
    row = subject.references(_recipe(), PROTOCOL)["autoencoder"]
    imported = _imported(row, tmp_path)
    assert imported <= _files(row).keys()
    assert "recipes/cycle.py" not in _files(row), "training does not change a row"


def test_what_other_recipes_run_is_left_out():
    ours = _files(_recipe(objective={"name": "dmd"}))
    assert "recipes/objectives/dmd.py" in ours
    assert "evaluation/frechet.py" in ours
    others = {"consistency", "dp_dmd", "decoupled_dmd", "velocity_regression"}
    left_out = {f"recipes/objectives/{name}.py" for name in others}
    left_out |= {"recipes/data/rows.py", "recipes/data/files.py", "recipes/toyworld/fit_teacher.py"}
    assert not left_out & ours.keys()
    assert all((ROOT / path.split("#")[0]).is_file() for path in (*ours, *left_out))


def test_arms_of_two_objectives_agree_in_every_file_of_both():
    one, two = (_files(_recipe(objective={"name": n})) for n in ("dmd", "consistency"))
    assert one != two
    assert all(one[path] == two[path] for path in one.keys() & two.keys())


def test_only_what_is_said_counts():
    said = (
        "import os\n\n\nclass A:\n    x: int = 1\n\n    def f(self):\n"
        '        return {self.x: "x"}\n'
    )
    retold = (
        '"""A module."""\nimport os  # of course\nclass A:\n    """It."""\n    x: int = 1\n'
        '    """One."""\n    def f(self):\n        # why\n'
        "        return {\n            self.x: 'x',\n        }\n"
    )
    one, two = (source_text(text.encode(), "recipes") for text in (said, retold))
    assert one == two
    for before, after in (("= 1", "= 2"), ('"x"', '"y"'), ("import os", "import re"), ("f(", "g(")):
        other = source_text(said.replace(before, after).encode(), "recipes")
        assert other["digest"] != one["digest"]


def test_imports_are_found_wherever_they_stand():
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import recipes.a\nelse:\n"
        "    import recipes.b\ntry:\n    from . import c\nexcept ImportError:\n    pass\n"
        "def f():\n    from ..evaluation.d import e\n"
    )
    found = source_text(text.encode(), "recipes.objectives")["imports"]
    assert set(found) == {
        ("typing", "TYPE_CHECKING", False),
        ("recipes.b", "", False),
        ("recipes.objectives", "c", False),
        ("recipes.evaluation.d", "e", True),
    }


def _with(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> dict[str, str]:
    """Digest by objective, had the settings of the objectives another text."""
    text = SETTINGS.read_text()
    assert before in text
    changed = source_text(text.replace(before, after).encode(), "recipes.objectives")
    texts = source_files._texts() | {"recipes.objectives.settings": changed}
    monkeypatch.setattr(source_files, "_texts", lambda: texts)
    source_files._code.cache_clear()
    found = {name: code_of(_recipe(objective={"name": name}), ()).digest for name in OBJECTIVES}
    monkeypatch.undo()
    source_files._code.cache_clear()
    return found


def test_a_new_objective_makes_no_other_trial_stale(monkeypatch: pytest.MonkeyPatch):
    base = _with(monkeypatch, "Dmd", "Dmd")
    more = 'class Pull(Rolled, Fakeless):\n    name: Literal["pull"] = "pull"\n\n\n'
    place = "def _named("
    assert _with(monkeypatch, place, more + place) == base
    assert _with(monkeypatch, "Dmd | DpDmd |", "Dmd | DpDmd | Pull |") == base


def test_settings_count_for_those_who_need_them(monkeypatch: pytest.MonkeyPatch):
    base = _with(monkeypatch, "Dmd", "Dmd")

    def touched(before: str, after: str) -> set[str]:
        return {n for n, code in _with(monkeypatch, before, after).items() if code != base[n]}

    assert touched("grid: int = Field(\n        20", "grid: int = Field(\n        30") == {
        "consistency"
    }
    assert {"dmd", "dp_dmd", "decoupled_dmd"} <= touched(
        "low: float = Field(0.02", "low: float = Field(0.03"
    )
    assert touched("return rungs - 1 if", "return rungs - 2 if") >= {"dmd", "dp_dmd"}


def test_what_was_read_once_is_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fresh = source_files._texts.__wrapped__()
    monkeypatch.setattr(source_files, "source_text", None)  # nothing is read again
    assert json.dumps(source_files._texts.__wrapped__()) == json.dumps(fresh)
    (tmp_path / "stillhouse" / "source-files.json").write_text("{}")
    with pytest.raises(TypeError):
        source_files._texts.__wrapped__()
