"""A training cycle inside a trial against the bare loop of the same mathematics.

    python benchmarks/cycle.py [--pairs 24] [--reports 2]

Both distil the same student from the same weights with the same number of forwards, tasks in the
same order, prompts and edit sources rendered and encoded in both. The bare loop is one plain script
without seeds by stream, ledger, reports, checkpoints or harness; the trial is what `run` executes,
reports written. Blocks of cycles are interleaved; the ratio is paired, its upper 95 % confidence
bound (t over pairs of log ratios) is the claim: at most 1.05.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

torch.set_num_threads(1)


def bare_loop(recipe_fields: dict) -> Iterator[None]:
    """DMD without GAN in one plain function; yields after every cycle."""
    from recipes.recipe import Recipe
    from recipes.toyworld import models, weights
    from recipes.toyworld.prompts import CATEGORIES, EDIT_TYPES, edit_cases, encode, prompts
    from recipes.toyworld.renderer import FREE, render_sources

    recipe = Recipe.model_validate(recipe_fields)
    size, k, scale = recipe.train.batch_size, recipe.objective.fake_updates, recipe.guidance.scale
    autoencoder, text_encoder = weights.load("autoencoder"), weights.load("text_encoder")
    teacher = weights.load("teacher")
    student = weights.load("teacher").requires_grad_(True)
    fake = weights.load("teacher").requires_grad_(True)
    ema = [p.detach().clone() for p in student.parameters()]
    opt = {
        "s": torch.optim.AdamW(student.parameters(), 1e-4, (0.0, 0.99), weight_decay=0, fused=True),
        "f": torch.optim.AdamW(fake.parameters(), 2e-4, (0.0, 0.99), weight_decay=0, fused=True),
    }
    levels = torch.tensor([1.0, 0.9, 0.75, 0.5])
    exits = torch.arange(4).repeat_interleave(size // 4).flip(0)
    g = torch.Generator().manual_seed(0)
    empty = text_encoder(torch.tensor(encode([""] * size)))

    def pick(pool: tuple) -> object:
        return pool[int(torch.randint(len(pool), (), generator=g))]

    def condition(task: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        if task == "t2i":
            texts = [pick(prompts(pick(CATEGORIES), "train")).caption for _ in range(size)]
            return text_encoder(torch.tensor(encode(texts))), None
        cases = [pick(edit_cases(pick(EDIT_TYPES), "train")) for _ in range(size)]
        free = torch.rand(size, FREE, generator=g)
        source = render_sources(cases, free, torch.randn(size, 3, 24, 24, generator=g))
        text = text_encoder(torch.tensor(encode([c.instruction for c in cases])))
        return text, autoencoder.encode(source)

    def at(t: torch.Tensor) -> torch.Tensor:
        return t.view(-1, 1, 1, 1)

    def sample(text: torch.Tensor, source: torch.Tensor | None, grad: bool) -> torch.Tensor:
        z = torch.randn(size, 48, 3, 3, generator=g)
        with torch.no_grad():
            for i in range(3):
                n = int((exits > i).sum())
                part = None if source is None else source[:n]
                v = models.velocity(student, z[:n], levels[i].expand(n), text[:n], part)
                z[:n] = z[:n] + (levels[i + 1] - levels[i]) * v
        t = levels[exits]
        with torch.set_grad_enabled(grad):
            return z - at(t) * models.velocity(student, z, t, text, source)

    def renoise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        t = 0.02 + 0.96 * torch.rand(size, generator=g)
        t = 2.5 * t / (1 + 1.5 * t)
        xi = torch.randn(x.shape, generator=g)
        return (1 - at(t)) * x + at(t) * xi, t, xi

    def update(name: str, module: nn.Module, loss: torch.Tensor) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0, foreach=True)
        opt[name].step()
        opt[name].zero_grad(set_to_none=True)

    cycle = 0
    while True:
        text, source = condition(TASKS[cycle % len(TASKS)][0])
        x = sample(text, source, True)
        with torch.no_grad():
            z, t, _ = renoise(x)
            v_fake = models.velocity(fake, z, t, text, source)
            both = models.velocity(
                teacher, torch.cat([z, z]), torch.cat([t, t]), torch.cat([text, empty]),
                None if source is None else torch.cat([source, source]),
            )  # fmt: skip
            v_c, v_u = both.chunk(2)
            real = z - at(t) * (v_u + scale * (v_c - v_u))
            grad = (z - at(t) * v_fake) - real
            grad = grad / (x - real).abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-6)
        update("s", student, 0.5 * (x - (x - grad).detach()).square().mean())
        for j in range(k):
            if j == 0:
                clean = x.detach()
            else:
                text, source = condition(TASKS[cycle % len(TASKS)][j])
                clean = sample(text, source, False)
            z, t, xi = renoise(clean)
            v = models.velocity(fake, z, t, text, source)
            update("f", fake, (v - (xi - clean)).square().mean())
        torch._foreach_lerp_(ema, [p.detach() for p in student.parameters()], 0.05)
        cycle += 1
        yield


TASKS: list[list[str]] = []
"""Task of every update of every cycle, as the trial draws them, so that both do the same work."""


def trial_loop(recipe_fields: dict, folder: Path) -> Iterator[None]:
    """What `run` executes in a worker: the subject's generator; a written report a yield."""
    import json

    from harness.contract import Context, Measurement
    from harness.journal.seeds import stream_for
    from recipes import subject

    context = Context(
        key="bench", replicate=0, seed=stream_for(0), folder=folder,
        measurement=Measurement(protocol="toyworld-v1"), cache=folder,
    )  # fmt: skip
    with (folder / "reports.jsonl").open("a") as out:
        for report in subject.run(recipe_fields, context):
            out.write(json.dumps({"at": time.time(), "report": report.model_dump(mode="json")}))
            out.flush()
            if report.metrics:
                yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--reports", type=int, default=2, help="reports of a trial per block")
    given = parser.parse_args()
    from harness.journal.seeds import stream_for
    from recipes.data.draws import Draws
    from recipes.recipe import Recipe

    every = Recipe().train.log_every
    block = given.reports * every
    total = block * (given.pairs + 1) + every
    recipe = Recipe.model_validate({"train": {"cycles": total}})
    draws = Draws(recipe, None, (48, 3, 3), stream_for(0))  # type: ignore[arg-type]
    for cycle in range(total + 1):
        fakes = [draws.task("fake", cycle, j) for j in range(recipe.objective.fake_updates)]
        TASKS.append([draws.task("student", cycle, 0), *fakes[1:]])
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        loops = {
            "bare": bare_loop(recipe.model_dump()),
            "trial": trial_loop(recipe.model_dump(), Path(folder)),
        }
        for pair in range(given.pairs + 1):
            seconds = {}
            for name in ("bare", "trial") if pair % 2 else ("trial", "bare"):
                began = time.perf_counter()
                for _ in range(block if name == "bare" else given.reports):
                    next(loops[name])
                seconds[name] = (time.perf_counter() - began) / block
            if pair == 0:
                continue  # warm-up: weights, first allocation, fake-only updates
            ratios.append(math.log(seconds["trial"] / seconds["bare"]))
            print(f"pair {pair}: trial {seconds['trial']:.3f} s, bare {seconds['bare']:.3f} s")
    from scipy import stats

    mean, se = statistics.fmean(ratios), statistics.stdev(ratios) / math.sqrt(len(ratios))
    bound = math.exp(mean + stats.t.ppf(0.95, len(ratios) - 1) * se)
    print(f"torch {torch.__version__}, python {platform.python_version()}, {time.strftime('%F')}")
    print(f"ratio trial/bare {math.exp(mean):.3f}, upper 95 % bound {bound:.3f} (limit 1.05)")
    return 0 if bound <= 1.05 else 1


if __name__ == "__main__":
    sys.exit(main())
