"""Qwen-Image's files on this machine: what is missing, and a digest of what is there. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recipes.data.files import ROOT, MissingSourceError, files_digest, place
from recipes.data.settings import FileSource
from recipes.families.qwen_image_settings import QwenImage
from recipes.recipe import Recipe

PARTS = ("transformer", "vae", "text_encoder", "tokenizer")
SAMPLE = 1 << 16
"""Bytes read at either end of a file of weights: 50 GB are not hashed in a plan."""
ABSENT = "not here"


def folder_of(path: str) -> Path:
    """A folder as the recipe names it."""
    return ROOT / Path(os.path.expandvars(path)).expanduser()


def fetching(settings: QwenImage) -> str:
    """The command that fetches the weights, from wherever it is typed."""
    folder = str(folder_of(settings.path))
    return shlex.join(["hf", "download", settings.repository, "--local-dir", folder])


def folders(settings: QwenImage, *, edits: bool) -> dict[str, Path]:
    """Every folder a trial reads, by what it holds."""
    home = folder_of(settings.path)
    parts = (*PARTS, "processor") if edits and settings.sees_source else PARTS
    found = {part: home / part for part in parts}
    return found | {f"weights {name}": folder_of(p) for name, p in settings.weights.items()}


def refuse_missing(settings: QwenImage, *, edits: bool) -> None:
    """Refuse to start without weights.

    Raises:
        FileNotFoundError: with the folder and the command that fetches it.
    """
    for part, folder in folders(settings, edits=edits).items():
        if not _there(folder):
            raise FileNotFoundError(f"{part}: nothing in {folder}; run: {_how(settings, part)}")


def missing(recipe: Mapping[str, Any], *, edits: bool) -> tuple[str, ...]:
    """What is not on this machine of the weights and data of a resolved recipe, one line each.

    `edits` says whether edits are measured; those that are trained on are known from the recipe.
    """
    settings = QwenImage.model_validate(recipe["model"])
    edits = edits or "edit" in _tasks(recipe)
    absent: dict[str, list[str]] = {}
    for part, folder in folders(settings, edits=edits).items():
        if not _there(folder):
            absent.setdefault(_how(settings, part), []).append(part)
    told = [
        f"weights in {folder_of(settings.path)}: {', '.join(parts)}; {how}"
        if how == fetching(settings)
        else f"{', '.join(parts)}; {how}"
        for how, parts in absent.items()
    ]
    for name, source in _sources(recipe).items():
        try:
            place(source)
        except MissingSourceError:
            told.append(f"data source {name}: {ROOT / os.path.expandvars(source.path)}")
    return tuple(told)


def digest(recipe: Mapping[str, Any]) -> str:
    """What training sees beside the recipe: weights and rows of data.

    A declared `digest` stands for what it names, here or not. What declares none is told by its
    content, and by `not here` where it is missing: such keys change when it arrives.
    """
    settings = QwenImage.model_validate(recipe["model"])
    parts = {"weights": settings.digest or ""}
    if not settings.digest:
        for part, folder in folders(settings, edits="edit" in _tasks(recipe)).items():
            parts[part] = _weights_digest(folder) if _there(folder) else ABSENT
    for name, source in _sources(recipe).items():
        try:
            parts[f"source {name}"] = source.digest or files_digest(source.model_dump())
        except MissingSourceError:
            parts[f"source {name}"] = ABSENT
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _tasks(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """Tasks that are trained on; none for the settings of a reference row."""
    if "tasks" not in recipe:
        return ()
    return Recipe.model_validate(dict(recipe)).mixture.tasks


def _sources(recipe: Mapping[str, Any]) -> dict[str, FileSource]:
    data = recipe.get("data") or {}
    shares = {"t2i": data.get("composition", {}), "edit": data.get("edit_types", {})}
    used = {name for task in _tasks(recipe) for name in shares[task]}
    return {
        name: FileSource.model_validate(source)
        for name, source in data.get("sources", {}).items()
        if name in used and source["kind"] == "files"
    }


def _there(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _how(settings: QwenImage, part: str) -> str:
    if part.startswith("weights "):
        return f"put a transformer in diffusers' layout at {settings.weights[part[8:]]}"
    return fetching(settings)


def _weights_digest(folder: Path) -> str:
    files = sorted(_below(folder))
    return _sampled(folder, tuple((f, f.stat().st_size, f.stat().st_mtime_ns) for f in files))


def _below(folder: Path) -> Iterator[Path]:
    """Files below, links followed.

    Raises:
        ValueError: a link leads nowhere, or round in a circle.
    """
    for home, folders, names in os.walk(folder, followlinks=True):
        above = Path(home).resolve()
        for name in folders:
            below = (Path(home) / name).resolve()
            if below == above or below in above.parents:
                raise ValueError(f"{Path(home) / name} is a link round in a circle")
        for name in names:
            file = Path(home) / name
            if not file.is_file():
                raise ValueError(f"{file} is a link that leads nowhere, or no file")
            yield file


@cache
def _sampled(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    """Names, sizes and the two ends of every file; small ones are read whole."""
    content = hashlib.sha256()
    for file, size, _ in files:
        content.update(f"{file.relative_to(folder)}\0{size}\0".encode())
        for part in _ends(file, size):
            content.update(part)
    return content.hexdigest()


def _ends(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as handle:
        if size <= 16 * SAMPLE:
            yield handle.read()
            return
        # An edit in the middle of a shard is not seen; who needs that declares `model.digest`.
        yield handle.read(SAMPLE)
        handle.seek(size - SAMPLE)
        yield handle.read(SAMPLE)
