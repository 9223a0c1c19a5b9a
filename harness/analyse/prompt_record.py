"""What an answer records of its contrasts' spread over prompts, for `plan` to read.

`plan` may not read every trial's values by prompt (`harness.planning.prompt_spread`); the answer
has them in hand.
"""

from __future__ import annotations

from harness.analyse.inference import Group, estimate
from harness.analyse.observed import Observed
from harness.plan import Plan
from harness.planning.attainable import comparisons
from harness.planning.pilot import arms_of
from harness.planning.prompt_spread import PromptSpread, digests


def prompt_spreads(plan: Plan, observed: Observed) -> list[PromptSpread]:
    """One record for everything that is tested and whose trials all have values by prompt."""
    keys = {(arm, r): trial.key for arm, row in observed.trials.items() for r, trial in row.items()}
    found = []
    for contrast in plan.contrasts:
        by_prompt = observed.by_prompt(contrast.metric)
        if by_prompt is None or contrast.kind == "sooner":
            continue
        for test in comparisons(contrast):
            groups = test.groups
            values = observed.of(contrast.metric, arms_of(groups))
            today = digests(contrast.metric, observed.protocol, groups, values, keys)
            signed = [Group(tuple(cells), sign) for sign, cells in groups]
            prompts = estimate(values, signed, by_prompt).prompts
            if prompts is None or prompts.df <= 0:
                continue
            found.append(
                PromptSpread(
                    id=contrast.id,
                    metric=contrast.metric,
                    replicates=[today[r] for r in sorted(today)],
                    variance=prompts.variance,
                    both=prompts.both,
                    df=prompts.df,
                    prompts=prompts.n,
                    strata=len(prompts.counts),
                )
            )
    return found
