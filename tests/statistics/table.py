"""Record the rates of the whole grid, and write them as the table of `docs/statistics.md`.

    nice -n 19 python -m tests.statistics.table                 # all rules: most of an hour
    nice -n 19 python -m tests.statistics.table --rules family  # some; the rest as recorded
    python -m tests.statistics.table --write                    # the table of what is recorded

A rule's counts go to `tests/statistics/recorded/rates/<rule>.csv`, a row a world; `about.json`
says when, with which versions, and how many studies.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import math
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy

from tests.statistics import rates

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).parent / "recorded" / "rates"
TABLE = ROOT / "docs" / "statistics-table.md"
STUDIES = 20_000
FEWER = {
    "family": 10_000,
    "prompts": 4000,
    "prompts, seeds alone": 2000,
    "prompts at 1 %": 4000,
    "strata": 2000,
    "distances": 500,
    "distances, seeds alone": 500,
    "sooner, wrongly": 2000,
    "more, pairs missing": 2000,
    "divergence": 2000,
    "divergence, no veto": 2000,
}
"""Studies of rules that take longer."""

Row = dict[str, str]


def main() -> int:
    """Record, then write; exit 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rules", nargs="+", help="record these alone")
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--write", action="store_true", help="record nothing")
    given = parser.parse_args()
    broken: list[str] = []
    if not given.write:
        by_rule: dict[str, list[rates.Cell]] = {}
        for cell in rates.grid():
            if not given.rules or cell.rule in given.rules:
                by_rule.setdefault(cell.rule, []).append(cell)
        for rule, cells in by_rule.items():
            broken += record(rule, cells, min(given.studies, FEWER.get(rule, given.studies)))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table())
    print("\n".join(broken) or "every bound holds", file=sys.stderr)
    return 1 if broken else 0


