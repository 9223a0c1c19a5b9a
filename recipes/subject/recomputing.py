"""Numbers and tables of a trial, again from its stored items and features; nothing is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from evaluation.prompt_tables import tables_of
from evaluation.protocol import Protocol
from evaluation.summary import Features, summarise
from evaluation.world import World
from evaluation.writers import read_features


def recomputed(folder: Path, step: int, protocol: Protocol, world: World) -> dict[str, float]:
    """Metrics of the measurement stored at a step, distances to the trial's teacher apart.

    Args:
        folder: attempt folder, with `measured-<step>/`.
        step: cycle of the measurement.
        protocol: what was measured under.
        world: of the protocol, for the reference sets.

    Raises:
        OSError: if the items or features are not there.
    """
    table, features = _stored(folder, step)
    references = {
        category: world.reference(category, protocol.references.per_category)
        for category in protocol.items.t2i
    }
    return summarise(table, features, references, protocol)[0]


def prompt_texts(
    folder: Path,
    step: int,
    protocol: Protocol,
    world: World,
    teacher: Mapping[str, Features] | None,
) -> dict[str, str]:
    """CSV of the tables by item and by prompt of the measurement stored at a step.

    Raises:
        OSError: if the items or features are not there.
    """
    tables = tables_of(*_stored(folder, step), protocol, world, teacher)
    return {
        kind: table.to_csv(index=False, float_format="%.13g")
        for kind, table in zip(("items", "prompts"), tables, strict=True)
    }


def _stored(folder: Path, step: int) -> tuple[pd.DataFrame, dict[str, Features]]:
    home = folder / f"measured-{step:07d}"
    return pd.read_parquet(home / "items.parquet"), read_features(home / "features.npz")
