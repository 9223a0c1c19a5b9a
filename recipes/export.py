"""Students as folders that diffusers loads, with a card that says how they are sampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.recipe import Recipe
from recipes.references import own_teacher

if TYPE_CHECKING:
    from torch import nn

FOLDER = "student"


def export(network: Any, recipe: Recipe, folder: Path, cycles: int) -> str:
    """Write `<folder>/student` (a diffusers model folder and card.json); returns its name."""
    home = folder / FOLDER
    network.save_pretrained(home)
    teacher, note = own_teacher(recipe.model_dump(mode="json"))
    card = {
        "family": recipe.family,
        "rungs": recipe.student.rungs,
        "shift": recipe.student.shift,
        "renoises": recipe.objective.renoises,
        "guidance_scale": recipe.guidance.scale,
        "teacher": teacher,
        "teacher_note": note,
        "cycles": cycles,
    }
    (home / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    return FOLDER


def load_student(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Network in eval mode and its card.

    Raises:
        ValueError: the folder is not one that `export` wrote.
    """
    from diffusers import QwenImageTransformer2DModel

    card = folder / "card.json"
    if not card.is_file():
        raise ValueError(f"{folder} holds no card.json; expected a student folder written by `run`")
    network = QwenImageTransformer2DModel.from_pretrained(folder, local_files_only=True)
    return network.eval(), json.loads(card.read_text())
