"""Numbers and verdicts in plain words: the same in report, tables, MLflow and terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from harness.analysis.kind_words import WORDS, Named, listed
from harness.analysis.model import About, Part, Spread, Verdict, VerdictName
from harness.study.kinds import KINDS, ContrastKind

Expectation = Literal["as expected", "contrary to expectation", ""]

SYMBOLS: Mapping[str, str] = {
    "improves": "\u25b2",
    "improves (size unsettled)": "\u25b3",
    "harms": "\u25bc",
    "harms (size unsettled)": "\u25bd",
    "equivalent": "\u25a0",
    "undecided": "\u25cb",
    "more": "\u25b6",
    "less": "\u25c0",
    "best": "\u2605",
    "collapses": "\u2716",
    "holds": "\u25ac",
    "sooner": "\u25c0",
    "later": "\u25b6",
}
"""A shape per verdict, so that no one depends on its colour."""

GUIDE = "docs/statistics.md"
"""What the numbers mean, for readers who are no statisticians; a heading for each kind."""


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
    if not expect or difference is None or not verdict.startswith(("improves", "harms")):
        return ""
    return "as expected" if (difference > 0) == (expect == "higher") else "contrary to expectation"


def shortened(text: str, most: int = 80) -> str:
    """The beginning of a reason, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def sentence(
    verdict: VerdictName,
    *,
    kind: ContrastKind,
    a: str,
    b: str,
    metric: str,
    unit: str,
    difference: float | None,
    lo: float | None,
    hi: float | None,
    level: float,
    n: int,
    n_planned: int,
    n_prompts: int,
    p_adjusted: float | None,
    adjustment: str,
    margin: float | None,
    as_expected: Expectation,
    scope: str,
    about: About = "recipes",
    reason: str = "",
    best: Sequence[str] = (),
    step: int | None = None,
    levels: int = 0,
    reaches: str = "",
) -> str:
    """One plain sentence: what was found, estimate, interval, over what, adjusted p and scope.

    `reaches` is what a contrast of kind `sooner` times, e.g. `reaches 0.2`.
    """
    unit = f" {unit}" if unit else ""
    within = f"{margin:g}{unit}" if margin else ""
    words, bare = WORDS[kind], verdict.split(" ")[0]
    opening = words.openings(Named(a, b, metric, within, step, reaches, best, levels))[bare]
    if verdict.endswith("(size unsettled)"):
        opening += f", size unsettled against the margin of {within}"
    if verdict == "undecided" and reason:
        opening += f" ({reason})"
    opening += f", {as_expected}" if as_expected else ""
    unit = f" {own}" if (own := KINDS[kind].unit) else unit
    parts = [figures(difference, lo, hi, unit, level, words.number)] if words.number else []
    parts.append(over(n, n_planned, n_prompts, about))
    if p_adjusted is not None:
        parts.append(f"{p_value(p_adjusted)} {adjustment}".strip())
    text = f"{opening}: {', '.join(parts)}"
    return f"{text}; {scope}." if scope else f"{text}."


def over(n: int, n_planned: int, n_prompts: int, about: About = "recipes") -> str:
    """`over 5 of 6 seeds and 192 prompts`: what a claim reaches over."""
    if about == "checkpoints":
        reach = f"over {n_prompts} prompts" if n_prompts else "on exactly these prompts"
        return f"these checkpoints, {reach}"
    seeds = f"{n} seed{'s' if n != 1 else ''}" if n == n_planned else f"{n} of {n_planned} seeds"
    if n_prompts:
        return f"over {seeds} and {n_prompts} prompts"
    return f"over {seeds}, on exactly these prompts"


def figures(
    difference: float | None,
    lo: float | None,
    hi: float | None,
    unit: str,
    level: float,
    what: str = "difference",
) -> str:
    """`difference +0.021 (95 % interval +0.012 to +0.030)` with fitting decimals."""
    if difference is None:
        return f"no {what} can be formed"
    if lo is None or hi is None:
        places = decimals(None, difference)
        return f"{what} {number(difference, places, signed=True)}{unit} (no interval)"
    places = decimals((hi - lo) / 2, difference)
    ends = [number(v, places, signed=True) for v in (lo, hi)]
    middle = number(difference, places, signed=True)
    return f"{what} {middle}{unit} ({percent(level)} interval {ends[0]} to {ends[1]})"


def percent(level: float) -> str:
    """`95 %`, `99.2 %`: a level with three digits at most."""
    return f"{100 * level:.3g} %" if level < 0.9995 else f"{100 * level:.4g} %"


