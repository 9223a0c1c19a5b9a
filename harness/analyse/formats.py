"""Tables as text: CSV for programs, Markdown for reading, LaTeX (booktabs) for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from harness.analyse.tables import Table
from harness.printable import csv_cell, latex, markdown, printable

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
