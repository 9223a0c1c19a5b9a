"""Makes the shipped reference rows and teacher features afresh.

python -m recipes.toyworld.ship [--protocol toyworld-v1] [--scales 1 2 4]

Takes a minute or two a scale, and one a specialist, on one core. Records carry the protocol
fingerprint and the digests of the weights in their names, so stale ones are simply not found; this
removes them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from recipes import subject
from recipes.guidance.settings import Guidance
from recipes.recipe import Recipe
from recipes.references import (
    SHIPPED,
    keep_teacher_features,
    references,
    ship,
    teacher_features,
    teacher_settings,
)
from recipes.toyworld.weights import SPECIALISTS


def main() -> int:
    """Remove what is shipped, make every row, ship it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", default=subject.PROTOCOL)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    given = parser.parse_args()
    shutil.rmtree(SHIPPED, ignore_errors=True)
    rows = {}
    for scale in given.scales:
        recipe = Recipe.model_validate({"guidance": {"scale": scale}}).model_dump(mode="json")
        rows.update(references(recipe))
    for name in SPECIALISTS:
        scale = Guidance().scale
        rows[f"{name}-g{scale:g}"] = teacher_settings(scale, name)
    fingerprint = subject.fingerprints(recipe, given.protocol).protocol
    with tempfile.TemporaryDirectory() as scratch:
        for name, settings in rows.items():
            folder = Path(scratch) / name
            folder.mkdir()
            context = subject.Context(
                key="",
                replicate=0,
                seed=lambda *_: 0,
                folder=folder,
                measurement=subject.Measurement(protocol=given.protocol),
                cache=Path(scratch),
            )
            last = list(subject.reference(settings, context))[-1]
            kept = ship(settings, fingerprint, folder, last.model_dump(mode="json"))
            sys.stdout.write(f"{name}: {kept.name}\n")
        for settings in rows.values():
            if settings["row"] != "teacher":
                continue
            features = teacher_features(settings, fingerprint, Path(scratch))
            assert features is not None, "measuring the rows above sampled the teacher"
            half = {name: rows_ND.astype("float16") for name, rows_ND in features.items()}
            keep_teacher_features(settings, fingerprint, SHIPPED, half, folder=SHIPPED)
    size = sum(p.stat().st_size for p in SHIPPED.rglob("*") if p.is_file())
    sys.stdout.write(f"{len(rows)} rows, {size / 2**20:.1f} MiB in {SHIPPED}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
