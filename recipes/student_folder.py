"""What a folder with a student is, told from its files alone: ours, a pipeline, or a LoRA.

Imports no torch. Weights are read from safetensors only: unpickling runs whatever a file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recipes.limited_json import json_object

TRANSFORMER = "transformer"
PIPELINE_CLASS = "ToyWorldPipeline"
NETWORK_CLASS = "QwenImageTransformer2DModel"
BASES = ("teacher", "specialist", "sign_specialist")
"""Weights that a LoRA may stand on: those of `recipes.toyworld.weights`, which imports torch."""
LORA_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""As diffusers writes it, as PEFT writes it."""
SETTINGS = {"base": str, "rungs": int, "shift": float, "renoises": bool, "guidance_scale": float}
"""What may be said of a student beside its files."""
PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl"}
USUAL = {"rungs": 4, "shift": 3.0, "renoises": False}
SIZES = {"in_channels": 48, "out_channels": 48, "joint_attention_dim": 96}
"""What a network must have to read and write the toy world's latents and texts."""


@dataclass(frozen=True)
class StudentFolder:
    """A student that can be loaded."""

    kind: Literal["transformer", "lora"]
    home: Path
    """Folder of the network, or of the LoRA."""
    weights: str
    """File of the LoRA; empty for a network."""
    base: str
    """Weights that a LoRA stands on; empty for a network."""
    card: dict[str, Any] = field(default_factory=dict)
    """How it is sampled: rungs, shift, renoises; and what is known of its teacher and cycles."""


def examined(folder: Path, settings: Mapping[str, Any] | None = None) -> StudentFolder:
    """The student in a folder.

    Args:
        folder: written by `run`, by diffusers' `save_pretrained`, or holding a LoRA.
        settings: what its files do not say; see `SETTINGS`. They win over the files.

    Raises:
        ValueError: nothing there can be measured, with the reason and what to do.
    """
    said = _settings(folder, settings or {})
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {what}; give the folder of a student")
    lora = next((name for name in LORA_FILES if (folder / name).is_file()), "")
    if lora and not (folder / "model_index.json").exists():
        return _lora(folder, lora, said)
    if "base" in said:
        raise ValueError(f"{folder} holds a whole network; `base` is for a LoRA")
    card = json_object(folder / "card.json") if (folder / "card.json").exists() else {}
    index = folder / "model_index.json"
    if index.exists():
        card = _pipeline(index) | card
    elif not card and not (folder / "config.json").exists():
        raise ValueError(
            f"{folder} is no student: it holds no model_index.json (a diffusers pipeline), no "
            f"card.json (a student that a study left), and no LoRA ({' or '.join(LORA_FILES)})"
            f"{_pickled(folder)}"
        )
    home = folder / TRANSFORMER if (folder / TRANSFORMER).is_dir() else folder
    _check_network(home)
    return StudentFolder("transformer", home, "", "", {**USUAL, **card, **said})


def _settings(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in settings.items():
        wanted = SETTINGS.get(name)
        if wanted is None:
            raise ValueError(
                f"{folder}: a student has no setting {name!r}; allowed: {', '.join(SETTINGS)}"
            )
        # To Python `True` is an int, and an int is no float.
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(f"{folder}: {name} must be {wanted.__name__}, given {value!r}")
    return dict(settings)


def _lora(folder: Path, file: str, said: dict[str, Any]) -> StudentFolder:
    adapter = folder / "adapter_config.json"
    named = json_object(adapter).get("base_model_name_or_path") if adapter.exists() else None
    base = said.pop("base", None) or named
    if base not in BASES:
        given = f"it names {base!r}" if base else "it does not say which"
        raise ValueError(
            f"{folder} holds a LoRA, which needs the base it was trained on ({given}): say "
            f"--base, one of {', '.join(BASES)}"
        )
    if file == "adapter_model.safetensors" and not adapter.exists():
        raise ValueError(f"{folder} lacks adapter_config.json, which says how to scale {file}")
    return StudentFolder("lora", folder, file, str(base), {**USUAL, **said})


def _pipeline(index: Path) -> dict[str, Any]:
    """Sampling as a pipeline's index says it."""
    entries = json_object(index)
    named = entries.get("_class_name")
    called = named[-1] if isinstance(named, list) and named else named
    if called != PIPELINE_CLASS:
        raise ValueError(
            f"{index.parent} is a {called or 'pipeline without a class'}: the protocol asks for "
            f"pictures of the toy world, which only a {PIPELINE_CLASS} draws"
        )
    return {name: entries[name] for name in USUAL if name in entries}


def _check_network(home: Path) -> None:
    config = home / "config.json"
    if not config.is_file():
        raise ValueError(f"{home} lacks config.json, the network's description")
    said = json_object(config)
    if said.get("_class_name") != NETWORK_CLASS:
        raise ValueError(
            f"{home} is a {said.get('_class_name')}; the toy world's are {NETWORK_CLASS}"
        )
    wrong = [f"{k} {said.get(k)} instead of {v}" for k, v in SIZES.items() if said.get(k) != v]
    if wrong:
        raise ValueError(f"{home} does not fit the toy world: {', '.join(wrong)}")
    if not any(home.glob("*.safetensors")):
        raise ValueError(
            f"{home} holds no weights (diffusion_pytorch_model.safetensors){_pickled(home)}"
        )


def _pickled(folder: Path) -> str:
    """A sentence where weights are there, but pickled."""
    found = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if not found:
        return ""
    return (
        f"; {', '.join(found)} is pickled, and unpickling runs whatever the file says: save it "
        "as safetensors"
    )
