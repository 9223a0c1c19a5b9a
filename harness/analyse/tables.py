"""Tables of an Answer: arms, trials, verdicts and effects, with the keys of their trials."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.analyse import words
from harness.analyse.answer import Answer, ArmRow, Cell

Value = str | float | int | None
SHORT_KEY = 8
"""Digits of a key that a table prints; `stillhouse reproduce` takes any unique prefix."""


@dataclass(frozen=True)
class Table:
    """A titled table: raw values for programs, printed ones for people."""

    name: str
    """File stem."""
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]
    printed_columns: tuple[str, ...] = ()
    printed: list[tuple[str, ...]] = field(default_factory=list)
    comments: tuple[str, ...] = ()
    """Lines a LaTeX export keeps beside the table, such as all keys."""


def tables(answer: Answer) -> list[Table]:
    """Every table of a study, in the order of the report."""
    found = [verdict_table(answer), arm_table(answer), trial_table(answer), effect_table(answer)]
    found += [alias_table(answer)] if answer.fraction else []
    return [*found, agreement_table(answer)] if answer.agreement else found


def headline_metrics(answer: Answer) -> list[str]:
    """Metrics of the first table, the primary among them even if it is an extra."""
    return [
        m for m, about in answer.metrics.items() if about.get("headline") or m == answer.primary
    ]


def column_places(answer: Answer, metric: str) -> int:
    """Decimals of a metric's column: two digits of the median half-width of its intervals."""
    cells = [row.cells[metric] for row in answer.arms if metric in row.cells]
    widths = sorted((c.hi - c.lo) / 2 for c in cells if c.hi is not None and c.lo is not None)
    sizes = [abs(c.mean) for c in cells if c.mean is not None]
    return words.decimals(widths[len(widths) // 2] if widths else None, max(sizes, default=0.0))


def printed_cell(cell: Cell, places: int) -> str:
    """`0.586 [0.571, 0.601]`; a dash where nothing was measured."""
    if cell.mean is None:
        return "-"
    middle = words.number(cell.mean, places)
    if cell.lo is None or cell.hi is None:
        return middle
    return f"{middle} [{words.number(cell.lo, places)}, {words.number(cell.hi, places)}]"


def count(row: ArmRow) -> str:
    """`5/6 (1 diverged)`: done of planned, and what became of the others."""
    others = [f"{n} {state}" for state, n in row.states.items() if state != "done"]
    return f"{row.n_done}/{row.n_planned}" + (f" ({', '.join(others)})" if others else "")


def best_arms(answer: Answer, metric: str) -> set[str]:
    """The arm with the best mean, or nobody while a competitor misses a replicate."""
    higher = answer.metrics.get(metric, {}).get("higher_is_better")
    rows = [row for row in answer.arms if row.kind == "arm"]
    means = {row.arm: row.cells[metric].mean for row in rows if metric in row.cells}
    complete = all(row.cells[metric].n == row.n_planned for row in rows if metric in row.cells)
    known = {arm: mean for arm, mean in means.items() if mean is not None}
    if higher is None or not complete or len(known) < 2 or len(known) < len(rows):
        return set()
    best = max(known.values()) if higher else min(known.values())
    return {arm for arm, mean in known.items() if mean == best}


def arm_table(answer: Answer) -> Table:
    """Every planned arm and reference row with its means, intervals, states and keys."""
    shown = list(answer.metrics)
    headline = headline_metrics(answer)
    places = {m: column_places(answer, m) for m in headline}
    factors = list(dict.fromkeys(f for row in answer.arms for f in row.levels))
    columns = ["arm", "kind", "baseline", *factors, "n_done", "n_planned", "states"]
    for metric in shown:
        columns += [metric, f"{metric} lo", f"{metric} hi", f"{metric} sd", f"{metric} n"]
    columns += ["protocol", "keys"]
    rows, printed = [], []
    for row in answer.arms:
        states = " ".join(f"{state}:{n}" for state, n in row.states.items())
        values: list[Value] = [row.arm, row.kind, "yes" if row.baseline else ""]
        values += [row.levels.get(f, "") for f in factors]
        values += [row.n_done, row.n_planned, states]
        for metric in shown:
            cell = row.cells[metric]
            values += [cell.mean, cell.lo, cell.hi, cell.sd, cell.n]
        rows.append((*values, answer.protocol, " ".join(row.keys.values())))
        label = row.arm + (" (baseline)" if row.baseline else "")
        label += " (reference)" if row.kind == "reference" else ""
        cells = [printed_cell(row.cells[m], places[m]) for m in headline]
        keys = " ".join(key[:SHORT_KEY] for key in row.keys.values())
        printed.append((label, count(row), *cells, keys))
    return Table(
        "arms",
        f"Every planned arm: mean over replicates [{100 * (1 - answer.alpha):g} % interval]"
        + _scope(answer),
        tuple(columns),
        rows,
        ("arm", "done", *(with_arrow(answer, m) for m in headline), "keys"),
        printed,
        tuple(f"{row.arm}: {' '.join(row.keys.values())}" for row in answer.arms),
    )


def trial_table(answer: Answer) -> Table:
    """One row a trial: key, arm, replicate, levels, state and every metric."""
    factors = list(dict.fromkeys(f for row in answer.arms for f in row.levels))
    metrics = list(answer.metrics)
    columns = ("key", "kind", "arm", "replicate", *factors, "state", *metrics)
    rows = [
        (
            key,
            row.kind,
            row.arm,
            replicate,
            *(row.levels.get(f, "") for f in factors),
            row.trial_states.get(replicate, ""),
            *(row.cells[m].values.get(replicate) for m in metrics),
        )
        for row in answer.arms
        for replicate, key in row.keys.items()
    ]
    return Table("trials", f"Every planned trial{_scope(answer)}", columns, rows)


def verdict_table(answer: Answer) -> Table:
    """One row a contrast: declared ones first, then exploratory ones."""
    columns = (
        "id",
        "planned",
        "amended",
        "metric",
        "a",
        "b",
        "verdict",
        "expectation",
        *("difference", "lo", "hi", "p", "p adjusted", "p sign-flip", "margin"),
        *("n", "n_planned", "method", "notes", "protocol", "keys"),
    )
    rows: list[tuple[Value, ...]] = [
        (
            v.id,
            "yes" if v.planned else "",
            v.amended,
            v.metric,
            v.a,
            v.b,
            v.verdict,
            v.expectation,
            v.difference,
            v.lo,
            v.hi,
            v.p,
            v.p_adjusted,
            v.p_sign_flip,
            v.margin,
            v.n,
            v.n_planned,
            v.method,
            "; ".join(v.notes),
            answer.protocol,
            " ".join(v.keys),
        )
        for v in answer.verdicts
    ]
    printed: list[tuple[str, ...]] = []
    for v in answer.verdicts:
        if not v.declared:
            continue
        width = (v.hi - v.lo) / 2 if v.hi is not None and v.lo is not None else None
        places = words.decimals(width, v.difference or 0.0)
        interval = "-"
        if v.lo is not None and v.hi is not None:
            lo, hi = (words.number(x, places, signed=True) for x in (v.lo, v.hi))
            interval = f"[{lo}, {hi}]"
        printed.append(
            (
                v.id,
                f"{v.a} - {v.b}",
                v.metric,
                words.number(v.difference, places, signed=True),
                interval,
                f"{v.n}/{v.n_planned}",
                words.p_value(v.p_adjusted).removeprefix("p = ").removeprefix("p "),
                v.verdict if v.planned else f"{v.verdict} (exploratory)",
            )
        )
    adjusted = "p (adjusted)" if any(v.amended for v in answer.verdicts) else "p (Holm)"
    heads = ("id", "contrast", "metric", "difference", "interval", "n", adjusted, "verdict")
    comments = tuple(f"{v.id}: {' '.join(v.keys)}" for v in answer.verdicts if v.declared)
    late = "; those changed after the first run are exploratory" if "adj" in adjusted else ""
    title = f"Declared contrasts{late}; intervals are not adjusted{_scope(answer)}"
    return Table("verdicts", title, columns, rows, heads, printed, comments)


def effect_table(answer: Answer) -> Table:
    """Main effects and two-way interactions, all exploratory."""
    columns = ("kind", "factor", "level", "metric", "difference", "lo", "hi", "p adjusted", "n")
    rows: list[tuple[Value, ...]] = [
        ("main effect", e.factor, e.level, e.metric, e.mean, e.lo, e.hi, None, e.n, _all(e.aliases))
        for e in answer.effects
    ]
    rows += [
        (
            "interaction",
            " x ".join(i.factors),
            " x ".join(i.levels),
            i.metric,
            i.difference,
            i.lo,
            i.hi,
            i.p_adjusted,
            i.n,
            _all(i.aliases),
        )
        for i in answer.interactions
    ]
    return Table(
        "effects",
        f"Main effects and interactions (exploratory){_scope(answer)}",
        (*columns, "cannot be told from"),
        rows,
    )


def alias_table(answer: Answer) -> Table:
    """What a fraction cannot tell apart, up to two-factor interactions."""
    assert answer.fraction is not None, "only a fraction has one"
    fraction = answer.fraction
    rows: list[tuple[Value, ...]] = [(e, _all(a)) for e, a in fraction.aliases.items()]
    printed = [(e, ", ".join(a) or "clear") for e, a in fraction.aliases.items()]
    sets = ", ".join(f"{factor} = {product}" for factor, product in fraction.generators.items())
    title = f"Fraction: {fraction.arms} of {fraction.combinations} combinations, "
    title += f"resolution {fraction.resolution}, {sets}"
    left = sum(row.kind == "arm" for row in answer.arms)
    title += f"; {left} of them are left" if left < fraction.arms else ""
    heads = ("effect", "cannot be told from")
    return Table("aliases", title, heads, rows, heads, list[tuple[str, ...]](printed))


def _all(aliases: list[str]) -> str:
    return "; ".join(aliases)


def agreement_table(answer: Answer) -> Table:
    """One row a learned metric: how it ranks trained arms against the oracle."""
    columns = ("metric", "follows", "rank correlation", "lo", "hi", "n", "n_planned", "agreement")
    rows: list[tuple[Value, ...]] = [
        (a.metric, a.follows, a.rho, a.lo, a.hi, a.n, a.n_planned, a.agreement, a.method)
        for a in answer.agreement
    ]
    printed: list[tuple[str, ...]] = [
        (
            a.metric,
            a.follows,
            words.number(a.rho, 2, signed=True),
            f"[{words.number(a.lo, 2, signed=True)}, {words.number(a.hi, 2, signed=True)}]"
            if a.lo is not None
            else "-",
            f"{a.n}/{a.n_planned}",
            a.agreement,
        )
        for a in answer.agreement
    ]
    heads = ("metric", "oracle", "rank correlation", "interval", "arms", "agreement")
    title = f"Learned metrics against the oracle, over trained arms{_scope(answer)}"
    return Table("agreement", title, (*columns, "method"), rows, heads, printed)


def _scope(answer: Answer) -> str:
    return f", {answer.scope}" if answer.scope else ""


def with_arrow(answer: Answer, metric: str) -> str:
    """Metric with an arrow towards better, and its unit."""
    higher = answer.metrics[metric].get("higher_is_better")
    unit = answer.metrics[metric].get("unit")
    arrow = {True: " \u2191", False: " \u2193"}.get(bool(higher), "") if higher is not None else ""
    return f"{metric}{arrow}" + (f" ({unit})" if unit else "")
