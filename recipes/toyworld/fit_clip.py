"""Trains the tiny CLIP on renderings and their captions."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Generator, Tensor

from recipes.toyworld.batches import draw_edits, draw_pictures
from recipes.toyworld.clip import ToyClip
from recipes.toyworld.progress import Progress, cosine
from recipes.toyworld.prompts import Prompt
from recipes.toyworld.weights import load, save

STEPS = 2500
BATCH = 160
LEARNING_RATE = 1.5e-3
MAX_SCALE = 50.0
"""Upper bound on the factor of the cosines: sharper only overfits the ranking."""


def fit_clip(folder: Path, steps_scale: float = 1.0) -> Path:
    """Train contrastively and save; equal captions in a batch are all positives."""
    torch.manual_seed(61)
    generator = Generator().manual_seed(62)
    autoencoder = load("autoencoder", folder=folder)
    model = ToyClip().train()
    steps = max(2, round(STEPS * steps_scale))
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(steps, warmup=200))
    progress = Progress("clip", steps)
    for step in range(steps):
        prompts, images = _batch(autoencoder, generator)
        loss = contrastive_loss(model, images, prompts)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.clip.logit_scale.clamp_(max=math.log(MAX_SCALE))
        progress.step(step, loss=loss.detach())
    return save("clip", model.eval(), folder, recipe=f"{steps} steps of {BATCH}")


@torch.no_grad()
def _batch(autoencoder: torch.nn.Module, generator: Generator) -> tuple[list[Prompt], Tensor]:
    """Each batch leans to one category, so that most of its negatives are near; some damaged."""
    lean = int(torch.randint(4, (1,), generator=generator))
    names = ("landscape", "portrait", "text")
    shares = {name: 8.0 if i == lean else 1.0 for i, name in enumerate(names)}
    prompts, clean = draw_pictures(BATCH - 24, generator, shares=shares)
    decoded = len(clean) // 3
    images = torch.cat([autoencoder.decode(autoencoder.encode(clean[:decoded])), clean[decoded:]])
    cases, source, target = draw_edits(24, generator, shares={"enhance": 1.0})
    part = torch.rand(24, 1, 1, 1, generator=generator) * 0.6
    images = torch.cat([images, target + part * (source - target)])
    return [*prompts, *(case.target for case in cases)], images


def contrastive_loss(model: ToyClip, images_BCHW: Tensor, prompts: list[Prompt]) -> Tensor:
    """Symmetric cross entropy against the uniform distribution over equal captions."""
    order = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    which = torch.tensor([order[prompt] for prompt in prompts])
    texts = model.encode_captions([prompt.caption for prompt in order])
    logits = model.scale * model.encode_images(images_BCHW) @ texts.T  # (B, unique captions)
    to_text = torch.nn.functional.cross_entropy(logits, which)
    positive = torch.nn.functional.one_hot(which, len(order)).T.float()
    share = positive / positive.sum(1, keepdim=True)
    to_image = -(share * logits.T.log_softmax(1)).sum(1).mean()
    return (to_text + to_image) / 2