def record(rule: str, cells: list[rates.Cell], studies: int) -> list[str]:
    """Run a rule's cells and write their counts; the names of those that break their bound."""
    rows, broken = [], []
    for cell in cells:
        hits, n = cell.run(studies)
        bound = {"most": cell.most, "least": cell.least}
        told = {k: "" if v is None else v for k, v in bound.items()}
        rows.append({**cell.labels, "hits": hits, "studies": n, **told})
        if not cell.holds(hits, n):
            broken.append(f"{cell.name}: {hits / n:.4f} of {n}")
    RECORDED.mkdir(exist_ok=True)
    with file_of(rule).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    place = RECORDED / "about.json"
    about = json.loads(place.read_text()) if place.exists() else {}
    about[rule] = {
        "recorded": datetime.date.today().isoformat(),
        "studies": studies,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    place.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    print(f"{rule}: {len(rows)} worlds, {len(broken)} beyond their bound", file=sys.stderr)
    return broken


def file_of(rule: str) -> Path:
    return RECORDED / ("".join(c if c.isalnum() else "-" for c in rule).replace("--", "-") + ".csv")


def rows_of(rule: str) -> list[Row]:
    """What is recorded of a rule; nothing if it never was."""
    place = file_of(rule)
    if not place.exists():
        return []
    with place.open(newline="") as file:
        return list(csv.DictReader(file))


def share(row: Row) -> float:
    return int(row["hits"]) / int(row["studies"])


def error(rows: Iterable[Row]) -> float:
    """The largest Monte-Carlo standard error among some rows."""
    return max(math.sqrt(max(share(r) * (1 - share(r)), 1e-4) / int(r["studies"])) for r in rows)


# Each of the page's tables: title, rule, what a row is, worst of which end, and what to say of it.


def table() -> str:
    """The page's tables in Markdown."""
    parts = [HEAD]
    for title, rule, labels, pick, words in TABLES:
        rows = rows_of(rule)
        if rows:
            studies = max(int(row["studies"]) for row in rows)
            said = f"{words} {len(rows):,} worlds, {studies:,} studies each.".strip()
            parts.append(f"### {title}\n\n{said}\n\n{grid_of(rows, labels, pick)}")
    about = json.loads((RECORDED / "about.json").read_text())
    versions = sorted(
        {f"Python {a['python']}, numpy {a['numpy']}, scipy {a['scipy']}" for a in about.values()}
    )
    dates = sorted({a["recorded"] for a in about.values()})
    worlds = sum(len(rows_of(rule)) for rule in about)
    parts.append(
        f"{worlds:,} worlds recorded {' and '.join(dict.fromkeys((dates[0], dates[-1])))} with "
        f"{'; '.join(versions)}: "
        "`python -m tests.statistics.table`."
    )
    return "\n\n".join(parts) + "\n"


def grid_of(rows: list[Row], labels: tuple[str, ...], pick: str) -> str:
    """Rows by labels, columns by replicates; the worst share of those that fall together."""
    columns = sorted({int(r["replicates"]) for r in rows})
    found: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for row in rows:
        name = tuple(row[label] for label in labels)
        found.setdefault(name, {}).setdefault(int(row["replicates"]), []).append(row)
    head = [*labels, *(f"{c} replicates" for c in columns), "bound", "± (Monte Carlo)"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, by_column in found.items():
        worst = [cell_of(by_column.get(c, []), pick) for c in columns]
        every = [row for rows in by_column.values() for row in rows]
        ends = [f"{float(m):g}".lstrip("0") for r in every if (m := r[BOUND[pick]])]
        signs = {"most": "≤ ", "least": "≥ ", "range": "≥ "}
        some = len(ends) < len(every) and ends
        bound = signs[pick] + min(ends) + (" in part" if some else "") if ends else "none"
        lines.append("| " + " | ".join([*name, *worst, bound, short(error(every))]) + " |")
    return "\n".join(lines)


BOUND = {"most": "most", "least": "least", "range": "least"}


def cell_of(rows: list[Row], pick: str) -> str:
    if not rows:
        return ""
    shares = [share(row) for row in rows]
    if pick == "range" and short(min(shares)) != short(max(shares)):
        return f"{short(min(shares))} to {short(max(shares))}"
    return short(min(shares) if pick != "most" else max(shares))


def short(value: float) -> str:
    """Three digits, without the 0 before them."""
    return f"{value:.3f}".lstrip("0") if value < 0.9995 else "1.00"


HEAD = """<!-- Written by `python -m tests.statistics.table`. -->

## What was simulated

Every rule was tried in worlds whose truth is known. A rate is the share of simulated studies in
which it was wrong (or covered the truth). Where several worlds share a cell of a table, the worst
of them stands there, or the lowest and the highest; the worst of many is also the unluckiest of
them. "±" is the largest Monte-Carlo standard error of the row: a rate may lie three of them beyond
its bound and still keep it. "none" marks what is beyond any promise, and worth knowing. The
formulas agree with R: the standard error over seeds and prompts with lme4's to 1e-6, its degrees
of freedom with lmerTest's to 1e-5, missing pairs with clubSandwich's CR2
(`tests/statistics/recorded`)."""

TABLES = (
    (
        "False positives over seeds, at 5 %",
        "seeds",
        ("noise", "spread"),
        "most",
        "No arm differs. Worst of 2, 4, 8 and 12 arms, of nothing and 5 % of trials missing, "
        "and of "
        "independent arms, arms that share a shock (one for all, one as large as each arm's noise, "
        "one a side) and random covariances. `one 5x`: one arm's noise is five times the others'; "
        "`side 5x`: all arms of a side. Exponential noise (`skewed`) is promised up to 2x and "
        "without shocks of the arm's own size; log-normal noise is beyond what is promised.",
    ),
    (
        "False positives of shares of 192 items",
        "shares",
        ("share", "cells"),
        "most",
        "Where few items differ, replicates are often the same: no spread, no verdict.",
    ),
    (
        "What missing trials cost",
        "power of every pair",
        ("arms", "missing"),
        "least",
        "Share of studies that find a difference of 6, 2, 1.2, 0.8 and 0.55 SD (at 2, 3, 4, 6 and "
        "10 replicates) from every matched pair.",
    ),
    (
        "The same from complete replicates only",
        "power of complete replicates only",
        ("arms", "missing"),
        "least",
        "What dropping a replicate for one missing trial would find. Every pair finds more.",
    ),
    (
        "Coverage over seeds and prompts, of 95 %",
        "prompts",
        ("noise", "differs"),
        "range",
        "Complete data, 10 to 192 prompts. Where one source alone matters, the interval is "
        "that source's t interval, which covers .950. "
        "Ten prompts of exponential noise are too few for a t interval, hence the lowest.",
    ),
    (
        "The same read over seeds alone",
        "prompts, seeds alone",
        ("differs",),
        "range",
        "How often the narrow claim's interval holds the difference over seeds *and* prompts: why "
        "it may speak of these prompts only.",
    ),
    (
        "Coverage of 99 %, over seeds and prompts",
        "prompts at 1 %",
        ("differs",),
        "range",
        "What a family of five asks first.",
    ),
    (
        "Coverage with strata and missing pairs",
        "strata",
        ("missing", "differs"),
        "range",
        "One category of 30 prompts, or three of 10 or 60 and more, with fixed weights; 1, 2 and 4 "
        "cells.",
    ),
    (
        "Coverage of a difference of distances",
        "distances",
        ("distance", "seeds move", "prompts"),
        "range",
        "Fréchet and unbiased cubic kernel distance of two features, by pseudo-values.",
    ),
    (
        "The same read over seeds alone",
        "distances, seeds alone",
        ("distance", "seeds move", "prompts"),
        "range",
        "Of the same worlds. Where seeds move little, prompts decide, and seeds alone know nothing "
        "of it.",
    ),
    (
        "At least one wrong verdict in a family",
        "family",
        ("truth", "noise"),
        "most",
        "Worst of 2, 5 and 12 contrasts, with one baseline and with arms of their own, without "
        "a margin and with margins of 1.5 to 20 standard errors. A verdict is wrong if it says "
        "what is not so: `improves` at or below the margin, `(size unsettled)` at or below 0, "
        "`equivalent` at or beyond the margin.",
    ),
    (
        "The best set keeps the best",
        "best set keeps the best",
        ("spread", "truth"),
        "least",
        "Worst of 3, 5 and 12 levels.",
    ),
    (
        "`more` or `less` where both move it the same",
        "more, both move it the same",
        ("effect", "spread"),
        "most",
        "",
    ),
    (
        "The same where pairs are missing",
        "more, pairs missing",
        ("spread",),
        "most",
        "12 arms, 5 % of trials missing.",
    ),
    (
        "`collapses` where nothing is lost beyond the margin",
        "collapses, wrongly",
        ("truth",),
        "most",
        "Worst of 3, 5 and 8 measured cycles.",
    ),
    ("`holds` where the margin is lost", "holds, wrongly", ("truth",), "most", "Of the same."),
    (
        "`sooner` or `later` where both are as fast",
        "sooner, wrongly",
        ("noise", "threshold"),
        "most",
        "",
    ),
    ("A band over training covers every cycle", "band covers all cycles", ("cycles",), "least", ""),
    (
        "A trend where each seed has a slope of its own",
        "trend, slopes random",
        ("cycles",),
        "most",
        "By the contrast's own t.",
    ),
    (
        "The same by Page's test of ordered levels",
        "trend by ranks",
        ("cycles",),
        "most",
        "Why it decides nothing.",
    ),
    (
        "Wrong verdicts where trials diverge",
        "divergence",
        ("diverges", "noise"),
        "most",
        "A fifth of the trials of one side or both diverge, by chance or those that would be "
        "worst; no arm differs. By chance, what converges does not differ either, and the bound "
        "holds. Where the worst diverge, what converges does differ, and the veto can only "
        "dampen what the verdict makes of it. Worst of one cell and three.",
    ),
    (
        "The same without the veto",
        "divergence, no veto",
        ("diverges", "noise"),
        "most",
        "",
    ),
)


if __name__ == "__main__":
    sys.exit(main())
