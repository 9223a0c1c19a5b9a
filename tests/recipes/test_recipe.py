"""Recipe: mixtures, refusals, and no torch on import."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from recipes.recipe import Recipe


def test_mixtures_are_normalised_and_zeros_dropped():
    recipe = Recipe.model_validate(
        {"tasks": {"t2i": 7, "edit": 3}, "data": {"composition": {"portrait": 2, "text": 0}}}
    )
    assert recipe.tasks == {"t2i": 0.7, "edit": 0.3}
    assert recipe.data.composition == {"portrait": 1.0}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"tasks": {"t2i": 0, "edit": 0}}, "sum to 0"),
        ({"tasks": {"t2i": -1, "edit": 2}}, "at least 0"),
        ({"tasks": {"t2i": 1, "video": 1}}, "video"),
        ({"data": {"composition": {"cats": 1}}}, "cats"),
        ({"student": {"init": "nobody"}}, "nobody"),
        ({"guidance": {"scael": 2}}, "scael"),
        ({"objective": {"renoise": {"low": 0.9, "high": 0.1}}}, "below"),
        ({"teachers": {}}, "at least one"),
    ],
)
def test_bad_recipes_are_refused_by_name(bad: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(bad)


def test_importing_the_recipe_and_the_subject_imports_nothing_heavy():
    code = (
        "import sys, recipes.recipe, recipes.subject;"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'scipy', 'diffusers'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
