"""Tables of an Answer, with the keys of their trials; as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.analysis import sentences
from harness.analysis.kind_words import listed
from harness.analysis.model import Answer, ArmRow, Cell, Verdict
from harness.analysis.sentences import reach
from harness.report.kinds import KINDS
from harness.text.printable import csv_cell, latex, markdown, printable

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
    listed = [verdict_table(answer), arm_table(answer), trial_table(answer), effect_table(answer)]
    listed += [alias_table(answer)] if answer.fraction else []
    return [*listed, agreement_table(answer)] if answer.agreement else listed


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
    return sentences.decimals(widths[len(widths) // 2] if widths else None, max(sizes, default=0.0))


def printed_cell(cell: Cell, places: int) -> str:
    """`0.586 [0.571, 0.601]`; a dash where nothing was measured."""
    if cell.mean is None:
        return "-"
    middle = sentences.number(cell.mean, places)
    if cell.lo is None or cell.hi is None:
        return middle
    return f"{middle} [{sentences.number(cell.lo, places)}, {sentences.number(cell.hi, places)}]"


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
    measured = {arm: mean for arm, mean in means.items() if mean is not None}
    # Whoever misses replicates may have lost the bad ones: while anybody does, nobody is best.
    if higher is None or not complete or len(measured) < 2 or len(measured) < len(rows):
        return set()
    best = max(measured.values()) if higher else min(measured.values())
    return {arm for arm, mean in measured.items() if mean == best}


def why_empty(row: ArmRow, metric: str) -> str:
    """Why a row has no value of a metric; empty where it has one."""
    cell = row.cells.get(metric)
    if cell is not None and cell.mean is not None:
        return ""
    states = ", ".join(f"{n} {state}" for state, n in row.states.items() if state != "done")
    if row.n_done:
        return f"not measured{f'; {states}' if states else ''}"
    return states or "no trial yet"


def over_words(answer: Answer, metrics: Sequence[str]) -> str:
    """What the intervals of single arms reach over, metric by metric where they differ."""
    groups: dict[str, list[str]] = {}
    for metric in metrics:
        cells = [row.cells[metric] for row in answer.arms if metric in row.cells]
        reaches = [(cell.n, cell.n_prompts) for cell in cells if cell.lo is not None]
        if reaches:
            groups.setdefault(reach(reaches), []).append(metric)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{listed(alike)} {over}" for over, alike in groups.items())


def arm_table(answer: Answer) -> Table:
    """Every planned arm and reference row with its means, intervals, states and keys."""
    metrics = list(answer.metrics)
    headline = headline_metrics(answer)
    places = {m: column_places(answer, m) for m in headline}
    factors = list(dict.fromkeys(f for row in answer.arms for f in row.levels))
    columns = ["arm", "kind", "baseline", *factors, "n_done", "n_planned", "states"]
    for metric in metrics:
        columns += [metric, f"{metric} lo", f"{metric} hi", f"{metric} sd", f"{metric} n"]
        columns += [f"{metric} prompts"]
    columns += ["protocol", "keys"]
    rows, printed = [], []
    for row in answer.arms:
        states = " ".join(f"{state}:{n}" for state, n in row.states.items())
        values: list[Value] = [row.arm, row.kind, "yes" if row.baseline else ""]
        values += [row.levels.get(f, "") for f in factors]
        values += [row.n_done, row.n_planned, states]
        for metric in metrics:
            cell = row.cells[metric]
            values += [cell.mean, cell.lo, cell.hi, cell.sd, cell.n, cell.n_prompts]
        rows.append((*values, answer.protocol, " ".join(row.keys.values())))
        label = row.arm + (" (baseline)" if row.baseline else "")
        label += " (reference)" if row.kind == "reference" else ""
        cells = [printed_cell(row.cells[m], places[m]) for m in headline]
        keys = " ".join(key[:SHORT_KEY] for key in row.keys.values())
        printed.append((label, count(row), *cells, keys))
    return Table(
        "arms",
        f"Every planned arm: mean over replicates [{100 * (1 - answer.alpha):g} % interval"
        f"{f' {over}' if (over := over_words(answer, headline)) else ''}]{_scope(answer)}",
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


VERDICT_COLUMNS = (
    *("id", "kind", "about", "planned", "amended", "metric", "a", "b", "verdict", "expectation"),
    *("difference", "lo", "hi", "level", "left", "p", "p adjusted", "margin"),
    *("n", "n_planned", "prompts"),
    *("se seeds", "df seeds", "se prompts", "df prompts", "se both"),
    *("narrow lo", "narrow hi", "narrow level", "narrow p", "narrow p adjusted", "narrow verdict"),
    *("best", "step", "parts", "sizes"),
    *("method", "notes", "protocol", "keys"),
)
"""`n` and `prompts` are what a verdict reaches over; `level` is of its interval, `left` how many
contrasts were left when it was read; `narrow` is the claim on exactly these prompts."""


def verdict_table(answer: Answer) -> Table:
    """One row a contrast: declared ones first, then exploratory ones."""
    rows = [_verdict_row(v, answer.protocol) for v in answer.verdicts]
    declared = [v for v in answer.verdicts if v.declared]
    printed: list[tuple[str, ...]] = []
    for v in declared:
        middle, interval = difference_words(v)
        narrow = _interval(v.narrow.lo, v.narrow.hi, v.narrow.level) if v.narrow else ""
        verdict = v.verdict if v.planned else f"{v.verdict} (exploratory)"
        printed.append(
            (
                v.id,
                sides_words(v),
                v.metric,
                middle,
                interval,
                seeds_words(v),
                str(v.n_prompts or "these"),
                sentences.p_value(v.p_adjusted).removeprefix("p = ").removeprefix("p "),
                f"{verdict}: {listed(v.best)}" if v.best else verdict,
                f"{v.narrow.verdict} {narrow}" if v.narrow else _narrowest(v),
            )
        )
    heads = (
        *("id", "contrast", "metric", "estimate", "interval at the level that decided it"),
        *("seeds", "prompts", "p times those left", "verdict", "on exactly these prompts"),
    )
    if any(v.amended for v in declared):
        heads = (*heads[:7], "p adjusted", *heads[8:])
    comments = tuple(f"{v.id}: {' '.join(v.keys)}" for v in declared)
    late = ", and those changed after the first run" if any(v.amended for v in declared) else ""
    title = f"Declared contrasts{late}: each interval at the level that decided it"
    title += f", {_claimed_over(declared)}"
    title += _scope(answer)
    return Table("verdicts", title, VERDICT_COLUMNS, rows, heads, printed, comments)


def seeds_words(v: Verdict) -> str:
    """Seeds that a verdict is over, of those planned; those of checkpoints are not drawn."""
    return "these" if v.about == "checkpoints" else f"{v.n}/{v.n_planned}"


def _narrowest(v: Verdict) -> str:
    return "no claim" if v.about == "checkpoints" and v.n_prompts else "the same"


def _claimed_over(declared: Sequence[Verdict]) -> str:
    if declared and all(v.about == "checkpoints" for v in declared):
        return "about these checkpoints, over prompts"
    return "over seeds and prompts" if any(v.n_prompts for v in declared) else "over seeds"


def _verdict_row(v: Verdict, protocol: str) -> tuple[Value, ...]:
    spread, narrow = v.spread, v.narrow
    parts = [f"{p.name} {p.level}".strip() + f" {_raw(p.difference, p.lo, p.hi)}" for p in v.parts]
    return (
        *(v.id, v.kind, v.about, "yes" if v.planned else "", v.amended, v.metric, v.a, v.b),
        *(v.verdict, v.expectation),
        *(v.difference, v.lo, v.hi, v.level, v.left, v.p, v.p_adjusted, v.margin),
        *(v.n, v.n_planned, v.n_prompts),
        *(
            (spread.seeds, spread.seeds_df, spread.prompts, spread.prompts_df, spread.both)
            if spread
            else (None,) * 5
        ),
        *(
            (narrow.lo, narrow.hi, narrow.level, narrow.p, narrow.p_adjusted, narrow.verdict)
            if narrow
            else (None,) * 6
        ),
        "; ".join(v.best),
        v.step,
        "; ".join(parts),
        "; ".join(f"{name}={size:.17g}" for name, size in v.sizes.items()),
        *(v.method, "; ".join(v.notes), protocol, " ".join(v.keys)),
    )


def _raw(difference: float | None, lo: float | None, hi: float | None) -> str:
    if difference is None:
        return "-"
    return f"{difference:.9g}" + ("" if lo is None or hi is None else f" [{lo:.9g}, {hi:.9g}]")


def sides_words(v: Verdict) -> str:
    """What is compared, short: `a - b`, `slope over a`, and so on by its kind."""
    return KINDS[v.kind].short(v)


def difference_words(v: Verdict) -> tuple[str, str]:
    """Estimate and interval as printed, the interval with its level; a dash for none."""
    width = (v.hi - v.lo) / 2 if v.hi is not None and v.lo is not None else None
    places = sentences.decimals(width, v.difference or 0.0)
    middle = sentences.number(v.difference, places, signed=True)
    return middle, _interval(v.lo, v.hi, v.level)


def _interval(lo: float | None, hi: float | None, level: float) -> str:
    if lo is None or hi is None:
        return "-"
    places = sentences.decimals((hi - lo) / 2, lo)
    ends = ", ".join(sentences.number(x, places, signed=True) for x in (lo, hi))
    return f"[{ends}] at {sentences.percent(level)}"


def effect_table(answer: Answer) -> Table:
    """Main effects and two-way interactions, all exploratory; one without a number says why."""
    columns = (
        *("kind", "factor", "level", "metric", "difference", "lo", "hi", "interval level"),
        *("p adjusted", "n", "prompts", "cannot be told from", "why there is none"),
    )
    alone = 1 - answer.alpha
    rows: list[tuple[Value, ...]] = [
        (
            *("main effect", e.factor, e.level, e.metric, e.mean, e.lo, e.hi, alone),
            *(None, e.n, e.n_prompts, _all(e.aliases), e.why),
        )
        for e in answer.effects
    ]
    rows += [
        (
            *("interaction", " x ".join(i.factors), " x ".join(i.levels), i.metric),
            *(i.difference, i.lo, i.hi, i.level),
            *(i.p_adjusted, i.n, i.n_prompts, _all(i.aliases), i.why),
        )
        for i in answer.interactions
    ]
    rows += [
        ("interaction", "", "", answer.primary, None, None, None, None, None, 0, 0, "", reason)
        for reason in answer.left_out
    ]
    return Table(
        "effects", f"Main effects and interactions (exploratory){_scope(answer)}", columns, rows
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
    planned = sum(row.kind == "arm" for row in answer.arms)
    title += f"; {planned} of them are left" if planned < fraction.arms else ""
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
            sentences.number(a.rho, 2, signed=True),
            f"[{sentences.number(a.lo, 2, signed=True)}, {sentences.number(a.hi, 2, signed=True)}]"
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


RULE = "---"


def to_csv(table: Table) -> str:
    """Raw values at full precision; empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([[csv_cell(v) for v in row] for row in (table.columns, *table.rows)])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """The printed form as a Markdown table, title first; empty where a table is not printed."""
    if not table.printed_columns:
        return ""
    lines = [f"**{markdown(table.title)}**", ""]
    lines += [
        _markdown_row(table.printed_columns),
        _markdown_row([RULE] * len(table.printed_columns)),
    ]
    return "\n".join([*lines, *(_markdown_row(row) for row in table.printed)]) + "\n"


def _markdown_row(values: Sequence[str]) -> str:
    return "| " + " | ".join(v if v == RULE else markdown(v) for v in values) + " |"


def to_latex(table: Table) -> str:
    """A booktabs table; the keys column prints the first key, comments below hold all of them."""
    if not table.printed_columns:
        return ""
    keyed = table.printed_columns[-1] == "keys"
    heads = [*table.printed_columns[:-1], "key of r0"] if keyed else [*table.printed_columns]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.title)}.}}",
        rf"\begin{{tabular}}{{{'l' * len(heads)}}}",
        r"\toprule",
        " & ".join(latex(h) for h in heads) + r" \\",
        r"\midrule",
    ]
    for row in table.printed:
        cells = [latex(v) for v in row]
        if keyed:
            cells[-1] = rf"\texttt{{{row[-1].split(' ')[0]}}}"
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    lines += [f"% {printable(comment)}" for comment in table.comments]
    return "\n".join(lines) + "\n"
