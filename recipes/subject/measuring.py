"""Measuring for the harness: pictures of a student or a reference row, under a protocol."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evaluation.measure import Measured, measuring
from evaluation.prompt_tables import tables_of
from evaluation.protocol import Protocol
from evaluation.sampling import Batch, Generate, sampling_features
from evaluation.world import World, load_world
from evaluation.writers import write_by_prompt, write_features, write_items
from harness.contract import Artifact, ArtifactKind, Context, Estimate, Outcome, Report
from recipes.export import card_of
from recipes.families.registry import family_of
from recipes.reference_pictures import pictures_of
from recipes.references import (
    compared_teacher,
    keep_teacher_features,
    kept_metrics,
    kept_panel,
    own_teacher,
    shipped,
    teacher_features,
    teacher_settings,
)
from recipes.sampling import Pictures, student_pictures
from recipes.schedule import Rungs
from recipes.subject.protocols import protocol_fingerprint, protocol_named
from recipes.subject.recomputing import prompt_texts, recomputed

MEASURE_BATCH = 64
LARGE_MEASURE_BATCH = 4
LARGE_PIXELS = 256
"""From this side on, pictures are made in the smaller batches."""
PANELS = {"t2i": 2, "edit": 1}
"""Items per category whose pictures are kept."""
TABLES: tuple[ArtifactKind, ...] = ("items", "prompts")
"""Kinds of the two tables by prompt."""


def measured_student(student: Path, protocol: str, context: Context) -> Iterator[Report]:
    """Measure a student's folder, of `run` or from elsewhere, under a protocol; no training."""
    held = card_of(student) if (student / "card.json").is_file() else {}
    family = family_of(held.get("family", "toyworld"), held.get("model"), device=context.device)
    network, card = family.load(student, context.student_settings)
    rungs = Rungs(card["rungs"], card["shift"])
    pictures = student_pictures(family, network, rungs, renoise=card["renoises"])
    cycles = card.get("cycles", 0)
    teacher = card.get("teacher")
    if teacher is None and "guidance_scale" in card:
        # Students kept before teachers were written whole were judged by the plainly guided base.
        teacher = teacher_settings(card["guidance_scale"])
    note = card.get("teacher_note", "")
    for report in measured(pictures, protocol, context, cycles, cycles, teacher, note):
        outcome = Outcome(state="done") if report.measured else None
        yield report.model_copy(update={"outcome": outcome})


def recomputed_numbers(
    folder: Path, step: int, protocol_name: str, cache: Path
) -> Mapping[str, float]:
    """Numbers again from what a measurement at that step stored; see `recomputed`."""
    return recomputed(folder, step, *_world(protocol_name, cache, "cpu"))


def stored_prompt_tables(
    folder: Path, step: int, recipe: Mapping[str, Any], protocol_name: str, cache: Path
) -> dict[str, str]:
    """Tables by prompt again from what a measurement at that step stored; see `recomputing`.

    Distances to a teacher are there where its samples are shipped or in the cache.
    """
    settings = compared_teacher(recipe) if "row" in recipe else own_teacher(recipe)[0]
    teacher = None
    if settings is not None:
        teacher = teacher_features(settings, protocol_fingerprint(protocol_name), cache)
    return prompt_texts(folder, step, *_world(protocol_name, cache, "cpu"), teacher)


def measured_reference(settings: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """One reference row, from the shipped records where their fingerprints match."""
    protocol = context.measurement.protocol
    found = shipped(settings, protocol_fingerprint(protocol))
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
    pictures = pictures_of(settings, context.device)
    for report in measured(pictures, protocol, context, 0, None, compared_teacher(settings)):
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


def measured(
    pictures: Pictures,
    protocol_name: str,
    context: Context,
    step: int,
    total: int | None,
    teacher: Mapping[str, Any] | None,
    note: str = "",
) -> Iterator[Report]:
    """Measure pictures, yielding progress; the last report carries the measurement.

    Args:
        pictures: what makes them.
        protocol_name: how to measure.
        context: of the trial or row.
        step: cycles done.
        total: cycles in all.
        teacher: the row that `t2i/fid_teacher` refers to; None for no distance to a teacher.
        note: what is special about that teacher, to be kept with the numbers.
    """
    protocol, world = _world(protocol_name, context.cache, context.device)
    beat = Report(step=step, total=total)
    features = None
    if teacher is not None:
        features = yield from _teacher_features(protocol_name, context, teacher, beat)
    steps = measuring(
        _asked(pictures), protocol, world, teacher=features, batch_size=_batch(protocol),
        keep_images=max(PANELS.values()),
    )  # fmt: skip
    found: Measured = yield from _beating(steps, beat)
    by_prompt = tables_of(found.items, found.features, protocol, world, features)
    yield Report(
        step=step,
        total=total,
        measured=True,
        metrics=found.metrics,
        estimates=tuple(
            Estimate.model_validate({k: e[k] for k in Estimate.model_fields if k in e})
            for e in found.estimates
        ),
        artifacts=tuple(_written(found, by_prompt, context.folder, step)),
        info={"fid_teacher": f"distance to {note}"} if note else {},
    )


def _batch(protocol: Protocol) -> int:
    return MEASURE_BATCH if protocol.resolution < LARGE_PIXELS else LARGE_MEASURE_BATCH


def _asked(pictures: Pictures) -> Generate:
    """Pictures as measuring asks for them, batch by batch."""

    def generate(batch: Batch) -> Any:
        return pictures(batch.prompts, batch.noise_BCHW, batch.source_u8_BCHW, batch.further_noise)

    return generate


def _beating(steps: Generator[Any, None, Any], beat: Report) -> Generator[Report, None, Any]:
    """Run a generator to its end, yielding the same report at each step; returns its result."""
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value
        yield beat


@cache
def _loaded_world(name: str, cache_folder: Path, device: str, _fingerprint: str) -> World:
    return load_world(protocol_named(name), cache=cache_folder / "references", device=device)


def _world(name: str, cache_folder: Path, device: str) -> tuple[Protocol, World]:
    return protocol_named(name), _loaded_world(
        name, cache_folder, device, protocol_fingerprint(name)
    )


def _teacher_features(
    protocol_name: str, context: Context, settings: Mapping[str, Any], beat: Report
) -> Generator[Report, None, dict[str, Any]]:
    """Features of a guided teacher's own samples: shipped, cached, or sampled now."""
    fingerprint = protocol_fingerprint(protocol_name)
    found = teacher_features(settings, fingerprint, context.cache)
    if found is not None:
        return found
    protocol, world = _world(protocol_name, context.cache, context.device)
    steps = sampling_features(
        _asked(pictures_of(settings, context.device)), protocol, world, _batch(protocol)
    )
    features: dict[str, Any] = yield from _beating(steps, beat)
    keep_teacher_features(settings, fingerprint, context.cache, features)
    return features


def _written(
    found: Measured, by_prompt: tuple[Any, Any], folder: Path, step: int
) -> Iterator[Artifact]:
    from PIL import Image

    home = folder / f"measured-{step:07d}"
    home.mkdir(exist_ok=True)
    write_items(found.items, home)
    write_features(found.features, found.items, home / "features.npz")
    yield Artifact(kind="items", path=f"{home.name}/items.parquet", step=step)
    for kind, file in zip(TABLES, write_by_prompt(*by_prompt, home), strict=True):
        yield Artifact(kind=kind, path=f"{home.name}/{file.name}", step=step)
    yield Artifact(kind="features", path=f"{home.name}/features.npz", step=step)
    seen: dict[tuple[str, str], int] = {}
    for picture in found.images:
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
