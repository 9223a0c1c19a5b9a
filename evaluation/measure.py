"""Measuring one checkpoint under a protocol: sample, extract, score, summarise.

`measuring` is a generator, so that a caller can report progress, cancel or send a heartbeat
between batches; `measure` runs it to its end.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.artefacts import clipped_share, residual_noise, saturation
from evaluation.diversity import draw_diversity
from evaluation.edit import direction_similarity, edit_fidelity, moved, preservation
from evaluation.intervals import Interval
from evaluation.protocol import Protocol
from evaluation.sampling import Answer, Generate, Progress, asked, planned_draws
from evaluation.structure import ssim_columns
from evaluation.summary import Features, summarise
from evaluation.text_image import clip_cosines
from evaluation.world import World

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Shown:
    """A picture kept for panels; arrays are uint8 (H, W, 3), source and truth for edits only."""

    item_id: str
    task: str
    category: str
    draw: int
    prompt: str
    output: NDArray[np.uint8]
    source: NDArray[np.uint8] | None = None
    truth: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Measured:
    """One checkpoint, measured.

    Attributes:
        metrics: finite numbers by name; what they are is in `evaluation.catalogue`.
        estimates: intervals as plain dicts, see `evaluation.intervals`.
        items: one row per item and draw, t2i rows first. Columns item_id, task, category, draw,
            prompt, clip (cosine), noise, saturation, clipped, oracle_* and diversity for t2i;
            following, preservation, fidelity, against_truth, rmse_*, psnr_*, ssim_*, direction,
            moved for edits.
        features: float32 arrays whose rows follow the table's rows of that task: `t2i/features`,
            `t2i/clip`, `edit/features`, `edit/clip`, `edit/truth_features`.
        images: pictures kept for panels.
    """

    metrics: dict[str, float]
    estimates: list[Interval]
    items: pd.DataFrame
    features: dict[str, Features]
    images: tuple[Shown, ...]


def measure(
    generate: Generate,
    protocol: Protocol,
    world: World,
    *,
    teacher: Mapping[str, Features] | None = None,
    batch_size: int = 64,
    keep_images: int = 4,
) -> Measured:
    """Measure a student; see `measuring`, which this runs to its end."""
    steps = measuring(
        generate,
        protocol,
        world,
        teacher=teacher,
        batch_size=batch_size,
        keep_images=keep_images,
    )
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            measured: Measured = finished.value
            return measured


def measuring(
    generate: Generate,
    protocol: Protocol,
    world: World,
    *,
    teacher: Mapping[str, Features] | None = None,
    batch_size: int = 64,
    keep_images: int = 4,
) -> Generator[Progress, None, Measured]:
    """Measure a student, yielding progress between batches.

    Args:
        generate: batch -> uint8 pictures; called with t2i and edit batches apart.
        protocol: how to measure.
        world: what to measure with, from `load_world(protocol)`.
        teacher: features of the trial's own teacher by category, from `sampling_features`; adds
            `t2i/fid_teacher` and `more/kd_teacher`.
        batch_size: pictures asked for at once; changes results by float rounding at most.
        keep_images: items per category whose pictures are kept for panels.

    Yields:
        Progress.

    Returns:
        The measurement.

    Raises:
        ValueError: the student's pictures are malformed, or the world breaks its contract.
    """
    import pandas as pd

    references = {}
    for done, category in enumerate(protocol.items.t2i, start=1):
        references[category] = world.reference(category, protocol.references.per_category)
        yield Progress("references", done, len(protocol.items.t2i))
    tables: list[pd.DataFrame] = []
    parts: dict[str, list[NDArray[np.float32]]] = {}
    shown: list[Shown] = []
    for task, score in (("t2i", _score_t2i), ("edit", _score_edit)):
        plan = planned_draws(protocol, world.items, "t2i" if task == "t2i" else "edit")
        kept = _kept_for_panels(plan, keep_images)
        done = 0
        for answer in asked(generate, protocol, world, plan, batch_size):
            columns, features = score(answer, protocol, world)
            tables.append(pd.DataFrame(_identity(answer) | columns))
            for name, rows in features.items():
                parts.setdefault(f"{task}/{name}", []).append(rows)
            shown.extend(_shown(answer, kept))
            done += len(answer.batch.items)
            yield Progress(task, done, len(plan))
    table = pd.concat(tables, ignore_index=True)
    stacked: dict[str, Features] = {name: np.concatenate(rows) for name, rows in parts.items()}
    if "t2i/features" in stacked:
        t2i = table["task"] == "t2i"
        diversity = draw_diversity(stacked["t2i/features"], list(table.loc[t2i, "item_id"]))
        table["diversity"] = table["item_id"].map(diversity).where(t2i & (table["draw"] == 0))
    yield Progress("summary", 0, 1)
    metrics, estimates = summarise(table, stacked, references, protocol, teacher)
    return Measured(metrics, estimates, table, stacked, tuple(shown))


Scored = tuple[dict[str, Any], dict[str, NDArray[np.float32]]]


def _identity(answer: Answer) -> dict[str, Any]:
    items = answer.batch.items
    return {
        "item_id": [item.item_id for item in items],
        "task": [item.task for item in items],
        "category": [item.category for item in items],
        "draw": list(answer.batch.draws),
        "prompt": [item.prompt for item in items],
    }


def _score_t2i(answer: Answer, protocol: Protocol, world: World) -> Scored:
    images, items = answer.images_u8_BCHW, answer.batch.items
    embeddings = world.embeddings(images)
    columns: dict[str, Any] = {
        "clip": clip_cosines(embeddings, world.text_embeddings(answer.batch.prompts)),
        "noise": residual_noise(images),
        "saturation": saturation(images),
        "clipped": clipped_share(images),
    }
    if world.oracle is not None:
        for name, values in world.oracle.read(images.to(world.device), items).items():
            columns[f"oracle_{name}"] = _column(values, len(items), f"oracle {name}")
    return columns, {"features": world.features(images), "clip": embeddings}


def _score_edit(answer: Answer, protocol: Protocol, world: World) -> Scored:
    import pandas as pd

    images, items, batch = answer.images_u8_BCHW, answer.batch.items, answer.batch
    truth, mask, source = answer.truth_u8_BCHW, answer.mask_B1HW, batch.source_u8_BCHW
    assert world.oracle is not None, "checked when the protocol was loaded"
    assert source is not None
    assert truth is not None
    assert mask is not None
    scoring = protocol.edit_scoring
    following = _column(world.oracle.follow(images.to(world.device), items), len(items), "follow")
    kept = preservation(
        images,
        source,
        truth,
        mask,
        scale=scoring.preservation_scale,
        min_kept_share=scoring.min_kept_share,
        dilation_px=scoring.mask_dilation_px,
    )
    score = kept.score
    # Where an edit changes every pixel there is no outside to compare, and against the one true
    # result pixels reward the blurred mean over all results there may be. The price is a learned
    # reader inside a headline metric. Edits whose true result is one picture have no reading here
    # (NaN) and stay with pixels.
    if scoring.whole_frame == "oracle":
        left = _column(world.oracle.kept(images.to(world.device), items), len(items), "kept")
        score = np.where(kept.against_truth & np.isfinite(left), left, score)
    embeddings = world.embeddings(images)
    agreement, direction, has_moved = _caption_columns(world, answer, embeddings)
    columns: dict[str, Any] = {
        "clip": agreement,
        "following": following,
        "preservation": score,
        "fidelity": edit_fidelity(following, score),
        "against_truth": pd.array(kept.against_truth, dtype="boolean"),
        "rmse_outside": kept.rmse_outside,
        "rmse_inside": kept.rmse_inside,
        "psnr_outside": kept.psnr_outside,
        "psnr_piebench": kept.psnr_piebench,
        **ssim_columns(images, source, mask, dilation_px=scoring.mask_dilation_px),
        "direction": direction,
        "moved": pd.array(has_moved, dtype="boolean"),
    }
    features = {
        "features": world.features(images),
        "clip": embeddings,
        "truth_features": world.features(truth),
    }
    return columns, features


def _caption_columns(
    world: World, answer: Answer, embeddings_BD: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """CLIP cosine with the target caption, direction similarity, and whether the picture moved.

    The first two are NaN for edits without captions of their source and target.
    """
    items, source = answer.batch.items, answer.batch.source_u8_BCHW
    assert source is not None
    agreement, direction = np.full(len(items), np.nan), np.full(len(items), np.nan)
    source_BD = world.embeddings(source)
    rows = [row for row, i in enumerate(items) if i.source_caption and i.target_caption]
    if rows:
        targets = world.text_embeddings([str(items[row].target_caption) for row in rows])
        sources = world.text_embeddings([str(items[row].source_caption) for row in rows])
        agreement[rows] = clip_cosines(embeddings_BD[rows], targets)
        direction[rows] = direction_similarity(
            source_BD[rows], embeddings_BD[rows], sources, targets
        )
    return agreement, direction, moved(source_BD, embeddings_BD)


def _column(values: Any, count: int, name: str) -> NDArray[np.float64]:
    """A column of the world's as float64 (count,), in [0, 1] or NaN.

    Raises:
        ValueError: another length or range.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (count,) or ((column < 0) | (column > 1)).any():
        raise ValueError(f"{name} gave shape {column.shape} for {count} items, or left [0, 1]")
    return column


def _kept_for_panels(plan: list[tuple[Any, int]], keep_images: int) -> frozenset[str]:
    kept: dict[str, list[str]] = {}
    for item, draw in plan:
        of_category = kept.setdefault(item.category, [])
        if draw == 0 and len(of_category) < keep_images:
            of_category.append(item.item_id)
    return frozenset(item_id for ids in kept.values() for item_id in ids)


def _shown(answer: Answer, kept: frozenset[str]) -> Iterator[Shown]:
    def picture(images: Any, row: int) -> NDArray[np.uint8] | None:
        return None if images is None else images[row].permute(1, 2, 0).numpy().copy()

    for row, (item, draw) in enumerate(zip(answer.batch.items, answer.batch.draws, strict=True)):
        if item.item_id not in kept:
            continue
        output = picture(answer.images_u8_BCHW, row)
        assert output is not None
        yield Shown(
            item_id=item.item_id,
            task=item.task,
            category=item.category,
            draw=draw,
            prompt=item.prompt,
            output=output,
            source=picture(answer.batch.source_u8_BCHW, row),
            truth=picture(answer.truth_u8_BCHW, row),
        )
