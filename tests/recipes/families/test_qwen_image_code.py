"""Code digests of the two families: the toy world is not moved by files of the large one."""

from __future__ import annotations

import pytest

from recipes import subject
from recipes.recipe import Recipe
from tests.recipes.executed_code import executed
from tests.recipes.families.test_qwen_image_cost import SOURCES
from tests.recipes.families.test_qwen_image_trial import _recipe, home
from tests.recipes.test_code_executed import checked

__all__ = ["home"]  # a fixture

LARGE = {
    "family": "qwen-image",
    "model": {"path": "nowhere"},
    "data": {"sources": SOURCES, "composition": {"some": 1}, "edit_types": {"edits": 1}},
}


def _files(recipe: dict, protocol: str) -> set[str]:
    resolved = Recipe.model_validate(recipe).model_dump(mode="json")
    found = subject.fingerprints(resolved, protocol).code_files
    return {name.partition("#")[0] for name in found}


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
    assert not found


@pytest.mark.slow
def test_nothing_that_a_trial_executes_is_left_out(weights, home, tmp_path):
    recipe, protocol = _recipe(weights, home), str(home / "tiny-files-v1.yaml")
    ran = executed(recipe, tmp_path / "run", protocol=protocol)
    assert "recipes/families/qwen_image.py#opened" in ran
    checked(ran, recipe, protocol)
