"""How many trials a study that runs until decided may be expected to take, by simulating its looks.

Cheap on purpose, for `plan`: differences are drawn as normal noise of the arms, levels are coarse,
and hundreds of studies are looked at together. What it says is held against the product's own looks
by the tests; error rates are `benchmarks/adaptive.py`'s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.analysis.looks import FUTILE
from harness.analysis.spending import calibrated
from harness.planning.plan import ExpectedTrials, Plan
from harness.planning.power import detectable

STUDIES = 400
CELLS = 40
"""Of the levels, if they are not frozen yet."""


def expected(plan: Plan, seed: int = 0) -> ExpectedTrials | None:
    """Simulate the looks of a plan from its first one on; None if it has no looks.

    Contrasts that are no weighted sum of arms (the best level, collapse) count as open to the end.
    """
    adaptive = plan.adaptive
    contrasts = [c for c in plan.contrasts if not c.amended]
    if adaptive is None or not contrasts:
        return None
    family = max(plan.frozen_contrasts or 0, len(contrasts))
    spending = adaptive.spending or calibrated(
        adaptive.at_most, plan.alpha, family, first=adaptive.first, cells=CELLS
    )
    levels = np.array(
        [
            [spending.level(n, plan.alpha / left) for left in range(1, family + 1)]
            for n in range(spending.first, spending.at_most + 1)
        ]
    )
    names = [arm.name for arm in plan.arms]
    weights_CA = np.array(
        [[c.arm_weights().get(a, 0.0) for a in names] for c in contrasts], dtype=float
    )
    uses_CA = np.array([[a in set(c.arms()) for a in names] for c in contrasts])
    effect = detectable(adaptive.at_most, plan.alpha / family)
    means = [
        _trials(weights_CA, uses_CA, shift, levels, spending.first, family, seed)
        for shift in (0.0, effect)
    ]
    return ExpectedTrials(
        at_most=adaptive.at_most * len(names), nothing_differs=means[0], as_detectable=means[1]
    )


def _trials(
    weights_CA: NDArray[np.float64],
    uses_CA: NDArray[np.bool_],
    shift: float,
    levels: NDArray[np.float64],
    first: int,
    family: int,
    seed: int,
) -> float:
    """Mean number of trials; `shift` is each contrast's true difference in its own SDs."""
    from scipy.special import stdtr

    looks, (contrasts, arms) = len(levels), weights_CA.shape
    at_most = first + looks - 1
    size: NDArray[np.float64] = np.sqrt(np.square(weights_CA).sum(axis=1))
    unread: NDArray[np.bool_] = np.equal(size, 0.0)
    y_SAR = np.random.default_rng(seed).standard_normal((STUDIES, arms, at_most))
    d_SCR = np.einsum("ca,sar->scr", weights_CA, y_SAR)
    d_SCR = d_SCR / np.where(unread, 1.0, size)[None, :, None] + shift
    open_SC: NDArray[np.bool_] = np.ones((STUDIES, contrasts), dtype=bool)
    gone_SC: NDArray[np.bool_] = np.zeros_like(open_SC)
    alone_A: NDArray[np.bool_] = np.logical_not(np.any(uses_CA, axis=0))
    trials = np.full(STUDIES, float(first * arms))
    for look in range(looks):
        n = first + look
        so_far = d_SCR[:, :, :n]
        spread = np.where(unread, 1.0, so_far.std(axis=2, ddof=1))
        t = so_far.mean(axis=2) / spread * np.sqrt(n)
        # `FUTILE` itself neither decides a contrast nor gives it up.
        p = np.where(unread[None, :], FUTILE, 2 * stdtr(n - 1, -np.abs(t)))
        # As many rounds as contrasts: whoever leaves may let another one leave.
        for _ in range(contrasts):
            left = np.maximum(family - gone_SC.sum(axis=1), 1)
            gone_SC |= open_SC & (p < levels[look, left - 1][:, None])
        open_SC &= ~gone_SC
        if 2 * n >= at_most:
            open_SC &= p <= FUTILE
        if n < at_most:
            compared_SA = np.any(open_SC[:, :, None] & uses_CA[None], axis=1)
            going = np.logical_or(compared_SA, alone_A[None, :])
            trials += np.where(open_SC.any(axis=1), going.sum(axis=1), 0)
    return float(trials.mean())
