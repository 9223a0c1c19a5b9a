"""The toy world's gate (is it hard enough to ablate?), over five independent replicates.

    python benchmarks/gate.py [--replicates 5] [--workers 2] [--recipe recipes/toyworld.yaml]

At the base recipe's guidance and cycles, over held-out items; a replicate has its own training
seeds and its own evaluation noise. Four parts, each gap over three of its standard deviations:
(a) distance to the teacher's own samples: teacher < distilled 4 NFE < undistilled Euler 4 NFE;
(b) distance to data: distilled < undistilled at 4 NFE and at 4 guided steps (8 NFE);
(c) edit fidelity: distilled > undistilled at 4 NFE;  (d) the teacher spells over 60 % of words.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
METRICS = (
    "t2i/fid_teacher", "t2i/fid", "t2i/kd", "t2i/clip", "edit/fidelity", "edit/following",
    "edit/preservation", "oracle/words", "oracle/attributes",
)  # fmt: skip


T2I_ITEMS, EDIT_ITEMS = 384, 384
"""Per category and per edit type: the undistilled rows have no training seed, so what they vary by
is item noise, and it must be small against the gaps."""


def _only(protocol: Any, task: str, count: int) -> Any:
    """The protocol's items of one task, `count` of each category."""
    counts = {name: count for name in getattr(protocol.items, task)}
    empty: dict[str, dict[str, int]] = {"t2i": {}, "edit": {}}
    items = protocol.items.model_copy(update={**empty, task: counts})
    return protocol.model_copy(update={"items": items})


def replicate(task: tuple[int, dict[str, Any], str, str, dict[str, Any]]) -> dict[str, Any]:
    """Metrics of every row for one replicate."""
    number, recipe_fields, cache, protocol_name, overrides = task
    import torch

    torch.set_num_threads(1)
    from evaluation.items import noise
    from evaluation.measure import measure
    from evaluation.protocol import load_protocol
    from evaluation.sampling import sampling_features
    from evaluation.world import load_world
    from harness.journal.seeds import stream_for
    from recipes.cycle import Distillation
    from recipes.data.draws import Draws
    from recipes.data.toyworld import ToyWorldSource
    from recipes.families.toyworld import shared
    from recipes.recipe import Recipe
    from recipes.reference_pictures import pictures_of
    from recipes.references import (
        keep_teacher_features,
        teacher_features,
        teacher_settings,
    )
    from recipes.sampling import student_pictures

    folder = Path(cache)
    protocol = load_protocol(protocol_name)
    t2i = _only(protocol, "t2i", T2I_ITEMS)
    edit = _only(protocol, "edit", EDIT_ITEMS)
    fingerprint = t2i.fingerprint()
    worlds = {p.model_dump_json(): load_world(p, cache=folder / "references") for p in (t2i, edit)}
    recipe = Recipe.model_validate(recipe_fields)
    family = shared(Path(overrides["weights"])) if "weights" in overrides else shared()
    scale = recipe.guidance.scale
    settings = teacher_settings(scale)

    def as_asked(pictures: Any) -> Any:
        return lambda b: pictures(b.prompts, b.noise_BCHW, b.source_u8_BCHW, b.further_noise)

    def renoised(pictures: Any) -> Any:
        """The same items from this replicate's own noise."""

        def generate(b: Any) -> Any:
            ids = [item.item_id for item in b.items]
            fresh = noise(f"gate-{number}", ids, b.draws, b.noise_BCHW.shape[1:])
            return pictures(b.prompts, fresh, b.source_u8_BCHW, b.further_noise)

        return generate

    teacher = teacher_features(settings, fingerprint, folder)
    if teacher is None:
        steps = sampling_features(
            as_asked(pictures_of(settings)), t2i, worlds[t2i.model_dump_json()]
        )
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                teacher = finished.value
                break
        keep_teacher_features(settings, fingerprint, folder, teacher)
    plain = {"row": "undistilled", "weights": "teacher", "steps": recipe.student.rungs,
             "shift": recipe.student.shift}  # fmt: skip
    rows = {
        "teacher": pictures_of(settings),
        "undistilled-4nfe": pictures_of({**plain, "scale": 1.0}),
        "undistilled-8nfe": pictures_of({**plain, "scale": scale}),
    }

    def measured(pictures: Any, edits: bool) -> dict[str, float]:
        """T2I metrics; edits too where part (c) needs them (the teacher's would take minutes)."""
        metrics: dict[str, float] = {}
        for part in (t2i, edit) if edits else (t2i,):
            world = worlds[part.model_dump_json()]
            given = teacher if part is t2i else None
            found = measure(renoised(pictures), part, world, teacher=given, keep_images=0)
            metrics |= found.metrics
        return metrics

    started = time.time()
    draws = Draws(recipe, ToyWorldSource(family), family.latent_shape, stream_for(number))
    trial = Distillation(recipe, family, draws)
    trial.warm_up()
    found: dict[str, Any] = {}
    for cycle in range(1, recipe.total_cycles + 1):
        trial.cycle()
        if cycle in overrides.get("at", ()) or cycle == recipe.total_cycles:
            name = "distilled" if cycle == recipe.total_cycles else f"distilled@{cycle}"
            rows[name] = student_pictures(family, trial.ema.module, trial.networks.rungs)
            found[name] = measured(rows.pop(name), edits=True)
    found["seconds"] = time.time() - started
    for name, pictures in rows.items():
        found[name] = measured(pictures, edits=name == "undistilled-4nfe")
    return found


