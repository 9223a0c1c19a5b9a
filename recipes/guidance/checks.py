"""What a panel must fulfil together with the rest of its recipe. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from recipes.guidance.settings import OTHER, Guidance, Teacher, condition_factor

Labels = Mapping[str, Iterable[str]]
"""Task -> labels that its rows may have."""


def check_panel(
    teachers: Mapping[str, Teacher], guidance: Guidance, rungs: int, labels: Labels
) -> None:
    """Refuse a panel that some row could not be judged by.

    Args:
        teachers: the panel.
        guidance: of the recipe.
        rungs: sampling steps of the student.
        labels: what rows may be about.

    Raises:
        ValueError: a list by rung of another length, a label that no row can have, or a row that
            no teacher judges.
    """
    lists = {f"teachers.{name}.by_rung": t.by_rung for name, t in teachers.items()}
    for path, given in {"guidance.by_rung": guidance.by_rung, **lists}.items():
        if given is not None and len(given) != rungs:
            raise ValueError(
                f"{path} has {len(given)} entries, but student.rungs is {rungs}; give one a rung"
            )
    tasks = {task: tuple(found) for task, found in labels.items()}
    known = {OTHER, *tasks, *(label for found in tasks.values() for label in found)}
    known |= {f"{task}.{label}" for task, found in tasks.items() for label in found}
    for name, teacher in teachers.items():
        unknown = sorted(set(teacher.by_condition or ()) - known)
        if unknown:
            raise ValueError(
                f"teachers.{name}.by_condition: unknown {unknown}; allowed are {sorted(known)}"
            )
    _check_judged(teachers, rungs, tasks)


def _check_judged(
    teachers: Mapping[str, Teacher], rungs: int, tasks: Mapping[str, tuple[str, ...]]
) -> None:
    """Every row must have a teacher, whichever way rung, stage and label meet."""
    panel = teachers.values()
    ends = {p.until for t in panel for p in (t.by_progress or {}).values()} | {1.0}
    rows = [(task, label) for task, found in tasks.items() for label in found]
    # Without weights by rung or label all rungs or labels are alike.
    rungs = rungs if any(t.by_rung is not None for t in panel) else 1
    rows = rows if any(t.by_condition is not None for t in panel) else rows[:1]
    for rung, until, (task, label) in itertools.product(range(rungs), sorted(ends), rows):
        if not sum(teacher_weight(t, rung, _before(until), task, label) for t in panel) > 0:
            raise ValueError(
                f"teachers: shares sum to 0 for {task}.{label} at rung {rung} while progress is "
                f"below {until:g}; at least one must be positive"
            )


def _before(until: float) -> float:
    """A progress inside the stage that ends at `until`."""
    return until - 1e-9


def teacher_weight(
    teacher: Teacher, rung: int | None, progress: float, task: str, label: str | None
) -> float:
    """Unnormalised lambda of a teacher for one row.

    Args:
        teacher: its settings.
        rung: exit rung of the row; needed where a weight is given by rung.
        progress: share of the cycles done, in [0, 1].
        task: t2i or edit.
        label: category or edit type of the row; needed where a weight is given by condition.
    """
    weight = teacher.share
    if teacher.by_rung is not None:
        assert rung is not None, "weights by rung need the exit rung of every row"
        weight *= teacher.by_rung[rung]
    if teacher.by_progress is not None:
        pieces = sorted(teacher.by_progress.values(), key=lambda piece: piece.until)
        weight *= next((p.share for p in pieces if progress < p.until), pieces[-1].share)
    if teacher.by_condition is not None:
        assert label is not None, "weights by condition need the label of every row"
        weight *= condition_factor(teacher.by_condition, task, label)
    return weight
