"""Values of a trial by prompt: what a claim over prompts rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PromptValues:
    """Values by prompt of one trial, one metric, one measured step."""

    strata: Mapping[str, float]
    """Stratum (category, edit type) to its weight in the metric; of sum 1."""
    values: Mapping[str, Mapping[str, float]]
    """Stratum to prompt to value, whose mean is the metric's over the stratum."""
    pseudo: bool = False
    """Delete-a-prompt jackknife pseudo-values of a distance: their mean is free of its bias."""
