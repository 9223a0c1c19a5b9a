"""Saves, checks and loads the trained weights: float16 on disk, float32 in memory."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.toyworld.renderer import fingerprint

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights"
# `specialist`, the first, is not worse than the base elsewhere, so it says little about panels; it
# stays as it was, because recorded trials name its digest. `sign_specialist` is one by a metric: it
# spells better than a control of equal training and draws everything else worse.
SPECIALISTS = ("specialist", "sign_specialist")
"""Low-rank fine-tunes, stored as their difference from the teacher."""
NAMES = ("autoencoder", "teacher", "text_encoder", *SPECIALISTS, "clip", "extractor", "oracle")


def save(name: str, model: nn.Module, folder: Path, *, recipe: str) -> Path:
    """Write a model's state as `<folder>/<name>.safetensors`, atomically.

    Args:
        name: one of `NAMES`.
        model: the trained model.
        folder: where to; created if missing.
        recipe: how it was trained, in a few words; kept in the file's metadata.

    Returns:
        The path written.
    """
    return save_state(name, model.state_dict(), folder, recipe=recipe)


def save_state(name: str, state: dict[str, Tensor], folder: Path, *, recipe: str) -> Path:
    """As `save`, from a state dictionary."""
    import torch
    from safetensors.torch import save_file

    assert name in NAMES
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    half = {
        key: value.to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for key, value in state.items()
    }
    partial = path.with_suffix(".partial")
    save_file(half, partial, metadata={"renderer": fingerprint(), "recipe": recipe})
    partial.chmod(0o644)
    partial.replace(path)
    return path


def read_state(name: str, *, check: bool = True, folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """The float32 state of one of `NAMES`.

    Raises:
        ValueError: unknown name, missing file, or weights trained on other pictures than the
            renderer now draws.
    """
    from safetensors import safe_open

    path = _path(name, folder)
    with safe_open(path, "pt") as file:
        trained_on = (file.metadata() or {}).get("renderer", "nothing on record")
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if check and trained_on != fingerprint():
        raise ValueError(
            f"{path} was trained on renderer {trained_on[:12]}, but the renderer now is "
            f"{fingerprint()[:12]}: retrain with `{_command(name)}`"
        )
    return {key: v.float() if v.is_floating_point() else v for key, v in state.items()}


def load(name: str, *, check: bool = True, folder: Path = WEIGHTS) -> nn.Module:
    """A trained model in evaluation mode, without gradients, on the CPU.

    Args:
        name: one of `NAMES`; a specialist is the teacher with its fine-tune merged in.
        check: refuse weights whose renderer fingerprint is not today's.
        folder: where the files are.

    Raises:
        ValueError: see `read_state`.
    """
    state = read_state(name, check=check, folder=folder)
    if name in SPECIALISTS:
        base = read_state("teacher", check=check, folder=folder)
        model = _build("teacher")
        model.load_state_dict(merge_low_rank(base, state))
    else:
        model = _build(name)
        model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def merge_low_rank(base: dict[str, Tensor], low_rank: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add `up @ down` to each weight that has them, and replace what is given whole."""
    merged = dict(base)
    for key, value in low_rank.items():
        if key.endswith(".up"):
            target = key.removesuffix(".up")
            merged[target] = base[target] + value @ low_rank[f"{target}.down"]
        elif not key.endswith(".down"):
            merged[key] = value
    return merged


def _path(name: str, folder: Path) -> Path:
    if name not in NAMES:
        raise ValueError(f"unknown weights {name!r}; choose one of {', '.join(NAMES)}")
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} does not exist: train it with `{_command(name)}`")
    return path


def _command(name: str) -> str:
    made_with = "teacher" if name == "text_encoder" else name
    return shlex.join([sys.executable, "-m", "recipes.toyworld.train", made_with])


def _build(name: str) -> nn.Module:
    # Imported here, so that asking for one model does not import the libraries of all.
    if name == "autoencoder":
        from recipes.toyworld.autoencoder import ToyAutoencoder

        return ToyAutoencoder()
    if name == "teacher":
        from recipes.toyworld.models import transformer

        return transformer()
    if name == "text_encoder":
        from recipes.toyworld.text_encoder import ToyTextEncoder

        return ToyTextEncoder()
    if name == "clip":
        from recipes.toyworld.clip import ToyClip

        return ToyClip()
    if name == "extractor":
        from recipes.toyworld.extractor import Extractor

        return Extractor()
    from recipes.toyworld.oracle import Oracle

    return Oracle()
