"""Forwards of one cycle by role, declared by each objective's settings. Imports no torch.

In units of F, one forward on the micro-batch, so that a plan can cost a study before any network is
there; hooks confirm the counts in the tests. Roles ending in `.grad` are run with gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # by name below: the settings of one objective are not those of another
    from recipes.objectives.settings import (
        Consistency,
        DecoupledDmd,
        Dmd,
        DpDmd,
        Matching,
        ObjectiveSettings,
        VelocityRegression,
    )


def guided_cost(scale: float) -> float:
    """Forwards in F of one guided panel evaluation with one teacher at work."""
    return 1.0 if scale == 1.0 else 2.0


def declared(settings: ObjectiveSettings, rungs: int, scale: float) -> dict[str, float] | None:
    """Forwards of one cycle; None for an objective that declares them elsewhere."""
    match settings.name:
        case "dmd":
            return dmd(settings, rungs, scale)
        case "dp_dmd":
            return dp_dmd(settings, rungs, scale)
        case "decoupled_dmd":
            return decoupled_dmd(settings, rungs, scale)
        case "consistency":
            return consistency(settings, scale)
        case "velocity_regression":
            return velocity_regression(settings, rungs, scale)
    return None


def student_forwards(settings: Matching, rungs: int) -> tuple[float, float]:
    """Student forwards without gradient (a rollout before its exit) and with, per sample.

    Exits are uniform from the first allowed to the last.
    """
    if settings.gradient == "full_rollout":
        return 0.0, float(rungs)
    return (settings.first_exit(rungs) + rungs - 1) / 2, 1.0


def fakes_forwards(settings: Matching, rungs: int) -> dict[str, float]:
    """Forwards of k fake updates, the first on the student's sample."""
    k = settings.fake_updates
    exit_mean = (settings.first_exit(rungs) + rungs - 1) / 2
    return {"student": (k - 1) * (exit_mean + 1), "fake.grad": float(k)}


def dmd(settings: Dmd, rungs: int, scale: float) -> dict[str, float]:
    """Early exit, guidance in one call, first sample reused."""
    rollout, graded = student_forwards(settings, rungs)
    fakes = fakes_forwards(settings, rungs)
    pairs = settings.regression
    steps = 1 + (pairs.teacher_steps if pairs.weight else 0)
    return _positive(
        fakes,
        {
            "student": rollout + fakes["student"],
            "student.grad": graded,
            "fake": 1.0,
            "teacher": steps * guided_cost(scale),
        },
    )


def dp_dmd(settings: DpDmd, rungs: int, scale: float) -> dict[str, float]:
    """DMD's, and K guided teacher steps for the anchor."""
    rollout, graded = student_forwards(settings, rungs)
    fakes = fakes_forwards(settings, rungs)
    whole = settings.gradient == "full_rollout"
    return _positive(
        fakes,
        {
            # The first step carries gradient; at a selected rung it comes beside that rung's own.
            "student": fakes["student"] + (0 if whole else rollout - 1),
            "student.grad": graded if whole else graded + 1,
            "fake": 1.0,
            "teacher": (1 + settings.anchor_steps) * guided_cost(scale),
        },
    )


def decoupled_dmd(settings: DecoupledDmd, rungs: int, scale: float) -> dict[str, float]:
    """The teacher unguided for one term, guided for the other."""
    rollout, graded = student_forwards(settings, rungs)
    fakes = fakes_forwards(settings, rungs)
    return _positive(
        fakes,
        {
            "student": rollout + fakes["student"],
            "student.grad": graded,
            "fake": 1.0,
            "teacher": 1.0 + guided_cost(scale),
        },
    )


def consistency(settings: Consistency, scale: float) -> dict[str, float]:
    """Teacher samples cost one guided evaluation a grid level."""
    steps = 1 + (settings.grid if settings.clean == "teacher" else 0)
    target = "target" if settings.target_decay else "student"
    return {"student.grad": 1.0, target: 1.0, "teacher": steps * guided_cost(scale)}


def velocity_regression(settings: VelocityRegression, rungs: int, scale: float) -> dict[str, float]:
    """Rollout with early exit, no fake score."""
    counted = {
        "student": (rungs - 1) / 2,
        "student.grad": 1.0,
        "teacher": settings.teacher_steps * guided_cost(scale),
    }
    return _positive(counted)


def _positive(*parts: dict[str, float]) -> dict[str, float]:
    merged = {role: count for part in parts for role, count in part.items()}
    return {role: count for role, count in merged.items() if count}
