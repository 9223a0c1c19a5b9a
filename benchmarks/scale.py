"""Does a study of 5,000 trials cost more per trial than one of 200, and does its driver grow?

Every trial is the stub's (no work of its own), run through Ray and MLflow; the clock stops when
MLflow was read back and holds every trial. Each size runs in a process and a folder of its own.
While it runs, the driver's resident memory is noted after every hundred trials; its growth is that
of a straight line through the notes after the first `WARM` trials, so start-up does not count.

    python benchmarks/scale.py --trials 200 5000

Exit 1 if a trial of the largest study costs over 1.2 times one of the smallest, or if its driver
grows by more than 20 KiB a trial.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
import overhead

WARM = 500
EVERY = 100
LIMIT_RATIO = 1.2
LIMIT_KIB = 20.0


def one(folder: Path, trials: int) -> dict[str, object]:
    """Run one size in this process: seconds, runs read back, and (trials, seconds, KiB) notes."""
    process, began = psutil.Process(), time.perf_counter()
    notes: list[tuple[int, float, float]] = []
    done = 0

    def note(line: str) -> None:
        nonlocal done
        print(line, file=sys.stderr)
        if line.startswith("done "):
            done += 1
            if done % EVERY == 0:
                kib = process.memory_info().rss / 1024
                notes.append((done, time.perf_counter() - began, kib))

    seconds, runs = overhead.ours(folder, trials, echo=note)
    return {"seconds": seconds, "runs": runs, "notes": notes}


def main() -> int:
    """Run all sizes, print the table, and judge the largest against the smallest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 5000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.folder, given.one)))
        return 0
    overhead.heading("ray", "mlflow", "sqlalchemy", "pydantic")
    print(f"{'trials':>6} {'ms a trial':>11} {'first 200':>10} {'last 200':>9} {'KiB a trial':>12}")
    cost: dict[int, float] = {}
    grown = 0.0
    for trials in sorted(given.trials):
        result = overhead.alone(__file__, "--one", str(trials), runs=trials)
        notes = np.array(result["notes"], dtype=float)
        cost[trials] = 1000 * float(result["seconds"]) / trials
        shown = f"{trials:6d} {cost[trials]:11.1f}"
        if len(notes) > 3:
            first, last = notes[2] - notes[0], notes[-1] - notes[-3]
            shown += f" {1000 * first[1] / first[0]:10.1f} {1000 * last[1] / last[0]:9.1f}"
        warm = notes[notes[:, 0] >= WARM] if len(notes) else notes
        if len(warm) > 2:
            grown = float(np.polyfit(warm[:, 0], warm[:, 2], 1)[0])
            shown += f" {grown:12.1f}"
        print(shown, flush=True)
    ratio = cost[max(cost)] / cost[min(cost)]
    print(
        f"\nratio {ratio:.2f} (limit {LIMIT_RATIO}), driver {grown:.1f} KiB a trial "
        f"(limit {LIMIT_KIB:g})"
    )
    return int(ratio > LIMIT_RATIO or grown > LIMIT_KIB)


if __name__ == "__main__":
    sys.exit(main())
