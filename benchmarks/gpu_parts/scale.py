"""Part 4: as many layers as fit, adapters of rank 64, 1,024 px: seconds a cycle, rate and memory.

A cycle is the base recipe's, of one row. Its operations are its forwards by role (counted by hooks)
times those of one forward (torch's own counter). A row of the card's memory is compared with what
`plan` expects, less the text encoder, which is not loaded here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gpu_parts.card import square_rate
from gpu_parts.made import (
    FAMILIES,
    DrawnConditions,
    MadeQwenImage,
    MadeQwenImage21,
    config_of,
    recipe_of,
    skeleton,
)
from gpu_parts.setup import GB, Log, Setup, apart
from harness.journal.seeds import stream_for
from recipes import checkpoint
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.families.qwen_image_cost import ENCODER, PUBLISHED, Shape, memory_of
from recipes.recipe import Recipe
from recipes.rollout import sample

PIXELS = 1024
CYCLES = {"t2i": 2, "edit": 1}
"""Measured cycles; an edit's takes some two and a half times as long."""
NEEDED = {"t2i": 32.0, "edit": 45.0}
"""Seconds that must be left to begin with another measurement of a task."""
SPARE = 8 * GB
"""Left free when layers are chosen, for what the estimate does not know."""


@dataclass(frozen=True)
class Plan:
    """What is measured of a family."""

    name: str
    layers: int
    pixels: int


def measure(setup: Setup, log: Log) -> None:
    """Both families and tasks with adapters in float32, as trials have them; then in bfloat16."""
    yardstick = square_rate(setup)
    plans = [_plan(name, setup) for name in FAMILIES]
    for plan in plans:
        title, whole = FAMILIES[plan.name][0].title, FAMILIES[plan.name][1]["num_layers"]
        log.row(f"{title}: layers that fit", plan.layers, f"of {whole}")
    for dtype in (torch.float32, torch.bfloat16):
        for plan in plans:
            family = _family(plan, setup)
            for task in ("t2i", "edit"):
                where = f"{family.title} {task}, adapters {str(dtype)[6:]}"
                if setup.left < NEEDED[task] and not setup.tiny:
                    log.row(f"{where}: no time left", "-")
                    continue
                log.guarded(
                    where, setup, partial(_task, setup, log, plan, family, task, dtype, yardstick)
                )


def _plan(name: str, setup: Setup) -> Plan:
    """As many layers as the device holds, edits being the larger task."""
    kind, published = FAMILIES[name]
    if setup.tiny:
        return Plan(name, 2, kind.shrink * 4)
    layers = int(published["num_layers"])
    while layers > 1 and _needed(Plan(name, layers, PIXELS), setup) > setup.memory - SPARE:
        layers -= 1
    return Plan(name, layers, PIXELS)


def _needed(plan: Plan, setup: Setup) -> float:
    expected = _expected(plan, "edit", setup)
    if expected is not None:
        return expected
    meta = skeleton(_family(plan, setup), torch.device("meta"), torch.bfloat16)
    return 2.0 * 2 * sum(p.numel() for p in meta.parameters())  # adapters and activations again


def _recipe(plan: Plan, task: str, setup: Setup) -> Recipe:
    return recipe_of(pixels=plan.pixels, task=task, rows=1, tiny=setup.tiny)


def _expected(plan: Plan, task: str, setup: Setup) -> float | None:
    """Bytes at the peak of training, by `plan`, without the text encoder; None: it cannot say."""
    if plan.name != "qwen-image":
        return None
    shape = Shape.of(PUBLISHED | config_of(plan.name, tiny=setup.tiny, layers=plan.layers))
    edits = task == "edit"
    return memory_of(_recipe(plan, task, setup), shape, edits=edits) - 2 * ENCODER


def _family(plan: Plan, setup: Setup) -> MadeQwenImage:
    kind, _ = FAMILIES[plan.name]
    config = config_of(plan.name, tiny=setup.tiny, layers=plan.layers)
    return kind(config, plan.pixels, torch.bfloat16, setup.device)


