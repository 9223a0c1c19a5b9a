"""Digest of the data and frozen weights that surround a recipe. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.toyworld.items import file_digest, renderer_of

ROOT = Path(__file__).parent.parent
FROZEN = ("autoencoder", "text_encoder")
"""Frozen parts that every student of the toy world is trained through."""


def data_digest(recipe: Mapping[str, Any]) -> str:
    """What training sees beside the recipe: the rendered world, frozen weights, files of data.

    The settings of a reference row name their weights themselves.
    """
    folder = ROOT / "recipes" / "toyworld" / "weights"
    # A recipe names its frozen weights without containing them, and a student depends on them as
    # much as on its prompts. The price: training the shipped weights again makes every trial a new
    # one.
    rows = recipe["teachers"].values() if "teachers" in recipe else [recipe]
    # Specialists are stored as their difference from the base.
    named = {"teacher", *(row.get("weights", "teacher") for row in rows)}
    parts = {
        name: file_digest(folder / f"{name}.safetensors") for name in sorted({*FROZEN, *named})
    }
    parts["renderer"] = renderer_of(folder / "autoencoder.safetensors")
    for name, source in used_files(recipe).items():
        from recipes.data.files import files_digest  # no other trial runs that code

        parts[f"source {name}"] = files_digest(source)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def used_files(recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sources that take part and are files, by name."""
    data = recipe.get("data", {})
    return {
        name: source
        for name, source in data.get("sources", {}).items()
        if source["kind"] == "files" and (name in data["composition"] or name in data["edit_types"])
    }
