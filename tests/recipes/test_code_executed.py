"""What a real run executes is in its code digest: small runs, with every function of ours noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recipes import code_roots, subject
from recipes.recipe import Recipe
from tests.recipes.data.files import image_folder, write_jsonl
from tests.recipes.executed_code import PROTOCOL, executed

ASKED_BEFORE = {
    "evaluation/catalogue.py#catalogue",
    "evaluation/catalogue.py#_narrowed",
    "evaluation/protocol.py#available_protocols",
}
"""What the harness is told of metrics and protocols as it imports the subject: no part of a run."""
OWN = {f"{module.replace('.', '/')}.py" for module in code_roots.OWN}


def _recipe(**fields: Any) -> dict[str, Any]:
    small = {"cycles": 1, "batch_size": 4}
    return Recipe.model_validate({"train": small, **fields}).model_dump(mode="json")


def _objective(name: str) -> dict[str, Any]:
    more = {"warmup_fake_updates": 1, "fake_updates": 1} if "dmd" in name else {}
    return {"name": name, **more}


def _prompts(home: Path) -> dict[str, Any]:
    rows = [{"caption": 'a red sign that says "TEA"'}]
    path = write_jsonl(home / "prompts.jsonl", rows)
    return {
        "sources": {"mine": {"kind": "files", "path": str(path)}},
        "composition": {"mine": 0.5, "portrait": 0.5},
    }


def _pictures(home: Path) -> dict[str, Any]:
    image_folder(home / "edits", "scene", 3)
    mine = {"kind": "files", "path": str(home / "edits"), "task": "edit"}
    return {"sources": {"mine": mine}, "edit_types": {"mine": 1}}


def checked(ran: set[str], recipe: dict[str, Any], protocol: str = PROTOCOL) -> None:
    """Nothing that ran is outside the digest; what is inside and did not run is only told."""
    known = subject.fingerprints(recipe, protocol).code_files.keys()
    ran = {name for name in ran - ASKED_BEFORE if name.partition("#")[0] not in OWN}
    assert len(ran) > 40, "something was noted"
    print(f"{len(ran)} ran of {len(known)} ({1 - len(ran) / len(known):.0%} did not)")
    assert sorted(ran - known) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dmd", "dp_dmd", "consistency"])
def test_objectives(name: str, tmp_path: Path):
    recipe = _recipe(objective=_objective(name))
    ran = executed(recipe, tmp_path / "run")
    assert code_roots.recipe_roots(recipe)[-1].module.replace(".", "/") in str(sorted(ran))
    checked(ran, recipe)


@pytest.mark.slow
def test_files_adapters_and_panels(tmp_path: Path):
    recipe = _recipe(
        data=_prompts(tmp_path),
        objective=_objective("decoupled_dmd"),
        roles={"kind": "adapters", "activation_checkpointing": True},
        teachers={"base": {"by_condition": {"t2i": 1, "other": 0}}, "specialist": {}},
    )
    ran = executed(recipe, tmp_path / "run")
    assert "recipes/data/rows.py#Rows" in ran
    assert "recipes/roles/adapters.py#RoleLinear" in ran
    checked(ran, recipe)


@pytest.mark.slow
def test_files_of_edits_and_guidance_by_rung(tmp_path: Path):
    recipe = _recipe(
        data=_pictures(tmp_path),
        tasks={"edit": 1},
        guidance={"scale": 2.0, "by_rung": [1.0, 2.0, 3.0, 4.0], "rescale": 0.5},
        objective={"name": "dmd", "fake_updates": 1, "rollout": "renoise"},
    )
    ran = executed(recipe, tmp_path / "run")
    assert "recipes/data/rows.py#Rows" in ran
    checked(ran, recipe)


@pytest.mark.slow
def test_a_run_that_is_resumed(tmp_path: Path):
    objective = _objective("velocity_regression")
    recipe = _recipe(train={"cycles": 2, "batch_size": 4}, objective=objective)
    ran = executed(recipe, tmp_path / "run", mode="resume")
    assert {"recipes/checkpoint.py#save", "recipes/checkpoint.py#load_latest"} <= ran
    checked(ran, recipe)


@pytest.mark.slow
def test_measuring_a_kept_student(tmp_path: Path):
    recipe = _recipe(objective=_objective("dmd"))
    ran = executed(recipe, tmp_path / "run", mode="measure")
    assert "recipes/subject/measuring.py#measured_student" in ran
    assert "recipes/subject/training.py#trained" not in ran
    checked(ran, recipe)
    checked(ran, subject.references(recipe, PROTOCOL)["data"])  # of students from elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("name", ["teacher-g2", "autoencoder"])
def test_reference_rows(name: str, tmp_path: Path):
    rows = subject.references(_recipe(), PROTOCOL)
    row = next(row for key, row in rows.items() if key.startswith(name.partition("-")[0]))
    ran = executed(row, tmp_path / "run", mode="reference")
    checked(ran, row)
    assert "recipes/cycle.py#Distillation" not in subject.fingerprints(row, PROTOCOL).code_files


def test_what_a_recipe_alone_runs(tmp_path: Path):
    """The short one: what reading a recipe executes is a part of what training it does."""
    recipe = _recipe(objective=_objective("consistency"))
    ran = executed(recipe, tmp_path / "run", mode="read")
    assert "recipes/objectives/settings.py#Consistency" in ran
    checked(ran, recipe)
