"""Numbers and verdicts in plain words: the same in report, tables, MLflow and terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from harness.analyse.answer import VerdictName
from harness.analyse.contrasts import Inference

Expectation = Literal["as expected", "contrary to expectation", ""]

SYMBOLS: Mapping[str, str] = {
    "improves": "\u25b2",
    "improves (below margin)": "\u25b3",
    "harms": "\u25bc",
    "harms (below margin)": "\u25bd",
    "equivalent": "\u25a0",
    "undecided": "\u25cb",
}
"""A shape per verdict, so that no one depends on its colour."""


def decimals(width: float | None, value: float = 0.0) -> int:
    """Decimals that show two digits of a number's uncertainty, or four digits without one."""
    size = width if width and math.isfinite(width) else 0.0
    if size > 0:
        return min(9, max(0, 1 - math.floor(math.log10(size))))
    if value == 0 or not math.isfinite(value):
        return 1
    return min(9, max(0, 3 - math.floor(math.log10(abs(value)))))


def number(value: float | None, places: int = 3, *, signed: bool = False) -> str:
    """A fixed-point number; `-` where there is none, never a negative zero."""
    if value is None:
        return "-"
    text = f"{value:+.{places}f}" if signed else f"{value:.{places}f}"
    return text.replace("-", "+" if signed else "") if float(text) == 0 else text


def p_value(p: float | None) -> str:
    """`p < 0.001`, or `p = ` with three decimals."""
    if p is None:
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def side(levels: Mapping[str, Any]) -> str:
    """One side of a contrast, e.g. `edit_share=0.5, composition=portrait`."""
    return ", ".join(f"{factor}={level}" for factor, level in levels.items())


def expectation(expect: str, verdict: VerdictName, difference: float | None) -> Expectation:
    """Whether a decided direction is the declared one; silent otherwise."""
    if not expect or difference is None or verdict in ("equivalent", "undecided"):
        return ""
    return "as expected" if (difference > 0) == (expect == "higher") else "contrary to expectation"


def sentence(
    verdict: VerdictName,
    found: Inference,
    *,
    a: str,
    b: str,
    metric: str,
    unit: str,
    n_planned: int,
    level: float,
    p_adjusted: float | None,
    adjustment: str,
    margin: float | None,
    as_expected: Expectation,
    scope: str,
    reason: str = "",
) -> str:
    """One plain sentence: what was found, difference, interval, n, adjusted p and scope."""
    unit = f" {unit}" if unit else ""
    within = f"{margin:g}{unit}" if margin else ""
    openings: dict[VerdictName, str] = {
        "improves": f"{a} improves {metric} over {b}",
        "harms": f"{a} harms {metric} against {b}",
        "improves (below margin)": f"{a} improves {metric} over {b}, perhaps by less than {within}",
        "harms (below margin)": f"{a} harms {metric} against {b}, perhaps by less than {within}",
        "equivalent": f"{a} and {b} are equivalent on {metric} within the margin of {within}",
        "undecided": f"Undecided on {metric} between {a} and {b}" if b else f"{metric}, {a}: open",
    }
    opening = openings[verdict]
    if verdict == "undecided" and reason:
        opening += f" ({reason})"
    parts = [opening + (f", {as_expected}" if as_expected else "")]
    parts.append(f"{figures(found, unit, level)}, {found.n} of {n_planned} replicates")
    if p_adjusted is not None:
        parts[-1] += f", {p_value(p_adjusted)} {adjustment}"
    text = ": ".join(parts)
    return f"{text}; {scope}." if scope else f"{text}."


def figures(found: Inference, unit: str, level: float) -> str:
    """`difference +0.021 (95 % interval +0.012 to +0.030)` with fitting decimals."""
    if found.difference is None:
        return "no difference can be formed"
    if found.lo is None or found.hi is None:
        places = decimals(None, found.difference)
        return f"difference {number(found.difference, places, signed=True)}{unit} (no interval)"
    places = decimals((found.hi - found.lo) / 2, found.difference)
    lo, hi = (number(v, places, signed=True) for v in (found.lo, found.hi))
    middle = number(found.difference, places, signed=True)
    return f"difference {middle}{unit} ({100 * level:g} % interval {lo} to {hi})"
