"""What a trial will cost before any has run, as the harness asks for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.protocol import Protocol
from harness.contract import Expected
from recipes.families.qwen_image_cost import PEAK, SHARE, SHARE_HIGH, SHARE_LOW, work
from recipes.recipe import Recipe


def expected(recipe: Recipe, protocol: Protocol, resources: Mapping[str, float]) -> Expected | None:
    """Seconds and memory of one trial on one GPU of a known peak.

    None on the CPU, for the toy world (one trial tells more than a guess) and for an objective that
    declares no forwards. A trial runs on one GPU, however many it is given.
    """
    if recipe.model is None or resources.get("gpus", 0) <= 0:
        return None
    pictures = {
        "t2i": sum(
            count + min(count, protocol.diversity.per_category) * (protocol.diversity.draws - 1)
            for count in protocol.items.t2i.values()
        ),
        "edit": sum(protocol.items.edit.values()),
    }
    done = work(recipe, pictures)
    if done is None:
        return None
    whole = done.training + resources.get("measurements", 1) * done.measuring
    gigabytes = done.memory / 1e9
    return Expected(
        seconds=whole / (SHARE * PEAK),
        lo=whole / (SHARE_HIGH * PEAK),
        hi=whole / (SHARE_LOW * PEAK),
        memory_gb=gigabytes,
        basis=f"{done.cycle:.3g} forwards a cycle, {done.t2i / 1e12:.0f} (T2I) to "
        f"{done.edit / 1e12:.0f} (edit) TFLOP a forward, {SHARE:.0%} [{SHARE_LOW:.0%} to "
        f"{SHARE_HIGH:.0%}] of the {PEAK / 1e12:.0f} TFLOP/s of one H100",
    )
