"""A winner that diverged may lose its verdict, and never gains one by it.

The verdict comes from trials that converged. Filling in values for those that did not breaks the
error rate or the sign, whatever is filled in; so the fill is a veto only: where the side that wins
has diverged trials, the cells they leave empty get the worst difference that was observed, and if
the verdict falls, it is undecided. Divergence of the loser changes nothing, and a crash or lack of
memory says nothing about the recipe: it is missing at random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.analysis.inference import Estimated, Group, Values, over_seeds

States = Mapping[str, Mapping[int, str]]
"""Arm to replicate to trial state."""


def winner_filled(
    found: Estimated,
    values: Values,
    groups: Sequence[Group],
    states: States,
    *,
    higher_is_better: bool,
    replicates: Sequence[int],
) -> tuple[Estimated, dict[str, list[int]]] | None:
    """The estimate with the winner's divergences filled in, and arm to replicates that diverged.

    None where the winner never diverged, or there is no winner.
    """
    difference = found.difference
    if not difference:
        return None
    winner = 1.0 if (difference > 0) == higher_is_better else -1.0
    diverged: dict[str, list[int]] = {}
    cells: dict[str, dict[int, float]] = {}
    shaped: list[Group] = []
    empty: list[tuple[str, int]] = []
    # Each cell becomes an arm of its own: a difference can be filled in, a value of an arm cannot.
    for g, group in enumerate(groups):
        cell_arms = []
        for c, cell in enumerate(group.cells):
            name = f"{g}.{c}"
            cell_arms.append({name: 1.0})
            row: dict[int, float] = {}
            for r in replicates:
                has = all(r in values.get(arm, {}) for arm in cell)
                if has:
                    row[r] = math.fsum(w * values[arm][r] for arm, w in cell.items())
                    continue
                lost_arms = [
                    arm
                    for arm, w in cell.items()
                    if w * group.sign * winner > 0 and states.get(arm, {}).get(r) == "diverged"
                ]
                for arm in lost_arms:
                    diverged.setdefault(arm, []).append(r)
                if lost_arms:
                    empty.append((name, r))
            cells[name] = row
        shaped.append(Group(tuple(cell_arms), group.sign))
    if not empty:
        return None
    sign = math.copysign(1.0, difference)
    signs = {name: shaped[int(name.split(".")[0])].sign for name in cells}
    differences = [signs[name] * d for name, row in cells.items() for d in row.values()]
    # The least that any cell showed for the winner; what it lost by diverging nobody knows.
    worst = sign * min(sign * d for d in differences)
    for name, r in empty:
        cells[name][r] = signs[name] * worst
    # Prompts as found: what diverged has no values by prompt.
    filled = replace(found, seeds=over_seeds(cells, shaped))
    return filled, {arm: sorted(set(rows)) for arm, rows in diverged.items()}
