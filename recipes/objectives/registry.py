"""The objective that settings describe, imported when it is asked for."""

from __future__ import annotations

import pkgutil

from recipes.objectives.base import Objective
from recipes.objectives.settings import ObjectiveSettings


def objective_of(settings: ObjectiveSettings) -> Objective:
    """The objective that settings describe."""
    made: Objective = pkgutil.resolve_name(settings.trained_by)(settings)
    return made
