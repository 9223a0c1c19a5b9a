"""The subject: the one module where training, measuring and the harness's contract meet.

Importing it imports no torch; that happens inside `run`, `measure` and `reference`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.catalogue import catalogue
from evaluation.protocol import Protocol, available_protocols, load_protocol
from harness.contract import (
    Artifact,
    Context,
    Estimate,
    Fingerprints,
    Measurement,
    MetricSpec,
    Outcome,
    Report,
)
from recipes.fingerprints import code_digest, code_files, data_digest
from recipes.recipe import Recipe
from recipes.references import references as _references

if TYPE_CHECKING:
    from evaluation.measure import Measured
    from evaluation.sampling import Batch
    from evaluation.world import World
    from recipes.sampling import Pictures

__all__ = [
    "Context",
    "Measurement",
    "Recipe",
    "arm_label",
    "default_protocol",
    "fingerprints",
    "measure",
    "metrics",
    "protocols",
    "reference",
    "references",
    "run",
    "scope",
]

PROTOCOL = "toyworld-v1"
default_protocol = PROTOCOL
protocols = available_protocols()
MEASURE_BATCH = 64
PANELS = {"t2i": 2, "edit": 1}
"""Items per category whose pictures are kept."""


@cache
def _protocol(name: str) -> Protocol:
    return load_protocol(name)


@cache
def _protocol_fingerprint(name: str) -> str:
    return _protocol(name).fingerprint()


metrics: Mapping[str, MetricSpec] = {
    name: MetricSpec(
        unit=info.unit,
        higher_is_better=info.higher_is_better,
        low=info.lo if info.lo != float("-inf") else None,
        high=info.hi if info.hi != float("inf") else None,
        headline=info.headline,
        description=info.description,
    )
    for name, info in catalogue(_protocol(PROTOCOL)).items()
}


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """Digests of training data and frozen weights, protocol, and source files."""
    return Fingerprints(
        data=data_digest(recipe),
        protocol=_protocol_fingerprint(protocol),
        code=code_digest(),
        code_files=code_files(),
    )


def arm_label(path: str, value: Any) -> str:
    """Short label of a level: guidance.scale 2.0 is g2, tasks.edit 0.5 is e0.5."""
    prefixes = {"guidance.scale": "g", "tasks.edit": "e", "tasks.t2i": "t", "train.cycles": "c"}
    last = path.rsplit(".", 1)[-1]
    text = f"{value:g}" if isinstance(value, int | float) else str(value)
    return f"{prefixes.get(path, last + '-')}{text}"


def scope(recipe: Mapping[str, Any], protocol: str) -> str:
    """What a verdict is a claim about."""
    return f"on the toy world (24 px, 1.9 M parameters), {recipe['train']['cycles']} cycles"


def references(recipe: Mapping[str, Any], protocol: str) -> Mapping[str, Mapping[str, Any]]:
    """Reference rows worth showing beside a recipe, by name; see `recipes.references`."""
    return _references(recipe)


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Distil a student and measure it; resumable, and bit-exact on CPU."""
    from recipes import checkpoint
    from recipes.cycle import Distillation
    from recipes.data.draws import Draws
    from recipes.data.toyworld import ToyWorldSource
    from recipes.export import export
    from recipes.families.toyworld import shared
    from recipes.sampling import student_pictures

    made = Recipe.model_validate(dict(recipe))
    recipe_hash = hashlib.sha256(made.model_dump_json().encode()).hexdigest()
    family = shared()
    draws = Draws(made, ToyWorldSource(family), family.latent_shape, context.seed)
    trial = Distillation(made, family, draws)
    info: dict[str, str] = {}
    if context.resume_from is not None:
        _, state, complaints = checkpoint.load_latest(context.resume_from, recipe_hash)
        trial.load_state_dict(state)
        info["resumed"] = f"at cycle {trial.cycles}" + "".join(f"; {c}" for c in complaints)
    else:
        trial.warm_up()
    total = made.train.cycles
    wanted = {c for c in context.measurement.at if c < total} | {total}
    started, first = time.monotonic(), trial.cycles
    yield Report(step=trial.cycles, total=total, info=info)
    while trial.cycles < total:
        logs = trial.cycle()
        done = trial.cycles
        artifacts: tuple[Artifact, ...] = ()
        expired = context.deadline is not None and time.time() > context.deadline
        if (done % made.train.checkpoint_every == 0 and done < total) or expired:
            path = checkpoint.save(context.folder, done, trial.state_dict(), recipe_hash)
            artifacts = (Artifact(kind="checkpoint", path=path.name, step=done),)
        if trial.diverged:
            yield Report(step=done, outcome=Outcome(state="diverged", reason=trial.diverged))
            return
        if done % made.train.log_every == 0 or artifacts or done == total:
            rate = (done - first) / (time.monotonic() - started)
            forwards = trial.ledger.forwards(made.train.batch_size)
            yield Report(
                step=done,
                total=total,
                metrics={f"train/{k}": v for k, v in logs.items()}
                | {f"train/skipped_{k}": float(v) for k, v in trial.skipped.items()}
                | {f"train/share_{k}": v for k, v in draws.shares().items()}
                | {f"cost/forwards_{k}": v / (done - first) for k, v in forwards.items()}
                | {"cost/cycles_per_second": rate},
                artifacts=artifacts,
            )
        if done in wanted:
            selected = trial.ema.module if context.measurement.select == "ema" else None
            network = selected or trial.networks.student
            made_student: tuple[Artifact, ...] = ()
            if done == total:
                made_student = (
                    Artifact(
                        kind="student", path=export(network, made, context.folder, done), step=done
                    ),
                )
            pictures = student_pictures(family, network, trial.networks.rungs)
            for report in _measured(
                pictures, context.measurement.protocol, context, done, total, made.guidance.scale
            ):
                last = done == total and report.measured
                yield report.model_copy(
                    update={
                        "artifacts": (*report.artifacts, *(made_student if last else ())),
                        "outcome": Outcome(state="done") if last else None,
                    }
                )
            network.train()


