"""A trial from start to end: distil, report, checkpoint, measure, export."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from harness.contract import Artifact, Context, CorruptCheckpoint, Outcome, Report
from recipes import checkpoint
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.data.sources import Sources
from recipes.families.base import PictureFamily
from recipes.families.registry import family_of, rules_of
from recipes.recipe import Recipe
from recipes.references import own_teacher
from recipes.roles.adapters import deployed
from recipes.sampling import student_pictures
from recipes.subject.measuring import measured
from recipes.subject.protocols import protocol_named


def trained(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Distil a student and measure it; resumable, and bit-exact on CPU."""
    made = Recipe.model_validate(dict(recipe))
    recipe_hash = hashlib.sha256(made.model_dump_json().encode()).hexdigest()
    family = family_of(
        made.family,
        recipe.get("model"),
        negative=made.guidance.negative,
        # What is measured may edit where training does not.
        edits=made.mixture.edits or bool(protocol_named(context.measurement.protocol).items.edit),
        device=context.device,
    )
    rules = rules_of(made.family, family)
    sources = Sources(made.data, family, context.seed, context.cache, made.mixture.tasks, rules)
    info = {f"data.{report.source}": report.text() for report in sources.reports}
    for name, text in info.items():
        print(f"{name}: {text}")  # to the trial's log
    draws = Draws(made, sources, family.latent_shape, context.seed)
    trial = Distillation(made, family, draws)
    if context.resume_from is not None:
        try:
            _, state, complaints = checkpoint.load_latest(context.resume_from, recipe_hash)
        except checkpoint.CorruptCheckpoint as error:
            raise CorruptCheckpoint(str(error)) from error
        trial.load_state_dict(state)
        info["resumed"] = f"at cycle {trial.cycles}" + "".join(f"; {c}" for c in complaints)
    else:
        trial.warm_up()
    total = made.total_cycles
    wanted = {c for c in context.measurement.at if c < total} | {total}
    pace = _Pace(trial)
    yield Report(step=trial.cycles, total=total, info=info)
    while trial.cycles < total:
        logs = trial.cycle()
        done = trial.cycles
        if trial.diverged:
            yield Report(step=done, outcome=Outcome(state="diverged", reason=trial.diverged))
            return
        if done % made.train.log_every == 0 or done == total:
            metrics = {f"train/{name}": value for name, value in (logs | trial.standing()).items()}
            yield Report(step=done, total=total, metrics=metrics | pace())
        if done in wanted:
            network = trial.ema.module if context.measurement.select == "ema" else trial.student
            yield from _measured(family, network, made, context, done)
            network.train()
        if done == total:
            return
        # After measuring: what is resumed from here has been measured.
        # A crash between the two measures twice, and the same step counts once.
        expired = context.deadline is not None and time.time() > context.deadline
        if done % made.train.checkpoint_every == 0 or expired:
            path = checkpoint.save(context.folder, done, trial.state_dict(), recipe_hash)
            kept = Artifact(kind="checkpoint", path=path.name, step=done)
            yield Report(step=done, total=total, artifacts=(kept,))
        # A deadline is a return, not a signal: the harness closes the attempt as killed, and the
        # next run goes on from this checkpoint.
        if expired:
            return


class _Pace:
    """What the cycles since the start of this attempt cost; the warm-up is left out."""

    def __init__(self, trial: Distillation) -> None:
        self._trial = trial
        self._first = trial.cycles
        self._began = time.monotonic()
        trial.ledger.reset()

    def __call__(self) -> dict[str, float]:
        done = self._trial.cycles - self._first
        forwards = self._trial.ledger.forwards(self._trial.recipe.train.batch_size)
        return {f"cost/forwards_{role}": count / done for role, count in forwards.items()} | {
            "cost/cycles_per_second": done / (time.monotonic() - self._began)
        }


def _measured(
    family: PictureFamily, network: nn.Module, recipe: Recipe, context: Context, done: int
) -> Iterator[Report]:
    """Measure after some cycles; at the end the student is exported and the trial is done."""
    total = recipe.total_cycles
    last = done == total
    student: tuple[Artifact, ...] = ()
    if last:
        path = family.export(network, recipe, context.folder, done)
        student = (Artifact(kind="student", path=path, step=done),)
    rungs = recipe.student.levels
    # A merged copy of 20 B parameters would double the memory: students of a large family are
    # sampled with their adapters beside the base, and kept as adapters.
    sampled = network if recipe.model is not None else deployed(network)
    pictures = student_pictures(family, sampled, rungs, renoise=recipe.objective.renoises)
    teacher, note = own_teacher(recipe.model_dump(mode="json"))
    protocol = context.measurement.protocol
    for report in measured(pictures, protocol, context, done, total, teacher, note):
        ends = last and report.measured
        yield report.model_copy(
            update={
                "artifacts": (*report.artifacts, *(student if ends else ())),
                "outcome": Outcome(state="done") if ends else None,
            }
        )
