"""What an answer records of its contrasts' spread over prompts, for `plan` to read.

`plan` may not read every trial's values by prompt (`harness.planning.prompt_spread`); the answer
has them in hand.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.analyse.inference import Group, estimate
from harness.analyse.observed import Observed
from harness.plan import Plan
from harness.planning.attainable import tested
from harness.planning.pilot import arms_of
from harness.planning.prompt_spread import PromptSpread, digests
from harness.prompt_values import PromptValues

ByPrompt = Callable[[str, str], PromptValues | None]
"""Trial key and metric to the trial's values by prompt, at its last measured step."""


def prompt_spreads(plan: Plan, observed: Observed, by_prompt: ByPrompt) -> list[PromptSpread]:
    """One record for everything that is tested and whose trials all have values by prompt.

    Args:
        plan: with contrasts resolved to cells.
        observed: what the history holds of the plan's trials.
        by_prompt: where values by prompt come from.
    """
    keys = {(arm, r): trial.key for arm, row in observed.trials.items() for r, trial in row.items()}
    found = []
    for contrast in plan.contrasts:
        for groups, _ in tested(contrast):
            values = observed.of(contrast.metric, arms_of(groups))
            today = digests(contrast.metric, plan.fingerprints.protocol, groups, values, keys)
            if not today:
                continue
            tables = {
                (arm, r): table
                for arm, row in values.items()
                for r in row
                if (table := by_prompt(keys[arm, r], contrast.metric)) is not None
            }
            signed = [Group(tuple(cells), sign) for sign, cells in groups]
            prompts = estimate(values, signed, tables).prompts
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
