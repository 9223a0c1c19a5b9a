"""Where the code of a recipe or a reference row begins: what is reached by a name in data.

`reached.py` follows names in source. What a run finds by a string instead stands here, and only
here: the functions that the harness calls, the class that trains an objective (`trained_by` of its
settings), the model family, the protocol's import strings; and file sources, which only recipes
whose data are files run. So a new objective or family leaves the digests of recipes without it
alone. `BY_STRING` lists every place in the source that looks something up by a string, and says
which root answers it; a test finds places that are not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recipes.definitions import IMPORT_STRING
from recipes.families.registry import module_of
from recipes.fingerprints import used_files
from recipes.objectives.settings import OBJECTIVES
from recipes.reached import Limits, Target

FRONTS = frozenset({"recipes.subject"})
"""What the harness imports to ask about trials, before any begins in one of the functions below."""
TRAINED, MEASURED, ROW = (
    Target("recipes.subject", name) for name in ("run", "measure", "reference")
)
FILES = frozenset({"recipes.data.files", "recipes.data.rows"})
"""Run only by recipes whose data are files."""
OWN = frozenset(
    f"recipes.{name}"
    for name in ("code_roots", "definitions", "reached", "recorded_by_file", "source_files")
)
"""What makes code digests, which changes no number."""
CHOICES = frozenset(
    {
        Target("recipes.objectives.settings", "AnyObjective"),
        Target("recipes.objectives.settings", "OBJECTIVES"),
        Target("recipes.recipe", "AnyModel"),
        Target("recipes.recipe", "Family"),
    }
)
"""Every objective, every family: a resolved recipe has chosen among them."""
BY_STRING = {
    "recipes.objectives.registry:objective_of": "`trained_by`, in `recipe_roots`",
    "recipes.families.registry:family_of": "`opened` of the family, in `recipe_roots`",
    "evaluation.import_string:resolve": "the protocol's import strings, in `named`",
    "evaluation.protocol:FILED_REFERENCES": "compared with the protocol's own strings, which are",
    "evaluation.protocol:FILED_EDITS": "compared with the protocol's own strings, which are",
}
"""`module:definition` in which something is looked up by a string, and what makes it a root."""


def recipe_roots(recipe: Mapping[str, Any]) -> list[Target]:
    """Where training, or measuring a reference row, begins; the protocol apart.

    Args:
        recipe: resolved, or the settings of a reference row.
    """
    family = Target(module_of(recipe.get("family", "toyworld")), "opened")
    if "row" in recipe:  # which also stands for students from elsewhere, that are only measured
        return [ROW, MEASURED, family]
    settings = OBJECTIVES[recipe["objective"]["name"]]
    trained_by = settings.trained_by.split(":")
    chosen = [Target(settings.__module__, settings.__name__), Target(trained_by[0], trained_by[1])]
    return [TRAINED, MEASURED, family, *chosen]


def limits(*, files: bool) -> Limits:
    """Where following names ends; `files` where data are files."""
    return Limits(closed=OWN if files else OWN | FILES, fronts=FRONTS, choices=CHOICES)


def reads_files(recipe: Mapping[str, Any]) -> bool:
    """Whether the data of a recipe are files, at least in part."""
    return bool(used_files(recipe))


def named(value: Any) -> Iterator[str]:
    """Import strings of ours in plain data, such as a protocol's."""
    if isinstance(value, str):
        if IMPORT_STRING.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from named(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from named(item)
