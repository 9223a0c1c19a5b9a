"""Part 2: the quickstart's recipe on the device against the CPU, by the code a trial runs.

Networks, extractor, CLIP and oracle are on the device, latents on the CPU, as in any trial there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gpu_parts.setup import Log, Setup, apart, flat_gradient
from harness.contract import Context, Measurement, Report
from harness.journal.seeds import stream_for
from recipes import subject
from recipes.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
MOST, MEASURED = 1e-3, 0.02
"""Largest relative distance of losses and gradients, and difference of a measured share."""


def recipe(setup: Setup, cycles: int, checkpoint_every: int = 100) -> dict[str, Any]:
    """The quickstart's recipe for a few cycles, every one reported; resolved."""
    fields = dict(YAML(typ="safe", pure=True).load(ROOT / "recipes" / "toyworld.yaml"))
    train = {**fields["train"], "cycles": cycles, "log_every": 1}
    fields["train"] = train | {"checkpoint_every": checkpoint_every}
    if setup.tiny:
        fields["train"] |= {"batch_size": 4}
        fields["objective"] = {"name": "dmd", "fake_updates": 1, "warmup_fake_updates": 1}
    return Recipe.model_validate(fields).model_dump(mode="json")


def protocol(setup: Setup) -> str:
    """The shipped protocol; for tiny runs a copy of it with few items."""
    if not setup.tiny:
        return "toyworld-v1"
    yaml = YAML(typ="safe", pure=True)
    held = yaml.load(ROOT / "evaluation" / "protocols" / "toyworld-v1.yaml")
    held["name"] = "toyworld-few"
    held["items"]["t2i"] = dict.fromkeys(held["items"]["t2i"], 8)
    held["items"]["edit"] = dict.fromkeys(held["items"]["edit"], 2)
    held["references"]["per_category"] = 32
    held |= {
        "diversity": {"per_category": 2, "draws": 2},
        "manifold": {"k": 3, "max_blocks": 4},
        "intervals": {"level": 0.95, "resamples": 50, "groups": 4},
    }
    file = setup.scratch / "toyworld-few-v1.yaml"
    if not file.exists():
        yaml.dump(held, file)
    return str(file)


def run(
    setup: Setup, fields: Mapping[str, Any], device: str, folder: Path, resume: Path | None = None
) -> Iterator[Report]:
    """A trial as a worker runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    context = Context(
        key="gpu-check",
        replicate=0,
        seed=stream_for(0),
        folder=folder,
        cache=setup.scratch.parent / f"cache-{device}",
        device=device,
        measurement=Measurement(protocol=protocol(setup)),
        resume_from=resume,
    )
    yield from subject.run(fields, context)


def numbers_of(reports: Sequence[Report]) -> dict[str, float]:
    """Every number of a trial; those of training by cycle."""
    found: dict[str, float] = {}
    for report in reports:
        for name, value in report.metrics.items():
            found[f"{name}@{report.step}" if name.startswith("train/") else name] = value
    return found


def measure(setup: Setup, log: Log) -> None:
    """Two cycles and a measured student, on the CPU and on the device."""
    numbers, gradients = {}, {}
    for place, device in (("reference", "cpu"), ("device", setup.device)):
        reports, times = [], [time.perf_counter()]
        with first_gradients() as gradients[place]:
            for report in run(setup, recipe(setup, cycles=2), device, setup.scratch / place):
                setup.synchronize()
                reports.append(report)
                times.append(time.perf_counter())
        numbers[place] = numbers_of(reports)
        trained = next(i for i, r in enumerate(reports, 1) if r.step == 2 and r.metrics)
        log.row(
            f"toy world, {place} ({device}): second cycle", times[trained] - times[trained - 1], "s"
        )
        log.row(f"toy world, {place} ({device}): measuring", times[-1] - times[trained], "s")
    _compare(log, numbers["device"], numbers["reference"])
    for role in ("student", "fake"):
        error = apart(gradients["device"][role], gradients["reference"][role])
        log.row(f"toy world: first gradient of the {role} against CPU", error, most=MOST)


def _compare(log: Log, found: Mapping[str, float], reference: Mapping[str, float]) -> None:
    for name in ("loss_student", "loss_fake", "grad_norm_student", "grad_norm_fake"):
        for cycle in (1, 2):
            key = f"train/{name}@{cycle}"
            error = abs(found[key] - reference[key]) / abs(reference[key])
            log.row(f"toy world: {name}, cycle {cycle}, against CPU", error, most=MOST)
    for name in ("t2i/clip", "edit/fidelity"):
        error = abs(found[name] - reference[name])
        log.row(f"toy world: {name} against CPU", error, most=MEASURED)
    for name in ("t2i/kd", "t2i/fid"):
        log.row(
            f"toy world: {name} against CPU", abs(found[name] - reference[name]),
            note=f"of {reference[name]:.4g}",
        )  # fmt: skip


@contextlib.contextmanager
def first_gradients() -> Iterator[dict[str, Tensor]]:
    """The gradient of the first step of student and fake score, flat, as clipped."""
    found: dict[str, Tensor] = {}
    optimisers: list[torch.optim.Optimizer] = []

    def hook(optimiser: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        if any(optimiser is one for one in optimisers):
            return
        # The fake score's warm-up steps before the student does.
        role = ("fake", "student")[len(optimisers)]
        optimisers.append(optimiser)
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        found[role] = flat_gradient(parameters)

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield found
    finally:
        handle.remove()
