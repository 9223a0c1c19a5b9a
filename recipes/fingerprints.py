"""Digests of what surrounds a recipe: data, frozen weights, source files. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recipes.data.files import files_digest
from recipes.families import qwen_image_files
from recipes.toyworld.items import file_digest, renderer_of

ROOT = Path(__file__).parent.parent
FROZEN = ("autoencoder", "text_encoder")
"""Frozen parts that every student of the toy world is trained through."""


def data_digest(recipe: Mapping[str, Any]) -> str:
    """What training sees beside the recipe: the rendered world, frozen weights, files of data.

    The settings of a reference row name their weights themselves.
    """
    if recipe.get("family") == "qwen-image":
        return qwen_image_files.digest(recipe)
    folder = ROOT / "recipes" / "toyworld" / "weights"
    rows = recipe["teachers"].values() if "teachers" in recipe else [recipe]
    # Specialists are stored as their difference from the base.
    named = {"teacher", *(row.get("weights", "teacher") for row in rows)}
    parts = {
        name: file_digest(folder / f"{name}.safetensors") for name in sorted({*FROZEN, *named})
    }
    parts["renderer"] = renderer_of(folder / "autoencoder.safetensors")
    data = recipe.get("data", {})
    for name, source in data.get("sources", {}).items():
        used = name in data["composition"] or name in data["edit_types"]
        if used and source["kind"] == "files":
            parts[f"source {name}"] = files_digest(source)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code_files() -> dict[str, str]:
    """Digest of every source file that training and measuring import, by path from the root."""
    found = {}
    for package in ("recipes", "evaluation"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.stem == "train" or path.stem.startswith("fit_"):
                continue  # makes the shipped weights, which are digested themselves
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            found[path.relative_to(ROOT).as_posix()] = digest
    return found


def code_digest() -> str:
    """One digest over `code_files`."""
    return hashlib.sha256(json.dumps(code_files(), sort_keys=True).encode()).hexdigest()[:32]
