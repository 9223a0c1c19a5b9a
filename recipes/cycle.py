"""The training loop's unit: a cycle is one student update plus k fake-score updates.

Objectives without a fake score have k = 0, and none is built, run or kept.

Counters count cycles; schedules, EMA and checkpoints are keyed to them. The student's sample serves
the first fake update. A non-finite update is skipped, counted and never hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from recipes.data.draws import Draws
from recipes.ema import Ema
from recipes.families.base import Family
from recipes.guidance.panel import TeacherPanel
from recipes.ledger import Ledger
from recipes.objectives.base import Batch, Networks
from recipes.objectives.registry import objective_of
from recipes.recipe import Adam, Recipe
from recipes.roles.assembly import gradients_only_in, roles_of

WARMUP = -1
"""Cycle number of the fake-only updates before the first cycle."""


class Distillation:
    """State and step of one trial: `warm_up()` once, then `cycle()` as often as wanted."""

    def __init__(self, recipe: Recipe, family: Family, draws: Draws) -> None:
        if draws.mixture.edits and not family.edits:
            raise ValueError(f"family {recipe.family!r} cannot edit; set tasks.edit to 0")
        self.recipe = recipe
        self.draws = draws
        self.cycles = 0
        need_fake = recipe.objective.fake_updates > 0
        cast = roles_of(recipe, family, draws.seed, need_fake=need_fake)
        student, fake = cast.student, cast.fake
        self.networks = Networks(
            family=family,
            student=student,
            fake=fake,
            teachers=TeacherPanel.load(
                family, recipe.teachers, recipe.guidance, recipe.panel, cast.teacher
            ),
            rungs=recipe.student.levels,
        )
        self.objective = objective_of(recipe.objective)
        self.ema = Ema(student, recipe.train.ema_decay)
        own = self.objective.start(self.networks)
        self.trained = {"student": student} | ({"fake": fake} if fake is not None else {})
        self.skipped = dict.fromkeys(self.trained, 0)
        self.optimisers = {
            role: _adamw(network, getattr(recipe.optimiser, role))
            for role, network in self.trained.items()
        }
        self.ledger = Ledger()
        for role, network in {**self.trained, **own}.items():
            self.ledger.watch(role, network)
        teachers = [network for network, _ in self.networks.teachers.members]
        for network in teachers:
            self.ledger.watch("teacher", network)
        # Listed once: walking modules after every backward costs a hundredth of a tiny cycle.
        self._parameters = {role: list(m.parameters()) for role, m in self.trained.items()}
        frozen = (*own.values(), *teachers)
        self._parameters["frozen"] = [p for network in frozen for p in network.parameters()]

    def warm_up(self) -> None:
        """Fake-only updates that let the fake score find the student before the first cycle."""
        for update in range(self.recipe.objective.warmup_fake_updates):
            self._fake_update(self.draws.batches("fake", WARMUP, update))

    def cycle(self) -> dict[str, float]:
        """One student update and k fake updates; returns what to log."""
        number = self.cycles
        batches = self.draws.batches("student", number, 0)
        steps = [self.objective.student_loss(batch, self.networks) for batch, _ in batches]
        weights = [weight for _, weight in batches]
        # Two micro-batches of one update (`mixing.by: sample`) make one mean over all of its rows:
        # each loss is a mean over its own, weighted by their share.
        loss = sum(w * step.loss for w, step in zip(weights, steps, strict=True))
        logs = {"loss_student": float(loss.detach())}
        for name in steps[0].logs:
            logs[name] = sum(w * s.logs[name] for w, s in zip(weights, steps, strict=True))
        logs["grad_norm_student"] = self._step("student", loss)
        self.objective.after_student(self.networks)
        for update in range(self.recipe.objective.fake_updates):
            # The student's sample is paid for already: judging it anew, with levels and noise of
            # the fake score's own streams, spares the first fake update a whole rollout.
            if update == 0:
                judged = self.draws.judged_anew(batches, number)
                loss, norm = self._fake_update(judged, [step.sample_BCHW for step in steps])
            else:
                loss, norm = self._fake_update(self.draws.batches("fake", number, update))
            logs["loss_fake"], logs["grad_norm_fake"] = loss, norm
        self.ema.update(self.networks.student)
        self.cycles += 1
        return logs

    def _fake_update(
        self, batches: Sequence[tuple[Batch, float]], samples: Sequence[Tensor] | None = None
    ) -> tuple[float, float]:
        loss = sum(
            weight * self.objective.fake_loss(batch, self.networks, sample)
            for (batch, weight), sample in zip(
                batches, samples or [None] * len(batches), strict=True
            )
        )
        return float(loss.detach()), self._step("fake", loss)

    def _step(self, role: str, loss: Tensor) -> float:
        optimiser = self.optimisers[role]
        settings: Adam = getattr(self.recipe.optimiser, role)
        # With adapters on one base a wrongly routed gradient raises nothing by itself. So every
        # update asks where gradients went, before its optimiser steps.
        loss.backward()
        active = self._parameters[role]
        others = chain.from_iterable(p for name, p in self._parameters.items() if name != role)
        assert gradients_only_in(active, others), f"{role}'s update reached another role"
        norm = float(nn.utils.clip_grad_norm_(active, settings.clip_norm, foreach=True))
        # One non-finite gradient would stay in AdamW's moments for good; skipped, it costs an
        # update.
        if norm == norm and norm != float("inf"):
            optimiser.step()
        else:
            self.skipped[role] += 1
        optimiser.zero_grad(set_to_none=True)
        return norm

    @property
    def student(self) -> nn.Module:
        """The student as trained, without averaging."""
        return self.networks.student

    def standing(self) -> dict[str, float]:
        """What to log beside a cycle's own numbers: updates skipped, shares realised."""
        skipped = {f"skipped_{role}": float(count) for role, count in self.skipped.items()}
        return skipped | {f"share_{name}": s for name, s in self.draws.shares().items()}

    @property
    def diverged(self) -> str:
        """Why training cannot go on; empty while it can."""
        for role, count in self.skipped.items():
            if count > self.recipe.train.max_skipped:
                return f"{count} non-finite {role} updates"
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {
            # No generator's state: every draw is a function of cycle and update.
            "roles": {role: network.state_dict() for role, network in self.trained.items()},
            "objective": self.objective.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "cycles": self.cycles,
            "skipped": dict(self.skipped),
            "realised": dict(self.draws.realised),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for role, network in self.trained.items():
            network.load_state_dict(state["roles"][role])
        self.objective.load_state_dict(state["objective"])
        self.ema.load_state_dict(state["ema"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.cycles = int(state["cycles"])
        self.skipped = dict(state["skipped"])
        self.draws.realised.clear()
        self.draws.realised.update(state["realised"])


def _adamw(module: nn.Module, settings: Adam) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        module.parameters(),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        # One kernel for all tensors: the toy world's are small, and calls would cost more than
        # sums.
        fused=True,
    )
