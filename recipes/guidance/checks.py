"""What a panel must fulfil together with the rest of its recipe. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from recipes.guidance.settings import OTHER, Guidance, Teacher

Labels = Mapping[str, Iterable[str]]
"""Task -> labels that its rows may have."""


def check_panel(
    teachers: Mapping[str, Teacher],
    guidance: Guidance,
    rungs: int,
    labels: Labels,
    sources: Iterable[str] = (),
) -> None:
    """Refuse a panel that some row could not be judged by.

    Args:
        teachers: the panel.
        guidance: of the recipe.
        rungs: sampling steps of the student.
        labels: what rows may be about.
        sources: names of data sources, which are no labels.

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
    tasks = {task: tuple(sorted(found)) for task, found in labels.items()}
    known = {OTHER, *tasks, *(label for found in tasks.values() for label in found)}
    known |= {f"{task}.{label}" for task, found in tasks.items() for label in found}
    for name, teacher in teachers.items():
        unknown = sorted(set(teacher.by_condition or ()) - known)
        named = {source for source in sources for u in unknown if u.split(".")[-1] == source}
        if named:
            raise ValueError(
                f"teachers.{name}.by_condition: {sorted(named)} are data sources; rows are routed "
                "by what they show, so that the panel can be measured as it was trained. Allowed "
                f"are {sorted(known)}"
            )
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
        if not sum(t.weight(rung, _before(until), task, label) for t in panel) > 0:
            raise ValueError(
                f"teachers: shares sum to 0 for {task}.{label} at rung {rung} while progress is "
                f"below {until:g}; at least one must be positive"
            )


def _before(until: float) -> float:
    """A progress inside the stage that ends at `until`."""
    return until - 1e-9
