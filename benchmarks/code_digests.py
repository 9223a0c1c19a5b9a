"""Code digests: by definition against by file, cold and warm, and `fingerprints` of 10,000 arms.

    python benchmarks/code_digests.py [--runs 5]

Each figure is the best CPU time of several fresh processes, both kinds in turn. Cold is without a
cache; warm finds what the process before kept. Limits: cold 1.3 times by file, warm 20 ms. The arms
are recipes of five objectives and two thousand guidance scales, each asked as a plan asks it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_RATIO = 1.3
LIMIT_WARM_MS = 20.0
PROTOCOL = "toyworld-v1"


def one(kind: str, arms: int) -> dict[str, float]:
    """Milliseconds of CPU of the first digest, and of many arms after it, in this process."""
    from time import process_time

    from recipes import subject
    from recipes.objectives.settings import OBJECTIVES
    from recipes.recipe import Recipe
    from recipes.recorded_by_file import code_by_file
    from recipes.subject.protocols import protocol_named, protocol_names

    recipes = [
        Recipe.model_validate({"objective": {"name": name}}).model_dump(mode="json")
        for name in OBJECTIVES
    ]
    plain = protocol_named(PROTOCOL).model_dump(mode="json")
    names = protocol_names(PROTOCOL)
    began = process_time()
    if kind == "file":
        code_by_file(recipes[0], plain)
    else:
        from recipes.source_files import code_of

        code_of(recipes[0], names)
    first = process_time() - began
    began = process_time()
    held = []
    for arm in range(arms):
        recipe = {**recipes[arm % len(recipes)], "guidance": {"scale": 1.0 + arm / 1000}}
        held.append(subject.fingerprints(recipe, PROTOCOL))
    return {"first": 1000 * first, "arms": 1000 * (process_time() - began)}


def asked(kind: str, cache: str, arms: int = 0) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", kind, "--arms", str(arms)],
        env={**os.environ, "XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--arms", type=int, default=10_000)
    parser.add_argument("--one", choices=["file", "definition"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.arms)))
        return 0
    best: dict[tuple[str, str], float] = {}
    for _ in range(given.runs):
        for kind in ("file", "definition"):
            with tempfile.TemporaryDirectory() as cache:
                for state in ("cold", "warm"):
                    took = asked(kind, cache)["first"]
                    best[kind, state] = min(took, best.get((kind, state), took))
    for state in ("cold", "warm"):
        old, new = best["file", state], best["definition", state]
        print(f"{state}  by file {old:7.1f} ms   by definition {new:7.1f} ms   {new / old:5.2f}")
    with tempfile.TemporaryDirectory() as cache:
        asked("definition", cache)
        arms = min(asked("definition", cache, given.arms)["arms"] for _ in range(given.runs))
    print(f"fingerprints of {given.arms:,} arms {arms:7.1f} ms")
    print(f"limits: cold {LIMIT_RATIO} times by file, warm {LIMIT_WARM_MS:g} ms")
    ratio = best["definition", "cold"] / best["file", "cold"]
    return int(ratio > LIMIT_RATIO or best["definition", "warm"] > LIMIT_WARM_MS)


if __name__ == "__main__":
    sys.exit(main())
