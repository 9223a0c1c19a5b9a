"""Students as folders that diffusers loads, with a card that says how they are sampled."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recipes.limited_json import json_object
from recipes.recipe import Recipe
from recipes.references import own_teacher

if TYPE_CHECKING:
    from torch import nn

FOLDER = "student"
TRANSFORMER = "transformer"
LORA = "lora"

PIPELINE = '''"""The class that diffusers loads this folder with; needs Stillhouse importable."""

from recipes.toyworld.pipeline import ToyWorldPipeline

__all__ = ["ToyWorldPipeline"]
'''


class FrozenParts(Protocol):
    """What a pipeline is made of beside its transformer; a family holds them."""

    text_encoder: nn.Module
    autoencoder: nn.Module


def export(
    network: nn.Module, recipe: Recipe, family: FrozenParts, folder: Path, cycles: int
) -> str:
    """Write `<folder>/student`, a diffusers pipeline folder; returns its name.

    Beside the pipeline's parts it holds card.json (what `measure` reads), README.md (the model
    card) and, for a student made of adapters, `lora/`, which `load_lora_adapter` loads on the base.
    """
    from recipes.roles.adapters import RoleView, deployed
    from recipes.toyworld.pipeline import ToyWorldPipeline

    home = folder / FOLDER
    ToyWorldPipeline(
        _on_cpu(deployed(network)),
        _on_cpu(family.text_encoder),
        _on_cpu(family.autoencoder),
        rungs=recipe.student.rungs,
        shift=recipe.student.shift,
        renoises=recipe.objective.renoises,
    ).save_pretrained(home)
    _name_own_class(home)
    if isinstance(network, RoleView):
        save_lora(network, home / LORA)
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
    (home / "README.md").write_text(_model_card(recipe, cycles))
    return FOLDER


def _on_cpu(network: nn.Module) -> nn.Module:
    """The network itself, or a copy where it lives on a device: it goes on there."""
    if next(network.parameters()).device.type == "cpu":
        return network
    return copy.deepcopy(network).cpu()


def card_of(folder: Path) -> dict[str, Any]:
    """The card of a student's folder, of any family.

    Raises:
        ValueError: the folder is not one that `run` wrote.
    """
    card = folder / "card.json"
    if not card.is_file():
        raise ValueError(f"{folder} holds no card.json; expected a student folder written by `run`")
    return json_object(card)


def _name_own_class(home: Path) -> None:
    """Let `DiffusionPipeline.from_pretrained` find the class, which diffusers does not ship."""
    index = home / "model_index.json"
    entries = json_object(index)
    # A class that diffusers does not ship is loaded from a module in the folder, which asks for
    # `trust_remote_code`. Ours is one import, so that pictures come from the rollout that the
    # student was trained with, and no scheduler is stored beside it. The price: Stillhouse must be
    # importable, and frozen autoencoder and text encoder stand in every folder.
    entries["_class_name"] = ["pipeline", entries["_class_name"]]
    index.write_text(json.dumps(entries, indent=2) + "\n")
    (home / "pipeline.py").write_text(PIPELINE)


def save_lora(network: Any, home: Path) -> None:
    """Write a role's adapters as diffusers and PEFT name them."""
    from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
    from safetensors.torch import save_file

    home.mkdir(exist_ok=True)
    factors = {f"{TRANSFORMER}.{name}": value for name, value in network.lora().items()}
    save_file(factors, home / LORA_WEIGHT_NAME_SAFE, metadata={"format": "pt"})


def _model_card(recipe: Recipe, cycles: int) -> str:
    levels = ", ".join(f"{level:.4g}" for level in recipe.student.levels.levels)
    start = recipe.teachers[recipe.student.init].weights
    between = "fresh noise" if recipe.objective.renoises else "ODE steps (Euler)"
    own = json.dumps(recipe.model_dump(mode="json", exclude_defaults=True), indent=1)
    roles = recipe.roles
    held = "full copies"
    lora = ""
    if roles.kind == "adapters":
        held = f"adapters of rank {roles.rank} on {roles.targets}, merged into `transformer/`"
        lora = f"""
The adapters alone, for the base transformer (weights `{start}`):

```python
base.load_lora_adapter("lora", weight_name="pytorch_lora_weights.safetensors")
```
"""
    return f"""---
license: apache-2.0
library_name: diffusers
tags: [text-to-image, image-to-image, distillation]
---

# A {recipe.student.rungs}-step student of {recipe.family}, after {cycles} cycles

Distilled with Stillhouse from the weights `{start}`.

| | |
|---|---|
| objective | {recipe.objective.name} |
| roles | {held} |
| cycles | {cycles}, batch {recipe.train.batch_size} |

The recipe, where it leaves the defaults:

```json
{own}
```

## Sampling

Noise levels {levels}, then 0; between them {between}.
One evaluation per level, no guidance.

Run where Stillhouse is importable: from its root, or installed. Diffusers does not ship the
pipeline's class; `pipeline.py` in this folder imports it, so loading asks for your trust:

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
pictures = pipe("a landscape at sunset: grass and hills, with a lake")  # (1, 3, 24, 24) uint8
edited = pipe("make it night", image=pictures)
```
{lora}
## Limits

It draws the toy world only: pictures of 24 by 24 pixels, captions and instructions of a closed
grammar. Anything else is refused. A result on it is a claim about methods at this size, not about
large models.

## Licence

Apache 2.0, as the code and weights it came from.
"""
