"""Code digests of the two families: the toy world is not moved by files of the large one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import subject
from recipes.recipe import Recipe
from recipes.source_files import ROOT
from tests.recipes.families.test_qwen_image_cost import SOURCES
from tests.recipes.families.test_qwen_image_trial import _recipe, home
from tests.recipes.test_source_files import RUN

__all__ = ["home"]  # a fixture

LARGE = {
    "family": "qwen-image",
    "model": {"path": "nowhere"},
    "data": {"sources": SOURCES, "composition": {"some": 1}, "edit_types": {"edits": 1}},
}


def _files(recipe: dict, protocol: str) -> set[str]:
    resolved = Recipe.model_validate(recipe).model_dump(mode="json")
    return set(subject.fingerprints(resolved, protocol).code_files)


def test_a_large_recipe_runs_its_family_and_judge():
    files = _files(LARGE, "qwen-image-v1")
    for name in ("", "_text", "_student", "_files"):
        assert f"recipes/families/qwen_image{name}.py" in files
    assert "evaluation/judges/vision_language.py" in files
    assert "recipes/families/qwen_image_cost.py" not in files  # no student hangs on it


def test_the_toy_world_runs_none_of_it():
    files = _files({}, "toyworld-v1")
    assert "recipes/families/toyworld.py" in files
    found = {name for name in files if "qwen" in name or "judge" in name or "pretrained" in name}
    assert found <= {"recipes/families/qwen_image_settings.py"}


@pytest.mark.slow
def test_nothing_that_a_trial_imports_is_left_out(weights, home, tmp_path):
    recipe, protocol = _recipe(weights, home), str(home / "tiny-files-v1.yaml")
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(recipe), protocol, str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = {
        Path(file).relative_to(ROOT).as_posix() for file in json.loads(done.stdout.splitlines()[-1])
    }
    known = {name.split("#")[0] for name in subject.fingerprints(recipe, protocol).code_files}
    assert imported <= known | {"recipes/__init__.py", "evaluation/__init__.py"}