def measure(student: Path, protocol: str, context: Context) -> Iterator[Report]:
    """Measure a kept student (folder written by `run`) under a protocol, without training."""
    from recipes.export import load_student
    from recipes.families.toyworld import shared
    from recipes.sampling import student_pictures
    from recipes.schedule import Rungs

    network, card = load_student(student)
    rungs = Rungs(card["rungs"], card["shift"])
    pictures = student_pictures(shared(), network, rungs)
    for report in _measured(
        pictures, protocol, context, card["cycles"], card["cycles"], card["guidance_scale"]
    ):
        yield report.model_copy(
            update={"outcome": Outcome(state="done") if report.measured else None}
        )


def reference(settings: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Produce one reference row, from the shipped records where their fingerprints match."""
    from recipes.references import (
        compared_scale,
        kept_metrics,
        kept_panel,
        pictures_of,
        shipped,
    )

    protocol = context.measurement.protocol
    found = shipped(settings, _protocol_fingerprint(protocol))
    if found is not None:
        artifacts = [Artifact.model_validate(a) for a in found.unpack(context.folder)]
        yield Report(
            step=0,
            measured=True,
            metrics=found.metrics,
            estimates=tuple(Estimate.model_validate(e) for e in found.estimates),
            artifacts=tuple(artifacts),
            info={"source": "shipped record, fingerprints match"},
            outcome=Outcome(state="done"),
        )
        return
    pictures = pictures_of(settings)
    for report in _measured(pictures, protocol, context, 0, None, compared_scale(settings)):
        kept = kept_metrics(settings, report.metrics)
        estimates = tuple(e for e in report.estimates if e.name in kept)
        shown = tuple(a for a in report.artifacts if kept_panel(settings, a.kind, a.item))
        yield report.model_copy(
            update={
                "metrics": kept if report.measured else report.metrics,
                "estimates": estimates,
                "artifacts": shown,
                "outcome": Outcome(state="done") if report.measured else None,
            }
        )


def _measured(
    pictures: Pictures,
    protocol_name: str,
    context: Context,
    step: int,
    total: int | None,
    scale: float | None,
) -> Generator[Report, None, None]:
    """Measure pictures, yielding progress; the last report carries the measurement."""
    from evaluation.measure import measuring

    protocol, world = _world(protocol_name, context.cache)

    def generate(batch: Batch) -> Any:
        return pictures(batch.prompts, batch.noise_BCHW, batch.source_u8_BCHW)

    teacher = None
    if scale is not None:
        teacher = yield from _teacher_features(protocol_name, context.cache, scale, step, total)
    measuring_steps = measuring(
        generate, protocol, world, teacher=teacher, batch_size=MEASURE_BATCH,
        keep_images=max(PANELS.values()),
    )  # fmt: skip
    while True:
        try:
            next(measuring_steps)
        except StopIteration as finished:
            measured: Measured = finished.value
            break
        yield Report(step=step, total=total)
    yield Report(
        step=step,
        total=total,
        measured=True,
        metrics=measured.metrics,
        estimates=tuple(
            Estimate.model_validate({k: e[k] for k in Estimate.model_fields if k in e})
            for e in measured.estimates
        ),
        artifacts=tuple(_written(measured, context.folder, step)),
    )


@cache
def _loaded_world(protocol_name: str, cache_folder: Path, _fingerprint: str) -> World:
    from evaluation.world import load_world

    return load_world(_protocol(protocol_name), cache=cache_folder / "references")


def _world(protocol_name: str, cache_folder: Path) -> tuple[Protocol, World]:
    fingerprint = _protocol_fingerprint(protocol_name)
    return _protocol(protocol_name), _loaded_world(protocol_name, cache_folder, fingerprint)


def _teacher_features(
    protocol_name: str, cache_folder: Path, scale: float, step: int, total: int | None
) -> Generator[Report, None, dict[str, Any]]:
    """Features of the guided teacher's own samples: shipped, cached, or sampled now."""
    from evaluation.sampling import sampling_features
    from recipes.references import (
        keep_teacher_features,
        pictures_of,
        teacher_features,
        teacher_settings,
    )

    settings = teacher_settings(scale)
    fingerprint = _protocol_fingerprint(protocol_name)
    found = teacher_features(settings, fingerprint, cache_folder)
    if found is not None:
        return found
    protocol, world = _world(protocol_name, cache_folder)
    pictures = pictures_of(settings)

    def generate(batch: Batch) -> Any:
        return pictures(batch.prompts, batch.noise_BCHW, batch.source_u8_BCHW)

    steps = sampling_features(generate, protocol, world, MEASURE_BATCH)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            features: dict[str, Any] = finished.value
            keep_teacher_features(settings, fingerprint, cache_folder, features)
            return features
        yield Report(step=step, total=total)


def _written(measured: Measured, folder: Path, step: int) -> Iterator[Artifact]:
    from PIL import Image

    from evaluation.writers import write_features, write_items

    home = folder / f"measured-{step:07d}"
    home.mkdir(exist_ok=True)
    write_items(measured.items, home)
    write_features(measured.features, measured.items, home / "features.npz")
    yield Artifact(kind="items", path=f"{home.name}/items.parquet", step=step)
    yield Artifact(kind="features", path=f"{home.name}/features.npz", step=step)
    seen: dict[tuple[str, str], int] = {}
    for picture in measured.images:
        place = (picture.task, picture.category)
        if picture.draw or seen.get(place, 0) >= PANELS[picture.task]:
            continue
        seen[place] = seen.get(place, 0) + 1
        path = home / f"{picture.item_id}.png"
        Image.fromarray(picture.output).save(path)
        yield Artifact(
            kind="panel", path=f"{home.name}/{path.name}", step=step, item=picture.item_id,
            caption=picture.prompt,
        )  # fmt: skip