def _task(
    setup: Setup,
    log: Log,
    plan: Plan,
    family: MadeQwenImage,
    task: str,
    dtype: torch.dtype,
    yardstick: float,
) -> None:
    recipe = _recipe(plan, task, setup)
    source = DrawnConditions(family)
    draws = Draws(recipe, source, family.latent_shape, stream_for(0))
    made: list[Distillation] = []
    seconds = setup.seconds(lambda: made.append(Distillation(recipe, family, draws)))
    trial = made.pop()
    for network in (*trial.trained.values(), trial.ema.module):
        network.to(dtype)  # the factors alone: the base is no child of a role
    where = f"{family.title} {task}, adapters {str(dtype)[6:]}"
    log.say(f"{where}: made in {seconds:.1f} s")
    operations = _operations(trial, family)
    _warm(trial)
    trial.ledger.reset()
    setup.fresh_peak()
    count = 1 if setup.tiny else CYCLES[task]
    cycles = [setup.seconds(trial.cycle) for _ in range(count)]
    forwards = trial.ledger.forwards(count)  # one row a cycle
    useful = sum(n * (2.0 if role.endswith(".grad") else 1.0) for role, n in forwards.items())
    again = sum(n for role, n in forwards.items() if role.endswith(".grad"))
    middle = sum(cycles) / count
    rate = operations * (useful + again) / middle
    log.row(f"{where}: seconds a cycle", middle, "s", note=f"{useful + again:g} F")
    log.row(f"{where}: of the bfloat16 rate, base alone, recomputed too", rate / yardstick)
    counted = operations * useful / middle / yardstick
    log.row(f"{where}: of the bfloat16 rate, base alone", counted)
    peak, expected = setup.peak, _expected(plan, task, setup)
    note = "" if expected is None or math.isnan(peak) else (
        f"plan expects {expected / GB:.3g} without the encoder: {peak / expected:.2f} of it"
    )  # fmt: skip
    log.row(f"{where}: peak of a cycle, held by tensors", peak / GB, "GB", note=note)
    log.row(f"{where}: peak of a cycle, reserved", setup.reserved / GB, "GB")
    drawn = _sampling(setup, log, family, trial, where)
    log.cost(
        family=plan.name,
        layers=plan.layers,
        width=family.config["num_attention_heads"] * family.config["attention_head_dim"],
        pixels=plan.pixels,
        task=task,
        rows=1,
        roles="adapters",
        rank=recipe.roles.rank,
        adapters=str(dtype)[6:],
        activation_checkpointing=True,
        seconds_per_cycle=middle,
        forwards_per_cycle=useful + again,
        operations_per_forward=operations,
        training_rate=rate,
        sampling_rate=operations * trial.networks.rungs.count / drawn,
        peak_bytes=None if math.isnan(peak) else peak,
    )
    lighter = plan.name == "qwen-image-2.1" and task == "t2i" and dtype == torch.float32
    if lighter and (setup.left > 2 * NEEDED["edit"] or setup.tiny):
        _checkpoint(setup, log, trial, family.title)


def _operations(trial: Distillation, family: MadeQwenImage) -> float:
    """Of one forward on one row, by torch's counter."""
    batch = trial.draws.batch("student", 0, 0)
    asked = batch.condition
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        bare = trial.networks.teachers.members[0][0]
        family.velocity(bare, batch.noise_BCHW, torch.ones(1), asked.text_BLD, asked.source_BCHW)
    return float(counter.get_total_flops())


def _warm(trial: Distillation) -> None:
    """Forwards of every role and one backward, a quarter of a cycle: libraries and buffers load."""
    step = trial.objective.student_loss(trial.draws.batch("student", 0, 0), trial.networks)
    step.loss.backward()
    for optimiser in trial.optimisers.values():
        optimiser.zero_grad(set_to_none=True)


def _sampling(
    setup: Setup, log: Log, family: MadeQwenImage, trial: Distillation, where: str
) -> float:
    """Seconds of one sample of four rungs, warmed by the cycles; for 2.1 also with its prefix."""
    batch = trial.draws.batch("student", 1, 0)
    asked, rungs = batch.condition, trial.networks.rungs

    def drawn(**more: Any) -> Tensor:
        def velocity(z: Tensor, t: Tensor, rows: Tensor | slice) -> Tensor:
            given = {k: next(v) for k, v in more.items()}
            return family.velocity(trial.student, z, t, asked.text_BLD, asked.source_BCHW, **given)

        return sample(velocity, batch.noise_BCHW, rungs)

    plain = setup.median(drawn, times=2, warm=0)
    log.row(f"{where}: a sample of {rungs.count} rungs", plain, "s")
    if isinstance(family, MadeQwenImage21):

        def kept() -> Tensor:
            return drawn(cache=family.caches())

        seconds = setup.median(kept, times=2, warm=1)  # nothing before had its shapes
        note = f"{seconds / plain:.2f} of it"
        log.row(f"{where}: the same, its prefix kept", seconds, "s", note=note)
        log.row(f"{where}: difference that makes", apart(kept(), drawn()), most=2e-2)
    return plain


def _checkpoint(setup: Setup, log: Log, trial: Distillation, title: str) -> None:
    saved = setup.seconds(lambda: checkpoint.save(setup.scratch, 1, trial.state_dict(), "bench"))
    file = setup.scratch / checkpoint.name_of(1)
    loaded = setup.seconds(lambda: trial.load_state_dict(checkpoint.load_latest(file, "bench")[1]))
    size = file.stat().st_size / GB
    file.unlink()
    log.row(f"{title}: checkpoint written", saved, "s", note=f"{size:.3g} GB")
    log.row(f"{title}: checkpoint read back, sums checked", loaded, "s")
