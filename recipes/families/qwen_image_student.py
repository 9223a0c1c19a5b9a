"""Students of Qwen-Image as folders: adapters, or a whole transformer, with a card. No torch here.

A merged copy of 20 B parameters would double the memory, so a student made of adapters is sampled
with its adapters beside the base, and kept as them; what is kept is what was measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.export import card_of, save_lora
from recipes.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from recipes.families.base import PictureFamily

FOLDER = "student"
CARD = "card.json"
TRANSFORMER = "transformer"
LORA = "lora"


def export(network: nn.Module, recipe: Recipe, folder: Path, cycles: int) -> str:
    """Write `<folder>/student`: card.json, README.md and `lora/` or `transformer/`; its name."""
    from recipes.roles.adapters import RoleView

    home = folder / FOLDER
    home.mkdir(exist_ok=True)
    assert recipe.model is not None
    if isinstance(network, RoleView):
        save_lora(network, home / LORA)
    else:
        network.save_pretrained(home / TRANSFORMER)
    card = {
        "family": recipe.family,
        "model": recipe.model.model_dump(mode="json"),
        "weights": recipe.teachers[recipe.student.init].weights,
        "roles": recipe.roles.model_dump(mode="json"),
        "rungs": recipe.student.rungs,
        "shift": recipe.student.shift,
        "renoises": recipe.objective.renoises,
        "cycles": cycles,
    }
    (home / CARD).write_text(json.dumps(card, indent=1) + "\n")
    (home / "README.md").write_text(_readme(recipe, cycles))
    return FOLDER


def load(folder: Path, family: PictureFamily) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a folder that `export` wrote, in eval mode, and its card."""
    card = card_of(folder)
    return _network(folder, card, family), card


def _network(folder: Path, card: dict[str, Any], family: PictureFamily) -> nn.Module:
    from recipes.roles.adapters import SharedBase
    from recipes.roles.settings import Roles

    if (folder / TRANSFORMER).is_dir():
        from diffusers import QwenImageTransformer2DModel

        network = QwenImageTransformer2DModel.from_pretrained(
            folder / TRANSFORMER, local_files_only=True
        )
        like = next(family.network(card["weights"]).parameters())
        kept: nn.Module = network.to(like.device, like.dtype).eval()
        return kept
    from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
    from safetensors.torch import load_file

    roles = Roles.model_validate(card["roles"] | {"activation_checkpointing": False})
    view = SharedBase(family.network(card["weights"]), roles).role(0)
    prefix = f"{TRANSFORMER}."
    factors = load_file(folder / LORA / LORA_WEIGHT_NAME_SAFE)
    view.load_lora({name.removeprefix(prefix): value for name, value in factors.items()})
    return view.eval()


def _readme(recipe: Recipe, cycles: int) -> str:
    assert recipe.model is not None
    own = json.dumps(recipe.model_dump(mode="json", exclude_defaults=True), indent=1)
    levels = ", ".join(f"{level:.4g}" for level in recipe.student.levels.levels)
    between = "fresh noise" if recipe.objective.renoises else "ODE steps (Euler)"
    title = f"A {recipe.student.rungs}-step student of {recipe.model.repository}"
    return f"""# {title}, after {cycles} cycles

Distilled with Stillhouse by {recipe.objective.name}. Noise levels {levels}, then 0; between them
{between}; one evaluation per level, no guidance, no `shift_terminal`. Adapters load with
`pipe.transformer.load_lora_adapter("lora", weight_name="pytorch_lora_weights.safetensors")`.

```json
{own}
```
"""
