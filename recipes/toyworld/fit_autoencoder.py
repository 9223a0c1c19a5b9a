"""Trains the autoencoder."""

from __future__ import annotations

from pathlib import Path

import torch

from recipes.toyworld.autoencoder import ToyAutoencoder
from recipes.toyworld.batches import draw_edits, draw_pictures
from recipes.toyworld.progress import Progress, cosine
from recipes.toyworld.weights import save

STEPS = 5000
BATCH = 160
LEARNING_RATE = 2e-3
LATENT_NOISE = 0.1
"""The decoder must forgive the generator's small errors in the latents."""
TEXT_HEAVY = {"landscape": 1.0, "portrait": 1.0, "text": 1.5}


def fit_autoencoder(folder: Path, steps_scale: float = 1.0) -> Path:
    """Train and save, on clean, styled and degraded pictures; returns the path."""
    torch.manual_seed(11)
    generator = torch.Generator().manual_seed(12)
    model = ToyAutoencoder().train()
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), fused=True)
    steps = max(2, round(STEPS * steps_scale))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(steps))
    progress = Progress("autoencoder", steps)
    with torch.no_grad():
        pool = _pool(generator)
    for step in range(steps):
        if step % 20 == 0:
            pool = torch.cat([pool[len(pool) // 8 :], _pool(generator)[: len(pool) // 8]])
        images = pool[torch.randint(len(pool), (BATCH,), generator=generator)]
        error = model(images, LATENT_NOISE) - images
        loss = error.square().mean() + 0.1 * error.abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress.step(step, loss=loss.detach())
    return save("autoencoder", model, folder, recipe=f"{steps} steps of {BATCH}")


def _pool(generator: torch.Generator) -> torch.Tensor:
    """2,560 pictures: three quarters clean, the rest sources and results of edits."""
    _, clean = draw_pictures(1920, generator, shares=TEXT_HEAVY)
    _, source, target = draw_edits(320, generator, shares={"enhance": 2.0, "style": 1.0})
    images = torch.cat([clean, source, target])
    return images[torch.randperm(len(images), generator=generator)]
