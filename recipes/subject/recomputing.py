"""Numbers of a trial worked out again from its stored items and features; nothing is sampled."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evaluation.protocol import Protocol
from evaluation.summary import summarise
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
    home = folder / f"measured-{step:07d}"
    table = pd.read_parquet(home / "items.parquet")
    features = read_features(home / "features.npz")
    references = {
        category: world.reference(category, protocol.references.per_category)
        for category in protocol.items.t2i
    }
    return summarise(table, features, references, protocol)[0]
