"""What a trial will cost before any has run, as the harness asks for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.protocol import Protocol
from harness.contract import Expected
from recipes.families.measured_rates import Rates, rates_for
from recipes.families.qwen_image_cost import PEAK, SHARE, SHARE_HIGH, SHARE_LOW, Work, work
from recipes.recipe import Recipe

FASTER, SLOWER = 0.9, 1.25
"""Of a time worked out from measured rates: other batch sizes, cards and hosts. Assumed."""


def expected(recipe: Recipe, protocol: Protocol, resources: Mapping[str, float]) -> Expected | None:
    """Seconds and memory of one trial on one GPU: by rates measured on a card, else by its peak.

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
    times = resources.get("measurements", 1)
    rates = rates_for(recipe, done.width)
    counted = (
        f"{done.cycle:.3g} forwards a cycle, {done.t2i / 1e12:.0f} (T2I) to "
        f"{done.edit / 1e12:.0f} (edit) TFLOP a forward"
    )
    # A guess from a share of the peak, and wide on purpose: nothing was measured at this scale
    # here. The harness asks only while no finished trial says more.
    if rates is None:
        whole = (done.training + times * done.measuring) / PEAK
        return Expected(
            seconds=whole / SHARE,
            lo=whole / SHARE_HIGH,
            hi=whole / SHARE_LOW,
            memory_gb=done.memory / 1e9,
            basis=f"{counted}, {SHARE:.0%} [{SHARE_LOW:.0%} to {SHARE_HIGH:.0%}] of the "
            f"{PEAK / 1e12:.0f} TFLOP/s of one H100",
        )
    seconds = seconds_at(done, rates, times)
    t2i, edit = (rates.training[task] / 1e12 for task in ("t2i", "edit"))
    return Expected(
        seconds=seconds,
        lo=FASTER * seconds,
        hi=SLOWER * seconds,
        memory_gb=done.memory / 1e9,
        basis=f"{counted}, at {t2i:.0f} and {edit:.0f} TFLOP/s as measured on {rates.card} on "
        f"{rates.date} (benchmarks/results/{rates.file})",
    )


def seconds_at(done: Work, rates: Rates, measurements: float) -> float:
    """Seconds of a trial at measured rates; the text encoder, not measured, at the assumed one."""
    training = sum(done.trained[task] / rate for task, rate in rates.training.items())
    measuring = sum(done.measured[task] / rate for task, rate in rates.sampling.items())
    return training + done.trained["text"] / (SHARE * PEAK) + measurements * measuring
