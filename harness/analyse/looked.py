"""Planned contrasts as looks read them: each on the replicates of its own last look."""

from __future__ import annotations

from collections.abc import Mapping

from harness.analyse.inference import estimate, one_group
from harness.analyse.kinds import Linear
from harness.analyse.looks import AtLook, Looked
from harness.analyse.observed import Observed, observe
from harness.contract import MetricSpec
from harness.journal import History
from harness.plan import Plan, PlannedContrast
from harness.records import OutcomeState


def looked_at(
    plan: Plan, history: History, specs: Mapping[str, MetricSpec], replicates: int
) -> tuple[dict[str, AtLook], dict[str, OutcomeState]]:
    """Every planned contrast for a look after so many replicates, and how earlier looks ended some.

    Args:
        plan: of a study that runs until decided, its levels frozen.
        history: as the study reads it.
        specs: the subject's metrics.
        replicates: of the look; those ended before are read on the replicates of their own.
    """
    adaptive = plan.adaptive
    assert adaptive is not None
    assert adaptive.spending is not None
    observed = observe(plan, history)
    members: dict[str, AtLook] = {}
    states: dict[str, OutcomeState] = {}
    for contrast in plan.contrasts:
        if contrast.amended:
            continue
        n = replicates
        for look in adaptive.looks:
            said = look.outcomes.get(contrast.id)
            if said is not None and said.state != "open" and contrast.id not in states:
                states[contrast.id], n = said.state, look.replicates
        members[contrast.id] = AtLook(member(contrast, observed, specs, n), n, adaptive.spending)
    return members, states


def member(
    contrast: PlannedContrast,
    observed: Observed,
    specs: Mapping[str, MetricSpec],
    replicates: int,
) -> Looked:
    """What the first replicates say about one contrast."""
    weights = contrast.arm_weights()
    rows = observed.of(contrast.metric, weights)
    values = {a: {r: v for r, v in row.items() if r < replicates} for a, row in rows.items()}
    cells = [{a: 1.0, b: -1.0} for a, b in contrast.pairs] or [weights]
    spec = specs.get(contrast.metric, MetricSpec())
    return Linear(
        estimate(values, one_group(cells)), contrast.margin, spec.higher_is_better, narrow=False
    )
