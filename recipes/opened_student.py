"""Loads a student from its folder, wherever it was trained: a network, and how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.student_folder import StudentFolder, examined

if TYPE_CHECKING:
    from torch import nn

    from recipes.families.base import Family


def opened(
    folder: Path, settings: Mapping[str, Any], family: Family
) -> tuple[nn.Module, dict[str, Any]]:
    """Network in eval mode and its card (rungs, shift, renoises, what is known of its teacher).

    A LoRA is merged into its base, as the students of adapters are when they are measured.

    Raises:
        ValueError: see `recipes.student_folder.examined`; or weights that do not fit.
    """
    found = examined(folder, settings)
    network = _merged(found, family) if found.kind == "lora" else _network(found)
    return network.eval().requires_grad_(False), found.card


def _network(found: StudentFolder) -> Any:
    from diffusers import QwenImageTransformer2DModel

    try:
        network, told = QwenImageTransformer2DModel.from_pretrained(
            found.home, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{found.home} cannot be loaded: {_first_line(error)}") from error
    # Diffusers only warns where weights are missing, and makes them up.
    odd = {what: names for what, names in told.items() if names}
    if odd:
        shown = "; ".join(f"{len(names)} {what}, e.g. {names[0]}" for what, names in odd.items())
        raise ValueError(f"{found.home}: weights and config.json do not fit: {shown}")
    return network


def _merged(found: StudentFolder, family: Family) -> Any:
    base: Any = family.network(found.base)
    try:
        if found.weights == "adapter_model.safetensors":
            # Written by PEFT: the scaling stands in adapter_config.json, which diffusers does not
            # read.
            from peft import PeftModel

            return PeftModel.from_pretrained(base, found.home).merge_and_unload()
        base.load_lora_adapter(found.home, weight_name=found.weights, use_safetensors=True)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"the LoRA in {found.home} does not fit {found.base}: {_first_line(error)}"
        ) from error
    # Where no name of the file is a layer's, diffusers adds no adapter and goes on.
    if not getattr(base, "peft_config", None):
        raise ValueError(f"the LoRA in {found.home} has no factor for a layer of {found.base}")
    base.fuse_lora()
    base.unload_lora()
    return base


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
