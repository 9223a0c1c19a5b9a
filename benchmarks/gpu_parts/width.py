"""Part 3: two layers of real width on the device against the CPU, in float32 and bfloat16.

The same weights, conditions and noise everywhere: velocity, gradient of the student's DMD loss and
of the fake score's, and a sample of four rungs. What float32 leaves is the order of additions; what
bfloat16 leaves is the price of training in it, rounded levels included (those of gradients and
samples are; random weights feel that more than trained ones).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from gpu_parts.made import (
    FAMILIES,
    DrawnConditions,
    MadeQwenImage,
    config_of,
    fill,
    recipe_of,
    skeleton,
    stir,
)
from gpu_parts.setup import Log, Setup, apart, flat_gradient
from harness.journal.seeds import stream_for
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.families.qwen_image_settings import QwenImage
from recipes.objectives.base import Batch
from recipes.rollout import sample
from recipes.schedule import Rungs

FLOAT32 = 1e-3
"""Largest relative distance of float32 that passes; bfloat16's is what it is, and reported."""
TEXT_TOKENS = 16


@dataclass(frozen=True)
class Seen:
    """What one device made of the same batch."""

    velocity: Tensor
    student: Tensor
    """Gradient of all the student's factors, flat."""
    fake: Tensor
    sample: Tensor
    gap: float
    """Mean distance of the fake score's clean prediction from the guided teacher's."""


def measure(setup: Setup, log: Log) -> None:
    """Both families, both tasks: first the reference, then what is compared with it."""
    places = (
        ("cpu", torch.float32),
        (setup.device, torch.float32),
        (setup.device, torch.bfloat16),
    )
    for name in FAMILIES:
        first = _family(name, setup, *places[0])
        network = fill(skeleton(first, torch.device("cpu"), torch.float32))
        reference: dict[str, Seen] = {}
        for device, dtype in places:
            family = _family(name, setup, device, dtype) if reference else first
            where = f"{family.title}, two layers, {device} {str(dtype)[6:]}"
            log.say(where)
            log.guarded(where, setup, partial(_place, setup, log, family, network, reference))


def _place(
    setup: Setup, log: Log, family: MadeQwenImage, network: nn.Module, reference: dict[str, Seen]
) -> None:
    """One family in one place and precision; the first becomes the reference."""
    if not reference:
        family.kept = network
    else:
        # Cast by parameter, as loading does: frequencies in buffers stay in float32.
        family.kept = skeleton(family, family.device, family.dtype)
        family.kept.load_state_dict(network.state_dict())
    seen = {task: _seen(family, task, setup) for task in ("t2i", "edit")}
    if not reference:
        reference |= seen
        for task, found in seen.items():
            log.row(f"{family.title} {task}: gap of fake score and teacher", found.gap)
        return
    for task, found in seen.items():
        _compare(log, f"{family.title} {task}", found, reference[task], family.dtype)
    if family.dtype == torch.bfloat16:
        _rounded_times(family, setup, log)


def _family(name: str, setup: Setup, device: str, dtype: torch.dtype) -> MadeQwenImage:
    kind, _ = FAMILIES[name]
    # 64 tokens a picture: two layers of real width are a few seconds a forward on a CPU.
    pixels = kind.shrink * (4 if setup.tiny else (16 if kind.shrink == 8 else 8))
    return kind(config_of(name, tiny=setup.tiny, layers=2), pixels, dtype, device)


def _trial(family: MadeQwenImage, task: str, setup: Setup) -> Distillation:
    recipe = recipe_of(pixels=family.pixels, task=task, rows=1, tiny=setup.tiny)
    source = DrawnConditions(family, TEXT_TOKENS)
    draws = Draws(recipe, source, family.latent_shape, stream_for(0))
    trial = Distillation(recipe, family, draws)
    for network in trial.trained.values():
        stir(network)
    return trial


def _seen(family: MadeQwenImage, task: str, setup: Setup) -> Seen:
    # Roles put their layers into the network they are given: a copy for each trial.
    whole, family.kept = family.kept, copy.deepcopy(family.kept)
    trial = _trial(family, task, setup)
    batch = trial.draws.batch("student", 0, 0)
    asked = batch.condition
    with torch.no_grad():
        t = torch.tensor([0.875])  # the same in bfloat16: arithmetic alone
        velocity = family.velocity(
            trial.student, batch.noise_BCHW, t, asked.text_BLD, asked.source_BCHW
        )
    step = trial.objective.student_loss(batch, trial.networks)
    student = _gradient(step.loss, trial.student)
    fake_batch = trial.draws.batch("fake", 0, 1)
    loss = trial.objective.fake_loss(fake_batch, trial.networks, None)
    fake = _gradient(loss, trial.networks.fake)
    drawn = _sampled(family, trial, batch)
    seen = Seen(velocity, student, fake, drawn, step.logs["fake_teacher_gap"])
    family.kept = whole
    return seen


def _gradient(loss: Tensor, network: nn.Module) -> Tensor:
    loss.backward()
    found = flat_gradient(network.parameters())
    network.zero_grad(set_to_none=True)
    return found


def _sampled(family: MadeQwenImage, trial: Distillation, batch: Batch) -> Tensor:
    asked = batch.condition

    def velocity(z: Tensor, t: Tensor, rows: Tensor | slice) -> Tensor:
        part = asked.rows(rows)
        return family.velocity(trial.student, z, t, part.text_BLD, part.source_BCHW)

    return sample(velocity, batch.noise_BCHW, trial.networks.rungs)


def _compare(log: Log, where: str, found: Seen, reference: Seen, dtype: torch.dtype) -> None:
    name = str(dtype)[6:]
    most = FLOAT32 if dtype == torch.float32 else None
    pairs = {
        "velocity": (found.velocity, reference.velocity),
        "student gradient": (found.student, reference.student),
        "fake gradient": (found.fake, reference.fake),
        "sample of 4 rungs": (found.sample, reference.sample),
    }
    for what, (ours, theirs) in pairs.items():
        log.row(f"{where}: {what}, {name} against CPU float32", apart(ours, theirs), most=most)


def _rounded_times(family: MadeQwenImage, setup: Setup, log: Log) -> None:
    """Velocity at t rounded as here, against t as the pipelines round it: 1000 t, then divided."""
    network = family.kept
    assert network is not None
    levels = Rungs(20, QwenImage(path="none").dynamic_shift).levels
    t_B = torch.tensor(levels)
    text = DrawnConditions(family, TEXT_TOKENS).t2i((), [torch.Generator().manual_seed(1)])
    z = torch.randn(1, *family.latent_shape, generator=torch.Generator().manual_seed(2))
    piped_B = ((t_B * 1000).to(torch.bfloat16) / 1000).float()
    ours_B = t_B.to(torch.bfloat16).float()
    moved, off = 0.0, 0.0
    with torch.no_grad():
        for ours, piped in zip(ours_B, piped_B, strict=True):
            if ours == piped:
                continue
            off = max(off, 1000 * float((ours - piped).abs()))
            pair = [
                family.velocity(network, z, t[None], text.text_BLD, None) for t in (ours, piped)
            ]
            moved = max(moved, apart(*pair))
    differ = int((ours_B != piped_B).sum())
    log.row(
        f"{family.title}: bfloat16 levels of 20 that differ from the pipeline's", differ, "of 20",
        note=f"by at most {off:.2g} of 1,000",
    )  # fmt: skip
    log.row(f"{family.title}: velocity moved by that, at most", moved, "relative")
