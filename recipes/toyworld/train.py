"""Retrains the toy world's weights: `python -m recipes.toyworld.train all`.

Step counts and seeds are fixed, so the command gives weights of the same quality wherever it is
run; last digits differ between machines. On two CPU cores `all` takes about an hour and a half.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from recipes.toyworld.fit_autoencoder import fit_autoencoder
from recipes.toyworld.fit_clip import fit_clip
from recipes.toyworld.fit_readers import fit_extractor, fit_oracle
from recipes.toyworld.fit_specialist import fit_sign_specialist, fit_specialist
from recipes.toyworld.fit_teacher import fit_teacher
from recipes.toyworld.weights import WEIGHTS

FITS: dict[str, Callable[[Path, float], Path]] = {
    "autoencoder": fit_autoencoder,
    "oracle": fit_oracle,
    "extractor": fit_extractor,
    "clip": fit_clip,
    "teacher": fit_teacher,
    "specialist": fit_specialist,
    "sign_specialist": fit_sign_specialist,
}
STAGES = (
    ("autoencoder",),
    ("oracle", "extractor", "clip"),
    ("teacher",),
    ("specialist", "sign_specialist"),
)
"""What `all` does in turn; the members of a stage run side by side, two at a time."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.toyworld.train",
        description="Retrain the toy world's weights. Each but the first needs the autoencoder "
        "in the same folder; the specialists need the teacher too. The teacher comes with its "
        "text encoder.",
        epilog="example: python -m recipes.toyworld.train all --out /tmp/weights",
    )
    parser.add_argument("what", nargs="?", default="all", choices=[*FITS, "all"])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
    parser.add_argument(
        "--steps-scale", type=float, default=1.0, help="multiplies every number of steps"
    )
    given = parser.parse_args(arguments)
    if not given.steps_scale > 0:
        parser.error(f"--steps-scale is {given.steps_scale}; it must be positive")
    for stage in STAGES if given.what == "all" else ((given.what,),):
        _run(stage, given.out, given.steps_scale)


def _run(stage: Sequence[str], folder: Path, steps_scale: float) -> None:
    if len(stage) == 1:
        paths = [_fit(stage[0], folder, steps_scale, threads=2)]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            jobs = [pool.submit(_fit, name, folder, steps_scale, 1) for name in stage]
            paths = [job.result() for job in jobs]
    for path in paths:
        sys.stdout.write(f"{path}  {path.stat().st_size / 1e6:.2f} MB\n")
        sys.stdout.flush()


def _fit(name: str, folder: Path, steps_scale: float, threads: int) -> Path:
    torch.set_num_threads(threads)
    return FITS[name](folder, steps_scale)


if __name__ == "__main__":
    main()
