"""The declared contrasts of an answer, judged once more from its values: standard library only."""

from __future__ import annotations

import math
import re
import statistics
from typing import Any

from harness.bundling.archive import Bad
from harness.printable import markdown

ANSWER, READ_ME = "results/answer.json", "ARTIFACT.md"
PAIRED_FROM = 6
ROUNDING = 1e-10
MOST_VISITS = 10**8
"""Times that values are gone through for one metric: many more than an honest study needs."""
MOST_DIGITS = 9
Values = dict[tuple[str, str, int], float]
"""(arm, metric, replicate) to value."""


def verdicts(
    answer: dict[str, Any],
    manifest: dict[str, Any],
    values: Values,
    read_me: str,
    frozen: dict[str, Any],
) -> int:
    """Number of declared contrasts, each of which follows from `values`.

    Args:
        answer: what `results/answer.json` holds.
        manifest: what `bundle.json` holds; it says which arms a contrast weighs how.
        values: values of the arms, as the journal has them.
        read_me: text of `ARTIFACT.md`, which repeats each verdict's sentence.
        frozen: the study as its first run froze it; empty if no record says.

    Raises:
        Bad: if a number, a verdict or a sentence is another.
    """
    _as_frozen(answer, frozen)
    weights = {c["id"]: c["weights"] for c in manifest["contrasts"]}
    weights |= _raised(answer, weights)
    declared = [v for v in answer["verdicts"] if v["id"] in weights and not v.get("factor")]
    planned = [v for v in declared if v["planned"]]
    if {v["id"] for v in declared} != weights.keys():
        wrong("the declared contrasts are not those of the manifest")
    adjusted = _holm([v["p"] for v in planned])
    spreads: dict[tuple[str, int], tuple[float, int]] = {}
    every = values
    for v in declared:
        arms, metric, where = weights[v["id"]], v["metric"], f"contrast {v['id']}"
        most = _replicates(v, answer, frozen, where)
        values = {place: value for place, value in every.items() if place[2] < most}
        replicates = {r for _, m, r in values if m == metric}
        paired = [
            r for r in sorted(replicates) if arms and all((a, metric, r) in values for a in arms)
        ]
        seen = {r: math.fsum(w * values[a, metric, r] for a, w in arms.items()) for r in paired}
        told = {whole(r): d for r, d in v["per_replicate"].items()}
        if v["n"] != len(seen) or (told and told.keys() != seen.keys()):
            wrong(f"{where}: its replicates are not those with both sides")
        for r, difference in told.items():
            near(difference, seen[r], where, f"replicate {r}")
        mean = statistics.fmean(seen.values()) if seen else None
        near(v["difference"], mean, where, "difference")
        if mean is not None:
            _interval(v, arms, list(seen.values()), mean, (values, most), spreads, where)
        if v["words"] not in read_me and markdown(v["words"]) not in read_me:
            raise Bad(f"{where}: its line is not the answer's", READ_ME)
    for v, p in zip(planned, adjusted):  # noqa: B905 - Python 3.9
        where = f"contrast {v['id']}"
        near(v["p_adjusted"], p, where, "p adjusted")
        word = _word(v, answer["alpha"], answer["metrics"].get(v["metric"], {}))
        if v["worst_case"] not in (None, word):
            word = "undecided"
        if v["verdict"] != word:
            wrong(f"{where}: {v['verdict']} is said, {word} follows from its numbers")
    return len(declared)


def _as_frozen(answer: dict[str, Any], study: dict[str, Any]) -> None:
    """Planned verdicts must be those of the contrasts that the study's first run froze.

    Raises:
        Bad: if one's metric or margin is another, or it was expected though nothing was.
    """
    frozen = {c["id"]: c for c in study.get("contrasts") or ()}
    for v in answer["verdicts"]:
        if not v["planned"] or v.get("factor") or v["id"] not in frozen:
            continue
        said = frozen[v["id"]]
        then = said.get("metric") or study.get("primary") or v["metric"]
        if v["metric"] != then:
            wrong(f"contrast {v['id']}: its metric is {v['metric']}, and {then} was frozen")
        if v["margin"] != said.get("margin"):
            wrong(f"contrast {v['id']}: margin {v['margin']}, and {said.get('margin')} was frozen")
        if v["expectation"] and not said.get("expect"):
            wrong(f"contrast {v['id']}: {v['expectation']}, and nothing was expected")


