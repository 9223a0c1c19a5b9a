"""One card a declared contrast: verdict, sentences, what is drawn, and what the drawing shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis import sentences
from harness.analysis.model import Answer, Verdict
from harness.analysis.observed import Observed
from harness.planning.plan import Plan
from harness.report import kind_plots, plots
from harness.report.kinds import KINDS
from harness.study.planned_contrast import PlannedContrast


@dataclass(frozen=True)
class Card:
    """A verdict as the page shows it."""

    verdict: Verdict
    claim: str
    badge: str
    """Its kind, where the verdict's word does not tell it."""
    symbol: str
    narrower: str
    """The claim on exactly these prompts; empty where the verdict is that claim."""
    plot: plots.VerdictPlot | None
    figure: kind_plots.Figure | None
    rows: plots.IntervalPlot | None
    shows: str
    """What the interval is of."""
    intervals: str
    """Which interval is which, and their levels."""
    method: str
    """How the intervals were made."""
    spread: str
    """Parts of the standard error; empty without one."""
    sizes: str
    """Standardised sizes; empty where none is defined."""
    guide: str
    """Where the numbers are explained."""


def cards(
    verdicts: Sequence[Verdict], answer: Answer, plan: Plan, observed: Observed
) -> dict[str, Card]:
    """A card for each verdict, by its id."""
    drawn = plots.verdict_plots(verdicts)
    return {v.id: _card(v, drawn.get(v.id), answer, plan, observed) for v in verdicts}


def _card(
    v: Verdict, plot: plots.VerdictPlot | None, answer: Answer, plan: Plan, observed: Observed
) -> Card:
    kind, contrast = KINDS[v.kind], _contrast(v, plan)
    figure = kind_plots.figure(v, contrast, answer, plan, observed) if contrast else None
    rows = kind_plots.rows(v, contrast, answer, 1 - answer.alpha) if contrast else None
    file, _, heading = sentences.guide(v.kind).partition("#")
    return Card(
        v,
        v.claim or (kind.claim or kind.short)(v),
        v.kind if kind.badge else "",
        sentences.SYMBOLS[v.verdict],
        sentences.narrower(v, answer.scope),
        plot,
        figure,
        rows,
        _shows(v, plots.better_words(answer, v.metric), plot is not None or rows is not None),
        _intervals(v) if plot else "",
        "" if v.method in ("", "none") else v.method[0].upper() + v.method[1:],
        sentences.spread(v.spread),
        sentences.sizes(v.sizes),
        f"{file}, {heading}",
    )


def _contrast(v: Verdict, plan: Plan) -> PlannedContrast | None:
    """Its contrast; what later replicates say of one is told under a longer name."""
    by_id = {c.id: c for c in plan.contrasts}
    return by_id.get(v.id) or by_id.get(v.id.rpartition(" (")[0])


def _shows(v: Verdict, better: str, drawn: bool) -> str:
    if not drawn:
        return f"{v.metric}: there is no interval to draw."
    kind = KINDS[v.kind]
    band = f"; band: {kind.margin}{v.margin:g}" if v.margin and kind.band else ""
    better = f", {better}" if better and kind.better else ""
    return f"{kind.drawn(v)}{better}{band}."


def _intervals(v: Verdict) -> str:
    at = sentences.percent(v.level)
    if v.narrow is None or v.narrow.lo is None:
        over = "seeds and prompts" if v.n_prompts else "seeds, on exactly these prompts"
        over = "prompts, of these checkpoints" if v.about == "checkpoints" else over
        return f"Interval at {at} over {over}."
    inside = sentences.percent(v.narrow.level)
    return f"Thin: over seeds and prompts, at {at}. Thick: on exactly these prompts, at {inside}."