def guide(kind: ContrastKind = "difference") -> str:
    """Where the numbers of a kind are explained: a file of the repository and its heading."""
    return f"{GUIDE}#{kind}"


def narrower(verdict: Verdict, scope: str = "") -> str:
    """The claim on exactly these prompts, below the one over prompts; empty where it is the same.

    Args:
        verdict: the verdict over prompts.
        scope: left out where the sentence above has said it.
    """
    if verdict.narrow is None:
        return ""
    words = verdict.narrow.words.replace(", on exactly these prompts", "", 1)
    words = (
        words.removesuffix(f"; {scope}.") + "."
        if scope and words.endswith(f"; {scope}.")
        else words
    )
    return f"On exactly these prompts: {words}"


def spread(parts: Spread | None) -> str:
    """`seeds 0.0041, prompts 0.0072, both 0.0019`: where a standard error comes from."""
    if parts is None:
        return ""
    all_parts = {"seeds": parts.seeds, "prompts": parts.prompts, "both": parts.both}
    by_name = {name: size for name, size in all_parts.items() if size is not None}
    least = max(by_name.values()) / 100  # what is smaller is printed as 0, not to its own digits
    sizes = [by_name[name] for name in ("seeds", "prompts") if by_name.get(name, 0.0) > least]
    places = decimals(min(sizes, default=None))
    return ", ".join(f"{name} {number(size, places)}" for name, size in by_name.items())


def sizes(values: Mapping[str, float]) -> str:
    """`d_z +1.3, log ratio -0.223 (0.8 times)`: standardised sizes; empty without any."""
    words = []
    if "d_z" in values:
        words.append(f"d_z {values['d_z']:+.2g} (in standard deviations over seeds)")
    if "log_ratio" in values:
        ratio = values["log_ratio"]
        # exp(709.8) is beyond the largest number.
        words.append(f"log ratio {ratio:+.3g} ({math.exp(min(ratio, 700.0)):.3g} times)")
    if "gap_share" in values:
        share = values["gap_share"]
        words.append(f"{share:+.3g} of the way between teacher and data")
    return ", ".join(words)


def reached(verdict: Verdict) -> str:
    """`improves over 6 seeds and 192 prompts`: a verdict and what it reaches over, for a tag."""
    name = verdict.verdict if verdict.planned else f"{verdict.verdict} (exploratory)"
    if verdict.best:
        name += f" ({listed(verdict.best)})"
    return f"{name} {over(verdict.n, verdict.n_planned, verdict.n_prompts, verdict.about)}"


def shape(slope: float | None, parts: Sequence[Part]) -> str:
    """What a trend's bend and its steps between neighbours say of its shape; empty without them.

    Not evenly: the bend is beyond 0. Monotone: every single step is.
    """
    if not slope:
        return ""
    way = "rises" if slope > 0 else "falls"
    bends = [p for p in parts if p.name == "quadratic" and _side(p)]
    steps = [p for p in parts if p.name == "neighbour"]
    words = [f"{way}, not evenly: its bend is beyond 0"] if bends else []
    same = sum(_side(p) == math.copysign(1, slope) for p in steps)
    if steps and same == len(steps):
        words.append(f"monotone: each of its {len(steps)} steps {way} beyond 0")
    elif steps:
        words.append(
            f"not shown to be monotone: of its {len(steps)} steps {same} {way[:-1]} beyond 0"
        )
    return "; ".join(words)


def _side(part: Part) -> float:
    """On which side of 0 an interval lies; 0 where it holds 0, or there is none."""
    if part.lo is None or part.hi is None or part.lo <= 0 <= part.hi:
        return 0.0
    return math.copysign(1.0, part.lo)


def reach(claims: Iterable[tuple[int, int]]) -> str:
    """`over seeds and 192 prompts`: what intervals reach over.

    Args:
        claims: seeds and prompts (0: none) of each interval. Of one seed there is an interval only
            where the claim is about a checkpoint: it is over prompts alone.
    """
    listed = list(claims)
    counts = sorted({n for _, n in listed})
    if not counts or counts == [0]:
        return "over seeds, on exactly these prompts"
    numbered = [n for n in counts if n]
    many = f"{numbered[0]} to {numbered[-1]}" if len(numbered) > 1 else f"{numbered[0]}"
    some = ", some on exactly these prompts" if 0 in counts else ""
    alone = [seeds == 1 for seeds, _ in listed]
    if all(alone):
        return f"of these checkpoints, over {many} prompts"
    some += ", of what has one replicate over prompts alone" if any(alone) else ""
    return f"over seeds and {many} prompts{some}"