def _raised(answer: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """Weights of the exploratory verdicts on replicates that were added after the first run."""
    more = f" ({answer['replicates']} replicates)"
    said = {v["id"] for v in answer["verdicts"] if not v["planned"] and not v.get("factor")}
    return {name + more: w for name, w in weights.items() if name + more in said}


def _replicates(
    v: dict[str, Any], answer: dict[str, Any], frozen: dict[str, Any], where: str
) -> int:
    """How many replicates a verdict is judged on: a planned one on those of the first run."""
    now = answer["replicates"]
    most = (frozen.get("replicates") or now) if v["planned"] else now
    if v["n_planned"] != most:
        wrong(f"{where}: it is judged on {v['n_planned']} replicates, {most} follow from the plan")
    return int(most)


def _interval(
    v: dict[str, Any],
    arms: dict[str, float],
    seen: list[float],
    mean: float,
    among: tuple[Values, int],
    spreads: dict[tuple[str, int], tuple[float, int]],
    where: str,
) -> None:
    """Interval and p: from the differences' own spread, or from all arms' residual variance.

    `among` are the values of the replicates judged, and how many were planned; `spreads` keeps the
    variance by metric and that number. Degrees of freedom are counted, not believed: the
    arithmetic below takes as many steps as there are of them.
    """
    values, most = among
    method, n = v["method"], len(seen)
    if method.startswith("paired t") and n >= PAIRED_FROM:
        error, df = statistics.stdev(seen) / math.sqrt(n), n - 1
    elif method.startswith("residual variance"):
        if (v["metric"], most) not in spreads:
            spreads[v["metric"], most] = residual(values, v["metric"])
        squares, df = spreads[v["metric"], most]
        if df < 1 or not re.search(rf"(?<!\d){df} df$", method):
            wrong(f"{where}: degrees of freedom are {df}, its method says {method[-60:]!r}")
        weight = sum(w * w for w in arms.values())
        error = math.sqrt(squares / df * weight / n)
    elif v["lo"] is None and v["p"] is None:
        return
    else:
        return wrong(f"{where}: method {method[:60]!r} does not fit {n} replicates")
    size = max(abs(value) for (_, m, _), value in values.items() if m == v["metric"])
    if error <= ROUNDING * size:  # no spread: the interval is a point, as far as numbers go
        near(v["p"], float(abs(mean) <= ROUNDING * size), where, "p")
        for end in ("lo", "hi"):
            near(v[end], mean, where, end, 100 * ROUNDING * size)
        return
    near(v["p"], 1.0 - _central(abs(mean) / error, df), where, "p", 1e-12)
    for end, sign in (("lo", -1.0), ("hi", 1.0)):
        near(v["level"], _central(sign * (v[end] - mean) / error, df), where, end, 1e-8)


def residual(values: Values, metric: str) -> tuple[float, int]:
    """Residual sum of squares and degrees of freedom of `value = arm + replicate`.

    Squares by sweeping out means in turn; freedom is cells less arms less replicates, and one back
    for each part of the design that hangs together.
    """
    left = {(arm, r): value for (arm, m, r), value in values.items() if m == metric}
    sides: list[dict[Any, list[Any]]] = [{}, {}]
    for place in left:
        for side in (0, 1):
            sides[side].setdefault(place[side], []).append(place)
    for _ in range(min(500, MOST_VISITS // max(2 * len(left), 1))):
        moved = 0.0
        for groups in sides:
            for places in groups.values():
                middle = math.fsum(left[p] for p in places) / len(places)
                moved = max(moved, abs(middle))
                left.update({p: left[p] - middle for p in places})
        if moved <= 1e-13 * max(map(abs, left.values()), default=0.0):
            break
    df = len(left) - len(sides[0]) - len(sides[1]) + _parts(*sides)
    return math.fsum(x * x for x in left.values()), df


def _parts(by_arm: dict[Any, list[Any]], by_replicate: dict[Any, list[Any]]) -> int:
    """How many parts of the design share no arm and no replicate."""
    found, left = 0, set(by_arm)
    while left:
        found += 1
        waiting, met = [left.pop()], set()
        while waiting:
            for _, replicate in by_arm[waiting.pop()]:
                if replicate not in met:
                    met.add(replicate)
                    more = {arm for arm, _ in by_replicate[replicate]} & left
                    left -= more
                    waiting.extend(more)
    return found


def _central(t: float, df: int) -> float:
    """P(|T| < t) of Student's t with whole degrees of freedom (Abramowitz and Stegun 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(df))
    square, term = math.cos(angle) ** 2, 1.0
    if df % 2:
        term, total = math.cos(angle), 0.0
        for k in range(1, df - 1, 2):
            total += term
            term *= square * (k + 1) / (k + 2)
        return 2 / math.pi * (angle + math.sin(angle) * total)
    total = 0.0
    for k in range(0, df, 2):
        total += term
        term *= square * (k + 1) / (k + 2)
    return math.sin(angle) * total


def _holm(p: list[Any]) -> list[Any]:
    out: list[Any] = [None] * len(p)
    worst = 0.0
    for rank, (value, i) in enumerate(sorted((v, i) for i, v in enumerate(p) if v is not None)):
        worst = max(worst, min(1.0, (len(p) - rank) * value))
        out[i] = worst
    return out


def _word(v: dict[str, Any], alpha: float, about: dict[str, Any]) -> str:
    p, lo, hi, margin = v["p_adjusted"], v["lo"], v["hi"], v["margin"] or 0.0
    if p is None or lo is None or hi is None:
        return "undecided"
    if margin and -margin <= lo and hi <= margin:
        return "equivalent"
    higher = about.get("higher_is_better")
    if p >= alpha or higher is None:
        return "undecided"
    beyond = not margin or lo > margin or hi < -margin
    return ("improves" if (lo + hi > 0) == higher else "harms") + (
        "" if beyond else " (below margin)"
    )


def whole(text: Any) -> int:
    """A whole number written as text, of a length that is no work to read."""
    if not isinstance(text, str) or not re.fullmatch(rf"[0-9]{{1,{MOST_DIGITS}}}", text):
        raise ValueError(f"a whole number is needed, given {str(text)[:40]!r}")
    return int(text)


def near(said: Any, found: Any, where: str, what: str, slack: float = 0.0) -> None:
    """Refuse a number that is not the recomputed one, up to rounding or `slack`."""
    if said is None or found is None:
        if said is not found:
            wrong(f"{where}: {what} is {said}, recomputed {found}")
    elif not math.isclose(said, found, rel_tol=1e-8, abs_tol=max(1e-12, slack)):
        wrong(f"{where}: {what} is {said!r}, recomputed {found!r}")


def wrong(why: str) -> None:
    """Raise `Bad` about the answer."""
    raise Bad(why, ANSWER)