def gap(found: list[dict[str, Any]], metric: str, low: str, high: str) -> tuple[float, float]:
    """Mean gap `high - low` and its standard deviation over replicates."""
    gaps = [f[high][metric] - f[low][metric] for f in found]
    return statistics.fmean(gaps), statistics.stdev(gaps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "toyworld.yaml")
    parser.add_argument("--set", nargs="*", default=[], help="path=json, e.g. train.cycles=40")
    parser.add_argument("--at", type=int, nargs="*", default=[], help="also measure at cycles")
    parser.add_argument("--protocol", default="toyworld-v1")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    given = parser.parse_args()
    from ruamel.yaml import YAML

    fields = YAML(typ="safe").load(given.recipe.read_text())
    for text in given.set:
        path, value = text.split("=", 1)
        *parents, leaf = path.split(".")
        at = fields
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = json.loads(value)
    with tempfile.TemporaryDirectory() as cache:
        tasks = [
            (r, fields, cache, given.protocol, {"at": given.at}) for r in range(given.replicates)
        ]
        found = [replicate(tasks[0])]  # the first fills the cache of teacher features
        print(f"replicate 0 done, {found[0]['seconds']:.0f} s of training", flush=True)
        with mp.get_context("spawn").Pool(given.workers) as pool:
            for i, one in enumerate(pool.imap(replicate, tasks[1:]), start=1):
                found.append(one)
                print(f"replicate {i} done, {one['seconds']:.0f} s of training", flush=True)
    names = [n for n in found[0] if n != "seconds"]
    print(f"\n{'mean (sd)':22}" + "".join(f"{m:>20}" for m in METRICS))
    for name in names:
        cells = []
        for metric in METRICS:
            if metric not in found[0][name]:
                cells.append("-")
                continue
            values = [f[name][metric] for f in found]
            sd = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.fmean(values):12.4f} ({sd:.4f})")
        print(f"{name:22}" + "".join(f"{c:>20}" for c in cells))
    if given.json:
        given.json.write_text(json.dumps({"recipe": fields, "replicates": found}, indent=1))
    if given.replicates < 2:
        return 0
    checks = [
        ("a  teacher < distilled, to teacher", "t2i/fid_teacher", "teacher", "distilled"),
        ("a  distilled < undistilled, to teacher", "t2i/fid_teacher", "distilled",
         "undistilled-4nfe"),
        ("b  distilled < undistilled 4 NFE, to data", "t2i/fid", "distilled", "undistilled-4nfe"),
        ("b  distilled < undistilled 8 NFE, to data", "t2i/fid", "distilled", "undistilled-8nfe"),
        ("c  undistilled < distilled, edit fidelity", "edit/fidelity", "undistilled-4nfe",
         "distilled"),
    ]  # fmt: skip
    held = True
    print()
    for words, metric, low, high in checks:
        mean, sd = gap(found, metric, low, high)
        ok = mean > 3 * sd and mean > 0
        held &= ok
        print(f"{'holds' if ok else 'FAILS'}  {words:44} gap {mean:8.4f}  sd {sd:.4f}")
    words = statistics.fmean(f["teacher"]["oracle/words"] for f in found)
    held &= words > 0.6
    print(f"{'holds' if words > 0.6 else 'FAILS'}  {'d  teacher spells over 60 %':44} {words:.3f}")
    print("\ngate " + ("holds" if held else "FAILS"))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
