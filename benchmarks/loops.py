"""Our DMD cycle against the published loops of DMD2 and DP-DMD, on the same tiny networks.

    python benchmarks/loops.py [--rounds 16] [--cycles 2] [--fakes 5] [--batch 32]

A cycle is one student update and k fake-score updates. The published loops are written out plainly
from their description; GAN terms and the writing of pictures are left out, default AdamW kept.
- DMD2: one random exit rung for the whole batch, early exit, re-noising between rungs, guidance
  halves in one call, the fake score trained on the student's own sample in its iteration and on
  new samples in the others. In forwards it is at the floor already; the exits are those ours draws.
- DP-DMD: K guided teacher steps to the anchor, four student steps with gradient, and for every
  fake update a whole new rollout; text encoded three times in an iteration.
Ours are cycles as a trial runs them: seed streams, ledger, EMA, logs. `dmd2` is dmd set to DMD2's
mathematics (one exit, re-noising), `dp_dmd` DP-DMD's, `dmd` the default: with rungs stratified
inside the batch it has as many forwards in more and smaller calls, which only tiny networks feel.
Rounds are interleaved, forwards counted by hooks (a backward counts as two). Exit 1 if `dmd` is
above the floor in forwards, or if the upper 95 % bound of a judged time ratio (paired t over log
ratios) reaches 1: each of ours over the loop of its mathematics, and `dmd` over DP-DMD.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import count, pairwise

import torch
from torch import Tensor, nn

from harness.journal.seeds import stream_for
from recipes.ledger import Ledger

torch.set_num_threads(1)
SCALE = 2.0
LEVELS = torch.tensor([1.0, 0.9, 0.75, 0.5])
OURS = {
    "dmd": {"name": "dmd"},
    "dmd2": {"name": "dmd", "exit_rungs": "one", "rollout": "renoise"},
    "dp_dmd": {"name": "dp_dmd", "normaliser": "xt_teacher"},
}
ANCHOR, TEACHER_STEPS = 5, 30


class Published:
    """What the two published loops share: networks, prompts, one update."""

    def __init__(self, batch: int) -> None:
        from recipes.families.toyworld import shared
        from recipes.toyworld.prompts import CATEGORIES, prompts

        self.family, self.batch = shared(), batch
        self.pools = [prompts(category, "train") for category in CATEGORIES]
        self.g = torch.Generator().manual_seed(0)
        self.student = self.family.network("teacher").requires_grad_(True)
        self.fake = self.family.network("teacher").requires_grad_(True)
        self.teacher = self.family.network("teacher").requires_grad_(False)
        self.ledger = Ledger()
        for role in ("student", "fake", "teacher"):
            self.ledger.watch(role, getattr(self, role))
        self.optimisers = {
            "student": torch.optim.AdamW(self.student.parameters(), 1e-4, (0.9, 0.999)),
            "fake": torch.optim.AdamW(self.fake.parameters(), 2e-4, (0.9, 0.999)),
        }

    def prompts(self) -> list[str]:
        def pick(pool: tuple) -> object:
            return pool[int(torch.randint(len(pool), (), generator=self.g))]

        return [pick(pick(self.pools)).caption for _ in range(self.batch)]

    def text(self, captions: list[str]) -> Tensor:
        return self.family.condition(captions).text_BLD

    def noise(self) -> Tensor:
        return torch.randn(self.batch, 48, 3, 3, generator=self.g)

    def velocity(self, network: nn.Module, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return self.family.velocity(network, z, t, text, None)

    @torch.no_grad()
    def guided(self, z: Tensor, t: Tensor, text: Tensor, empty: Tensor) -> Tensor:
        both = self.velocity(
            self.teacher, torch.cat([z, z]), torch.cat([t, t]), torch.cat([text, empty])
        )
        v_c, v_u = both.chunk(2)
        return v_u + SCALE * (v_c - v_u)

    def renoise(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        xi = self.noise()
        return (1 - at(t)) * x + at(t) * xi, xi

    def update(self, role: str, loss: Tensor) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(getattr(self, role).parameters(), 1.0)
        self.optimisers[role].step()
        self.optimisers[role].zero_grad()

    def fake_update(self, x: Tensor, t: Tensor, text: Tensor) -> None:
        z, xi = self.renoise(x, t)
        self.update("fake", (self.velocity(self.fake, z, t, text) - (xi - x)).square().mean())


def at(t: Tensor) -> Tensor:
    return t.view(-1, 1, 1, 1)


def matching(x: Tensor, x0_fake: Tensor, x0_real: Tensor, near: Tensor) -> Tensor:
    grad = (x0_fake - x0_real) / (near - x0_real).abs().mean((1, 2, 3), keepdim=True)
    return 0.5 * (x - (x - torch.nan_to_num(grad)).detach()).square().mean()


def dmd2(p: Published, k: int) -> Iterator[None]:
    """K iterations: each generates and trains the fake score, the first the student as well."""
    seed = stream_for(0)
    empty = p.text([""] * p.batch)

    def generate(text: Tensor, last: int, grad: bool) -> Tensor:
        z = p.noise()
        with torch.no_grad():
            for i in range(last):
                t = LEVELS[i].expand(p.batch)
                x = z - at(t) * p.velocity(p.student, z, t, text)
                z = (1 - LEVELS[i + 1]) * x + LEVELS[i + 1] * p.noise()
        t = LEVELS[last].expand(p.batch)
        with torch.set_grad_enabled(grad):
            return z - at(t) * p.velocity(p.student, z, t, text)

    def levels() -> Tensor:
        return 0.02 + 0.96 * torch.rand(p.batch, generator=p.g)

    for cycle in count():
        for iteration in range(k):
            text = p.text(p.prompts())
            last = seed("exit.fake" if iteration else "exit.student", cycle, iteration) % 4
            x = generate(text, last, grad=iteration == 0)
            if iteration == 0:
                with torch.no_grad():
                    t = levels()
                    z, _ = p.renoise(x, t)
                    x0_fake = z - at(t) * p.velocity(p.fake, z, t, text)
                    x0_real = z - at(t) * p.guided(z, t, text, empty)
                p.update("student", matching(x, x0_fake, x0_real, x.detach()))
            p.fake_update(x.detach(), levels(), text)
        yield


def dp_dmd(p: Published, k: int) -> Iterator[None]:
    """K fake iterations on rollouts of their own, then one of the student."""
    edges = torch.linspace(1, 0, TEACHER_STEPS + 1)
    edges = 3 * edges / (1 + 2 * edges)

    def roll(z: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        first = z
        for i in range(4):
            v = p.velocity(p.student, z, LEVELS[i].expand(p.batch), text)
            s = LEVELS[i + 1] if i < 3 else 0.0
            if i == 0:
                first, v = v, v.detach()
            z = z + (s - LEVELS[i]) * v
        return first, z

    def level() -> Tensor:
        return torch.rand(1, generator=p.g).expand(p.batch)  # one for the whole batch

    while True:
        for iteration in range(k + 1):
            captions = p.prompts()
            text, _, empty = p.text(captions), p.text(captions), p.text([""] * p.batch)
            eps = p.noise()
            if iteration < k:
                with torch.no_grad():
                    _, x = roll(eps, text)
                p.fake_update(x, level(), text)
                continue
            z = eps
            for a, b in pairwise(edges[: ANCHOR + 1]):
                z = z + (b - a) * p.guided(z, a.expand(p.batch), text, empty)
            anchor = (eps - z) / (1 - edges[ANCHOR])
            v1, x = roll(eps, text)
            with torch.no_grad():
                t = level()
                z, _ = p.renoise(x, t)
                x0_fake = z - at(t) * p.velocity(p.fake, z, t, text)
                x0_real = z - at(t) * p.guided(z, t, text, empty)
            loss = matching(x, x0_fake, x0_real, z) + 0.05 * (v1 - anchor).square().mean()
            p.update("student", loss)
        yield


def ours(name: str, batch: int, k: int) -> tuple[Iterator[None], Ledger, dict[str, float]]:
    """A trial's own cycles, its ledger and the forwards it declares."""
    from recipes.cycle import Distillation
    from recipes.data.draws import Draws
    from recipes.data.toyworld import ToyWorldSource
    from recipes.families.toyworld import shared
    from recipes.recipe import Recipe

    recipe = Recipe.model_validate(
        {
            "objective": {**OURS[name], "fake_updates": k},
            "tasks": {"t2i": 1},
            "guidance": {"scale": SCALE},
            "train": {"batch_size": batch},
        }
    )
    family = shared()
    draws = Draws(recipe, ToyWorldSource(family), family.latent_shape, stream_for(0))
    trial = Distillation(recipe, family, draws)

    def cycles() -> Iterator[None]:
        while True:
            trial.cycle()
            yield

    return cycles(), trial.ledger, trial.objective.forwards(4, SCALE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--cycles", type=int, default=2, help="cycles of a loop per round")
    parser.add_argument("--fakes", type=int, default=5, help="k, the same in every loop")
    parser.add_argument("--batch", type=int, default=32, help="a multiple of 4")
    given = parser.parse_args()
    loops, ledgers, declared = {}, {}, {}
    for name, loop in (("DMD2", dmd2), ("DP-DMD", dp_dmd)):
        published = Published(given.batch)
        loops[name], ledgers[name] = loop(published, given.fakes), published.ledger
    for name in OURS:
        loops[name], ledgers[name], declared[name] = ours(name, given.batch, given.fakes)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    names = list(loops)
    for number in range(given.rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            for _ in range(given.cycles):
                next(loops[name])
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - began) / given.cycles)
        if number == 0:
            for ledger in ledgers.values():
                ledger.reset()
    done = given.rounds * given.cycles
    cost = {name: ledger.cost(given.batch) / done for name, ledger in ledgers.items()}
    print(f"torch {torch.__version__}, python {platform.python_version()}, {time.strftime('%F')}")
    print(f"{given.rounds} rounds of {given.cycles} cycles, k={given.fakes}, batch {given.batch}")
    print(f"{'loop':8} {'F a cycle':>9} {'median s':>9}")
    for name in names:
        print(f"{name:8} {cost[name]:9.2f} {statistics.median(seconds[name]):9.3f}")
    floor = 7.5 + 3 + 5.5 * (given.fakes - 1)
    ratios, good = [], math.isclose(cost["dmd"], floor)
    for own, other in (("dmd2", "DMD2"), ("dp_dmd", "DP-DMD"), ("dmd", "DP-DMD")):
        ratio, bound = paired(seconds[own], seconds[other])
        ratios.append(f"{own}/{other} {ratio:.2f} (bound {bound:.2f})")
        good = good and bound < 1
    ratios.append(
        "not judged: dmd/DMD2 {:.2f} (bound {:.2f})".format(
            *paired(seconds["dmd"], seconds["DMD2"])
        )
    )
    for name in ("dmd", "dp_dmd"):  # dmd2's exits are random, its count is so on average only
        found = {role: rows / done for role, rows in ledgers[name].forwards(given.batch).items()}
        good = good and found == declared[name]
    good = good and math.isclose(cost["dmd2"], cost["DMD2"])
    print(f"dmd {cost['dmd']:.2f} F, floor {floor:.2f} F; time ratios {', '.join(ratios)}")
    return 0 if good else 1


def paired(own: list[float], other: list[float]) -> tuple[float, float]:
    """Geometric mean ratio and its upper 95 % bound."""
    from scipy import stats

    logs = [math.log(a / b) for a, b in zip(own, other, strict=True)]
    mean, se = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean + stats.t.ppf(0.95, len(logs) - 1) * se)


if __name__ == "__main__":
    sys.exit(main())
