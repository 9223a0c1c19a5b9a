"""Trains the base teacher with its text encoder: two one-thread processes, averaged gradients.

Two threads in one process hardly help at this size; two processes use both cores.
"""

from __future__ import annotations

import copy
import itertools
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Generator, Tensor, nn

from recipes.toyworld.batches import draw_edits, draw_pictures
from recipes.toyworld.models import transformer, velocity
from recipes.toyworld.progress import Progress, cosine
from recipes.toyworld.prompts import encode
from recipes.toyworld.text_encoder import ToyTextEncoder
from recipes.toyworld.weights import load, save

EDIT_SHARES = {
    "scene": 0.10,
    "enhance": 0.16,
    "object": 0.15,
    "text": 0.27,
    "identity": 0.19,
    "style": 0.13,
}


@dataclass(frozen=True)
class Plan:
    """How the teacher is trained.

    Attributes:
        steps: optimiser steps; every third is an edit batch.
        batch: samples per process and step.
        processes: how many processes share a step.
        learning_rate: peak, after warm-up, of AdamW with a cosine to 2 %.
        text_share: share of text among text-to-image samples, at the start and at the end.
        dropout: share of samples whose caption or instruction is left out.
        t_mean: mean of the logit-normal noise level.
        ema: decay of the averaged weights, which are what is saved.
        snapshot_s: seconds between intermediate saves.
        seed: of everything drawn.
    """

    steps: int = 21_000
    batch: int = 32
    processes: int = 2
    learning_rate: float = 2e-3
    text_share: tuple[float, float] = (0.5, 0.65)
    dropout: float = 0.1
    t_mean: float = 0.2
    ema: float = 0.999
    snapshot_s: float = 150.0
    seed: int = 31


def fit_teacher(folder: Path, steps_scale: float = 1.0, plan: Plan | None = None) -> Path:
    """Train and save `teacher` and `text_encoder`; the autoencoder must be in `folder`.

    The EMA weights are also saved every `snapshot_s` seconds, under the same names.
    """
    plan = plan or Plan()
    steps = max(3, round(plan.steps * steps_scale))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, args=(plan, steps, folder, port), nprocs=plan.processes)
    return folder / "teacher.safetensors"


def _worker(rank: int, plan: Plan, steps: int, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=plan.processes
    )
    torch.manual_seed(plan.seed)
    model, text_encoder = transformer(), ToyTextEncoder()
    autoencoder = load("autoencoder", folder=folder)
    generator = Generator().manual_seed(plan.seed * 1000 + rank)
    trained = nn.ModuleList([model, text_encoder])
    average = copy.deepcopy(trained).requires_grad_(False)
    gradients = flat_gradients(trained)
    optimiser = torch.optim.AdamW(
        trained.parameters(), plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(steps, warmup=200))
    progress = Progress("teacher", steps)
    saved = time.monotonic()
    for step in range(steps):
        low, high = plan.text_share
        share = low + (high - low) * step / steps
        editing = step % 3 == 2
        loss = flow_loss(
            model,
            text_encoder,
            draw_batch(autoencoder, plan.batch, generator, editing=editing, text_share=share),
            generator,
            dropout=plan.dropout,
            t_mean=plan.t_mean,
        )
        loss.backward()
        dist.all_reduce(gradients)
        gradients /= plan.processes
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        gradients.zero_()
        decay = min(plan.ema, (step + 1) / (step + 20))
        torch._foreach_lerp_(list(average.parameters()), list(trained.parameters()), 1 - decay)
        if rank == 0:
            progress.step(step, **{"edit" if editing else "t2i": loss.detach()})
            if time.monotonic() - saved > plan.snapshot_s or step + 1 == steps:
                saved = time.monotonic()
                recipe = f"step {step + 1} of {steps}, {plan.processes} x {plan.batch} a step"
                save("teacher", average[0], folder, recipe=recipe)
                save("text_encoder", average[1], folder, recipe=recipe)
    dist.destroy_process_group()


def flat_gradients(module: nn.Module) -> Tensor:
    """One flat buffer whose pieces are the parameters' gradients: one all-reduce a step.

    The last block's text output never receives a gradient; its piece stays zero.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    flat = torch.zeros(sum(p.numel() for p in parameters))
    edges = [0, *itertools.accumulate(p.numel() for p in parameters)]
    for parameter, start, end in zip(parameters, edges[:-1], edges[1:], strict=True):
        parameter.grad = flat[start:end].view_as(parameter)
    return flat


@torch.no_grad()
def draw_batch(
    autoencoder: nn.Module,
    count: int,
    generator: Generator,
    *,
    editing: bool,
    text_share: float,
) -> tuple[list[str], Tensor, Tensor | None]:
    """Texts, target latents and (when editing) source latents of a training batch."""
    if editing:
        cases, source, target = draw_edits(count, generator, "train", EDIT_SHARES)
        latents = autoencoder.encode(torch.cat([target, source]))
        return [case.instruction for case in cases], latents[:count], latents[count:]
    other = (1 - text_share) / 2
    shares = {"landscape": other, "portrait": other, "text": text_share}
    drawn, images = draw_pictures(count, generator, "train", shares)
    return [prompt.caption for prompt in drawn], autoencoder.encode(images), None


def flow_loss(
    model: nn.Module,
    text_encoder: nn.Module,
    batch: tuple[list[str], Tensor, Tensor | None],
    generator: Generator,
    *,
    dropout: float,
    t_mean: float,
) -> Tensor:
    """Mean squared error of the velocity at logit-normal noise levels."""
    texts, x_BCHW, source_BCHW = batch
    count = len(texts)
    dropped = torch.rand(count, generator=generator) < dropout
    texts = ["" if gone else text for text, gone in zip(texts, dropped.tolist(), strict=True)]
    t = torch.sigmoid(torch.randn(count, generator=generator) + t_mean)
    noise = torch.randn(x_BCHW.shape, generator=generator)
    z_t = x_BCHW + t.view(-1, 1, 1, 1) * (noise - x_BCHW)
    text = text_encoder(torch.tensor(encode(texts)))
    predicted = velocity(model, z_t, t, text, source_BCHW)
    return (predicted - (noise - x_BCHW)).square().mean()
