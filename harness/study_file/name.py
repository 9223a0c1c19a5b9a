"""What is read of a study file without checking it: its study's name, and when it was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def name_in(file: Path) -> str:
    """The study's name; the file's own where it gives none or is no YAML."""
    return str(_content(file).get("name", file.stem))


def newest(file: Path) -> float:
    """Unix time at which the study's file, or the recipe file that it names, was changed last."""
    recipe = _content(file).get("recipe")
    files = [file, file.parent / recipe] if isinstance(recipe, str) else [file]
    return max(found.stat().st_mtime for found in files if found.exists())


def _content(file: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(file)
    except (YAMLError, OSError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
