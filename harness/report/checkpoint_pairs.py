"""What `measure` says of checkpoints in pairs: sentences on the primary metric, a table, JSON."""

from __future__ import annotations

from typing import Any

from harness.analysis import sentences
from harness.analysis.model import Answer, Verdict
from harness.report.tables import difference_words, headline_metrics, sides_words

FIELDS = {
    *("id", "a", "b", "metric", "about", "planned", "n", "n_prompts", "difference", "lo", "hi"),
    *("level", "p", "p_adjusted", "verdict", "words"),
}
"""Of a verdict, in JSON."""


def compared_pairs(answer: Answer) -> list[Verdict]:
    """Comparisons of headline metrics, the primary first; declared ones before the others."""
    headline = headline_metrics(answer)
    pairs = [v for v in answer.verdicts if v.metric in headline and v.kind == "difference"]
    return sorted(pairs, key=lambda v: (v.metric != answer.primary, headline.index(v.metric)))


def pair_lines(answer: Answer) -> list[str]:
    """Full sentences on the primary metric, where a summary has not said them, and a table."""
    pairs = compared_pairs(answer)
    primary_lines = [
        f"  {sentences.SYMBOLS[v.verdict]} {v.words}"
        for v in pairs
        if v.metric == answer.primary and not v.declared
    ]
    rest = [v for v in pairs if v.metric != answer.primary]
    if not primary_lines and not rest:
        return []
    return ["checkpoints in pairs:", *primary_lines, *_table(rest)]


def pairs_as_json(answer: Answer) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [v.model_dump(mode="json", include=FIELDS) for v in compared_pairs(answer)]


def _table(verdicts: list[Verdict]) -> list[str]:
    if not verdicts:
        return []
    rows = [("metric", "a - b", "difference", "interval", "over", "p adjusted", "verdict")]
    for v in verdicts:
        middle, interval = difference_words(v)
        over = sentences.over(v.n, v.n_planned, v.n_prompts, v.about).removeprefix("over ")
        p = sentences.p_value(v.p_adjusted).removeprefix("p = ").removeprefix("p ")
        rows.append((v.metric, sides_words(v), middle, interval, over, p, v.verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
