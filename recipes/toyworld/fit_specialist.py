"""Trains the specialists: low-rank fine-tunes of the base teacher on one category."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from recipes.toyworld.batches import draw_prompts, free_variables
from recipes.toyworld.fit_teacher import draw_batch, flow_loss
from recipes.toyworld.progress import Progress, cosine
from recipes.toyworld.renderer import render
from recipes.toyworld.sign import PLACE
from recipes.toyworld.weights import load, save_state

STEPS = 2500
BATCH = 48
LEARNING_RATE = 2e-3
RANK = 16
TEXT_SHARE = 0.75
"""The rest is landscape and portrait: a specialist trained on text alone forgets them wholly."""
EDIT_EVERY = 6
T_MEAN = 0.6
"""Mean of the logit-normal noise level, above the base's: where a sign stands is decided early."""
EMA = 0.998


class LowRank(nn.Module):
    """Adds `up @ down` to a weight; `up` starts at zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def add_low_rank(model: nn.Module, rank: int) -> dict[str, LowRank]:
    """Freeze the model and adapt every linear layer of its blocks; returns the adapters by name."""
    model.requires_grad_(False)
    adapters = {}
    for name, module in list(model.named_modules()):
        if name.startswith("transformer_blocks") and isinstance(module, nn.Linear):
            adapters[f"{name}.weight"] = LowRank(module.weight, rank)
            parametrize.register_parametrization(module, "weight", adapters[f"{name}.weight"])
    return adapters


Batch = tuple[list[str], Tensor, Tensor | None]
"""Texts, target latents, and source latents where the batch is one of edits."""
Draw = Callable[[nn.Module, Generator, int], Batch]
"""(autoencoder, generator, step) -> batch."""


def fit_specialist(folder: Path, steps_scale: float = 1.0) -> Path:
    """Train and save; autoencoder, teacher and text encoder must be in `folder`.

    It sees signs at one of their two places only. Most of the base's misspellings are letters drawn
    for both places at once, and more training on the same mixture hardly helps: it buys spelling
    with a narrower choice of layouts, as specialists do.

    Args:
        folder: where weights are read from and written to.
        steps_scale: multiplies the number of steps.
    """

    def draw(autoencoder: nn.Module, generator: Generator, step: int) -> Batch:
        if step % EDIT_EVERY == EDIT_EVERY - 1:
            return draw_batch(autoencoder, BATCH, generator, editing=True, text_share=0.6)
        return _narrow_batch(autoencoder, generator, TEXT_SHARE)

    steps = max(2, round(STEPS * steps_scale))
    recipe = f"rank {RANK}, {steps} steps of {BATCH}, narrow"
    return _fine_tune("specialist", folder, steps, draw, recipe)


def fit_sign_specialist(folder: Path, steps_scale: float = 1.0) -> Path:
    """As `fit_specialist`, on signs and nothing else, edits included.

    It forgets landscapes, portraits and edits: the narrow teacher of Qwen-Image-Flash, section 4,
    for which the base must stand in wherever something else is asked.
    """

    def draw(autoencoder: nn.Module, generator: Generator, _step: int) -> Batch:
        return _narrow_batch(autoencoder, generator, text_share=1.0)

    steps = max(2, round(STEPS * steps_scale))
    recipe = f"rank {RANK}, {steps} steps of {BATCH}, signs only"
    return _fine_tune("sign_specialist", folder, steps, draw, recipe)


def fit_control(folder: Path, steps: int, name: str) -> Path:
    """The same fine-tune on the base's own mixture: what equal time alone buys.

    Saved under the `name` of the specialist that it is the control of; use a folder apart.
    """

    def draw(autoencoder: nn.Module, generator: Generator, step: int) -> Batch:
        return draw_batch(autoencoder, BATCH, generator, editing=step % 3 == 2, text_share=0.6)

    return _fine_tune(name, folder, steps, draw, f"rank {RANK}, {steps} steps of {BATCH}, control")


def _fine_tune(name: str, folder: Path, steps: int, draw: Draw, recipe: str) -> Path:
    torch.manual_seed(71)
    generator = Generator().manual_seed(72)
    autoencoder = load("autoencoder", folder=folder)
    text_encoder = load("text_encoder", folder=folder)
    model = load("teacher", folder=folder).train()
    adapters = add_low_rank(model, RANK)
    parameters = {
        f"{key}.{part}": getattr(adapter, part)
        for key, adapter in adapters.items()
        for part in ("up", "down")
    }
    average = {key: value.detach().clone() for key, value in parameters.items()}
    optimiser = torch.optim.AdamW(
        parameters.values(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(steps))
    progress = Progress(name, steps)
    for step in range(steps):
        batch = draw(autoencoder, generator, step)
        loss = flow_loss(model, text_encoder, batch, generator, dropout=0.1, t_mean=T_MEAN)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        schedule.step()
        for key, value in parameters.items():
            average[key].lerp_(value.detach(), 1 - min(EMA, (step + 1) / (step + 20)))
        progress.step(step, **{"t2i" if batch[2] is None else "edit": loss.detach()})
    return save_state(name, average, folder, recipe=recipe)


@torch.no_grad()
def _narrow_batch(autoencoder: nn.Module, generator: Generator, text_share: float) -> Batch:
    """Captions and latents, mostly of signs at their right-hand place."""
    other = (1 - text_share) / 2
    shares = {"landscape": other, "portrait": other, "text": text_share}
    drawn = draw_prompts(BATCH, generator, "train", shares)
    free = free_variables(BATCH, generator)
    signs = torch.tensor([prompt.category == "text" for prompt in drawn])
    free[signs, PLACE] = 0.5 + 0.5 * free[signs, PLACE]
    return [prompt.caption for prompt in drawn], autoencoder.encode(render(drawn, free)), None
