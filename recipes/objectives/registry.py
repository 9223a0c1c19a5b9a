"""Which class trains which settings: a new objective adds its line."""

from __future__ import annotations

from typing import Any

from recipes.objectives.base import Objective
from recipes.objectives.consistency import ConsistencyObjective
from recipes.objectives.decoupled_dmd import DecoupledDmdObjective
from recipes.objectives.dmd import DmdObjective
from recipes.objectives.dp_dmd import DpDmdObjective
from recipes.objectives.settings import (
    Consistency,
    DecoupledDmd,
    Dmd,
    DpDmd,
    ObjectiveSettings,
    VelocityRegression,
)
from recipes.objectives.velocity_regression import VelocityRegressionObjective

OBJECTIVES: dict[type[ObjectiveSettings], Any] = {
    Dmd: DmdObjective,
    DpDmd: DpDmdObjective,
    DecoupledDmd: DecoupledDmdObjective,
    Consistency: ConsistencyObjective,
    VelocityRegression: VelocityRegressionObjective,
}


def objective_of(settings: ObjectiveSettings) -> Objective:
    """The objective that settings describe."""
    made: Objective = OBJECTIVES[type(settings)](settings)
    return made
