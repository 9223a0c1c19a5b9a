"""Trains the text specialist: a low-rank fine-tune of the base teacher, mostly on signs."""

from __future__ import annotations

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
        """The adapted weight."""
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


def fit_specialist(folder: Path, steps_scale: float = 1.0, *, narrow: bool = True) -> Path:
    """Train and save; autoencoder, teacher and text encoder must be in `folder`.

    The specialist sees signs at one of their two places only. Most of the base's misspellings are
    letters drawn for both places at once, and more training on the same mixture hardly helps: it
    buys spelling with a narrower choice of layouts, as specialists do.

    Args:
        folder: where weights are read from and written to.
        steps_scale: multiplies the number of steps.
        narrow: False trains on the base's own mixture instead: the control that has had the same
            extra time.
    """
    torch.manual_seed(71)
    generator = Generator().manual_seed(72)
    autoencoder, text_encoder = (
        load("autoencoder", folder=folder),
        load("text_encoder", folder=folder),
    )
    model = load("teacher", folder=folder).train()
    adapters = add_low_rank(model, RANK)
    parameters = {
        f"{key}.{part}": getattr(adapter, part)
        for key, adapter in adapters.items()
        for part in ("up", "down")
    }
    average = {key: value.detach().clone() for key, value in parameters.items()}
    steps = max(2, round(STEPS * steps_scale))
    optimiser = torch.optim.AdamW(
        parameters.values(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(steps))
    progress = Progress("specialist", steps)
    for step in range(steps):
        every = EDIT_EVERY if narrow else 3
        editing = step % every == every - 1
        if editing or not narrow:
            batch = draw_batch(autoencoder, BATCH, generator, editing=editing, text_share=0.6)
        else:
            batch = _narrow_batch(autoencoder, generator)
        loss = flow_loss(model, text_encoder, batch, generator, dropout=0.1, t_mean=T_MEAN)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        schedule.step()
        for key, value in parameters.items():
            average[key].lerp_(value.detach(), 1 - min(EMA, (step + 1) / (step + 20)))
        progress.step(step, **{"edit" if editing else "t2i": loss.detach()})
    recipe = f"rank {RANK}, {steps} steps of {BATCH}, {'narrow' if narrow else 'control'}"
    return save_state("specialist", average, folder, recipe=recipe)


@torch.no_grad()
def _narrow_batch(
    autoencoder: nn.Module, generator: Generator
) -> tuple[list[str], Tensor, Tensor | None]:
    """Captions and latents, mostly of signs at their right-hand place."""
    other = (1 - TEXT_SHARE) / 2
    shares = {"landscape": other, "portrait": other, "text": TEXT_SHARE}
    drawn = draw_prompts(BATCH, generator, "train", shares)
    free = free_variables(BATCH, generator)
    signs = torch.tensor([prompt.category == "text" for prompt in drawn])
    free[signs, PLACE] = 0.5 + 0.5 * free[signs, PLACE]
    return [prompt.caption for prompt in drawn], autoencoder.encode(render(drawn, free)), None
