"""The declared contrasts of an answer, judged once more from its values: standard library only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from harness.bundle.verify.estimates import Difference, Tables, Work, d_z, estimated, log_ratio
from harness.bundle.verify.looks import AtItsLook, Looks, Retaken
from harness.bundle.verify.readings import (
    KINDS,
    LINEAR,
    ContrastEstimates,
    Curves,
    Said,
    benjamini_hochberg,
    judged,
    step_down,
    table_of_verdicts,
)
from harness.text.archive import Bad
from harness.text.printable import markdown

ANSWER, READ_ME = "results/answer.json", "ARTIFACT.md"
RULES = 2
"""Version of the rules by which verdicts are worked out here."""
MOST_DIGITS = 9
P_SLACK = 1e-290
LAST = -1
"""The last measured step of each trial, among the steps of a metric."""


@dataclass(frozen=True)
class Seen:
    """What the journal and the values by prompt say, by metric."""

    curves: dict[str, Curves]
    """Metric to step to values of the arms and references, their last ones as step `LAST`."""
    tables: Any
    """Called with metric and step: their values by prompt."""
    states: dict[str, dict[int, str]]
    """Arm to replicate to state."""
    keys: dict[str, list[str]]
    """Arm to the keys of its trials."""
    arms: set[str]
    """Planned arms, references not among them."""
    work: Work
    checkpoints: bool = False
    """Its trials are checkpoints from elsewhere: of one replicate, claims are about themselves."""

    def first(self, metric: str, most: int, steps: bool) -> tuple[Curves, dict[Any, Tables]]:
        """Values of the arms in replicates below `most`, and values by prompt."""
        known = self.curves.get(metric, {})
        kept = {LAST, *known} if steps else {LAST}
        curves = {
            step: {
                arm: {r: v for r, v in row.items() if r < most}
                for arm, row in known.get(step, {}).items()
                if arm in self.arms
            }
            for step in kept
        }
        self.work.spend(sum(len(row) for rows in curves.values() for row in rows.values()))
        return curves, {step: self.tables(metric, step) for step in kept}


def verdicts(
    answer: dict[str, Any],
    manifest: dict[str, Any],
    seen: Seen,
    read_me: str,
    frozen: dict[str, Any],
    looks: Any = None,
) -> int:
    """Number of declared contrasts, each of which follows from `seen`.

    Args:
        answer: what `results/answer.json` holds.
        manifest: what `bundle.json` holds; it says which arms a contrast weighs how.
        seen: values of the arms, as the journal has them.
        read_me: text of `ARTIFACT.md`, which repeats each verdict's sentence.
        frozen: the study as its first run froze it; empty if no record says.
        looks: those of a study that ran until decided, with their levels.

    Raises:
        Bad: if a number, a verdict or a sentence is another.
    """
    if answer.get("rules") != RULES:
        wrong(f"its verdicts are by rules {str(answer.get('rules'))[:9]}; {RULES} are known here")
    about = answer.get("about", "recipes")  # earlier answers do not say it
    if about not in ("recipes", "checkpoints"):
        wrong(f"its claims are about {str(about)[:40]}: recipes or checkpoints are known here")
    if "about" in answer and frozen and seen.checkpoints != _of_students(frozen):
        wrong(f"its claims are about {about}, and the study that was frozen is not")
    contrasts = {c["id"]: c for c in manifest["contrasts"]}
    if len(contrasts) < len(manifest["contrasts"]):
        wrong("a contrast stands twice in the manifest")
    _as_frozen(answer, contrasts, frozen)
    contrasts.update(_raised(answer, contrasts))
    declared = [v for v in answer["verdicts"] if v["id"] in contrasts and not v.get("factor")]
    if sorted(v["id"] for v in declared) != sorted(contrasts):
        wrong("the declared contrasts are not those of the manifest")
    made = [_Checked(v, contrasts[v["id"]], answer, seen, frozen, looks) for v in declared]
    planned = [m for m in made if m.said["planned"]]
    listed = [c for c in frozen.get("contrasts") or () if isinstance(c, dict) and "id" in c]
    family, alpha = max(len(listed), len(planned)), answer["alpha"]
    if looks is not None:
        _looked(answer, planned, looks, family, {c["id"] for c in listed})
    both = [step_down([m.member for m in planned], alpha, family, side) for side in (False, True)]
    for m, wide, narrow in zip(planned, *both):  # noqa: B905 - Python 3.9
        rates = [m.rate(alpha / left) for _, left in (wide, narrow)]
        m.check(wide, narrow, *rates, m.corrected(m.judged.p(False), wide[1]))
    loose = [m for m in made if not m.said["planned"]]
    for m, (p, rate) in zip(loose, _explored(answer, loose)):  # noqa: B905 - Python 3.9
        over, exactly = ((m.judged.at(rate, side), 1) for side in (False, True))
        m.check(over, exactly, rate, rate, p)
    for v in declared:
        _is_told(v, read_me)
    return len(declared)


def _of_students(study: dict[str, Any]) -> bool:
    """Whether the trials of a study are checkpoints from elsewhere."""
    subject = study.get("subject")
    return isinstance(subject, dict) and "students" in subject


def _as_frozen(
    answer: dict[str, Any], contrasts: dict[str, dict[str, Any]], study: dict[str, Any]
) -> None:
    """Planned verdicts must be those of the contrasts that the study's first run froze.

    Raises:
        Bad: if the error rate, or one's metric, kind, margin or threshold is another, or it was
            expected though nothing was.
    """
    alpha = study.get("alpha")
    if isinstance(alpha, float) and alpha != answer["alpha"]:
        wrong(f"its error rate is {answer['alpha']}, and {alpha} was frozen")
    frozen = {c["id"]: c for c in study.get("contrasts") or ()}
    for v in answer["verdicts"]:
        if not v["planned"] or v.get("factor") or v["id"] not in frozen:
            continue
        said, here, where = frozen[v["id"]], contrasts.get(v["id"], {}), f"contrast {v['id']}"
        then = said.get("metric") or study.get("primary") or v["metric"]
        if v["metric"] != then:
            wrong(f"{where}: its metric is {v['metric']}, and {then} was frozen")
        if v["margin"] != said.get("margin"):
            wrong(f"{where}: margin {v['margin']}, and {said.get('margin')} was frozen")
        kind = next((k for k in KINDS if said.get(k)), "difference")
        if v["kind"] != kind:
            wrong(f"{where}: it is of kind {v['kind']}, and {kind} was frozen")
        sooner = said.get("sooner") or {}
        if (here.get("threshold"), bool(here.get("falls"))) != (
            sooner.get("threshold"),
            bool(sooner.get("falls")),
        ):
            wrong(f"{where}: its threshold is not the one that was frozen")
        if here.get("expect", "") != (said.get("expect") or ""):
            wrong(f"{where}: {here.get('expect')!r} is expected, {said.get('expect')!r} was frozen")


def _looked(
    answer: dict[str, Any], planned: list[_Checked], looks: Looks, family: int, then: set[str]
) -> None:
    """The looks say what follows from the values, and arms are planned as they left them.

    Raises:
        Bad: if not.
    """
    if answer["replicates"] != looks.at_most:
        wrong(f"{answer['replicates']} replicates are planned at most, {looks.at_most} are frozen")
    for row in answer["arms"]:
        most = looks.replicates_of(row["arm"])
        if row["kind"] == "arm" and row["n_planned"] != most:
            wrong(f"{row['arm']}: {row['n_planned']} replicates planned, {most} follow from looks")
    by_id = {str(m.said["id"]): m for m in planned}
    judged_at = {name: m.on for name, m in by_id.items()}
    arms_of = {name: m.arms for name, m in by_id.items()}
    notes = {name: m.said["notes"] for name, m in by_id.items()}
    again = Retaken(looks, judged_at, arms_of, answer["alpha"], family)
    again.check(notes, not then or then == set(by_id))


def _raised(answer: dict[str, Any], contrasts: dict[str, Any]) -> dict[str, Any]:
    """The exploratory verdicts on replicates that were added after the first run."""
    more = f" ({answer['replicates']} replicates)"
    said = {v["id"] for v in answer["verdicts"] if not v["planned"] and not v.get("factor")}
    return {name + more: c for name, c in contrasts.items() if name + more in said}


def _replicates(
    v: dict[str, Any], answer: dict[str, Any], frozen: dict[str, Any], looks: Any, where: str
) -> int:
    """How many replicates a verdict is judged on: a planned one on those of the first run.

    Of a study that ran until decided on those of its last look.
    """
    now = answer["replicates"]
    most = (frozen.get("replicates") or now) if v["planned"] else now
    if looks is not None and v["planned"]:
        most = looks.judged_on(v["id"])
    if v["n_planned"] != most:
        wrong(f"{where}: it is judged on {v['n_planned']} replicates, {most} follow from the plan")
    return int(most)


def _explored(answer: dict[str, Any], loose: list[_Checked]) -> list[tuple[Any, float]]:
    """Adjusted p and error rates of the exploratory contrasts, with those of what nobody declared.

    Raises:
        Bad: if the others say another adjusted p, interval or verdict than follows from their p.
    """
    others = [v for v in answer["verdicts"] if v.get("factor")] + answer["interactions"]
    p = [m.judged.p(False) for m in loose] + [other["p"] for other in others]
    family = benjamini_hochberg(p, answer["alpha"])
    for other, (adjusted, rate) in zip(others, family[len(loose) :]):  # noqa: B905 - Python 3.9
        where = f"exploratory {str(other.get('id') or other.get('factors'))[:80]}"
        near(other["p_adjusted"], adjusted, where, "p adjusted", P_SLACK)
        near(other["level"], 1 - rate, where, "level")
        if other["lo"] is None or other["hi"] is None:
            said = Said("undecided")
        else:
            lo, middle, hi = other["lo"], other["difference"], other["hi"]
            near(middle - lo, hi - middle, where, "interval", 1e-8 * abs(hi - lo))
            if abs(other["p"] - rate) > 1e-8 * rate and (lo <= 0 <= hi) != (other["p"] > rate):
                wrong(f"{where}: its interval and p do not agree")
            higher = answer["metrics"].get(other["metric"], {}).get("higher_is_better")
            said = table_of_verdicts(lo, hi, 0.0, higher)
        if other.get("verdict", said.verdict) != said.verdict:
            wrong(f"{where}: {other['verdict']} is said, {said.verdict} follows from its interval")
    return family[: len(loose)]


def _is_told(v: dict[str, Any], read_me: str) -> None:
    """Refuse a sentence that is not on the page of the artifact."""
    narrow = v["narrow"] or {"words": v["words"]}
    for text in (v["words"], narrow["words"]):
        if text not in read_me and markdown(text) not in read_me:
            raise Bad(f"contrast {v['id']}: its line is not the answer's", READ_ME)


class _Checked:
    """A declared contrast with what follows from the values."""

    def __init__(
        self,
        said: dict[str, Any],
        contrast: dict[str, Any],
        answer: dict[str, Any],
        seen: Seen,
        frozen: dict[str, Any],
        looks: Any,
    ) -> None:
        self.said, self.contrast, self.where = said, contrast, f"contrast {said['id']}"
        self.alpha, self.seen = answer["alpha"], seen
        self.looks = looks if said["planned"] else None
        for name in ("kind", "metric", "margin"):
            if said[name] != contrast[name]:
                wrong(f"{self.where}: {name} {said[name]}, the manifest says {contrast[name]}")
        self.most = _replicates(said, answer, frozen, looks, self.where)
        self.higher = answer["metrics"].get(said["metric"], {}).get("higher_is_better")
        self.judged = self.on(self.most)
        steps = contrast["kind"] in ("collapse", "sooner")
        self.rows = seen.first(said["metric"], self.most, steps)[0].get(LAST, {})
        last = seen.curves.get(said["metric"], {}).get(LAST, {})
        self.references = {k: row for k, row in last.items() if k.startswith("reference:")}
        named = [a for part in contrast["parts"] for cell in part["cells"] for a in cell]
        self.arms = list(dict.fromkeys(named))
        keys = [key for arm in self.arms for key in seen.keys.get(arm, [])]
        if sorted(said["keys"]) != sorted(keys):
            wrong(f"{self.where}: its keys are not those of its arms")

    def on(self, replicates: int) -> ContrastEstimates:
        """What it says on the first so many replicates."""
        contrast, seen = self.contrast, self.seen
        steps = contrast["kind"] in ("collapse", "sooner")
        curves, tables = seen.first(contrast["metric"], replicates, steps)
        states = {
            arm: {r: state for r, state in row.items() if r < replicates}
            for arm, row in seen.states.items()
        }
        return judged(
            *(contrast, curves, tables, states, self.higher, self.alpha, seen.work),
            seen.checkpoints,
        )

    @property
    def member(self) -> Any:
        """What the step-down reads: at the level of its last look, where there are looks."""
        if self.looks is None:
            return self.judged
        return AtItsLook(self.judged, self.most, self.looks, blind=not self.looks.taken)

    def rate(self, share: float) -> float:
        """Error rate of its interval, of its share of alpha."""
        return share if self.looks is None else float(self.looks.level(self.most, share))

    def corrected(self, p: Any, left: int) -> Any:
        """A planned p, corrected for those that were left, and for looking."""
        if self.looks is not None and self.looks.taken:
            p = self.looks.alpha_of(self.most, p)
        return p and min(1.0, left * p)

    def check(
        self,
        wide: tuple[Said, int],
        narrow: tuple[Said, int],
        rate: float,
        narrow_rate: float,
        p_adjusted: Any,
    ) -> None:
        """Compare everything that is said.

        Args:
            wide: the last reading over seeds and prompts, and how many were left.
            narrow: the same on exactly these prompts.
            rate: error rate of the one.
            narrow_rate: and of the other.
            p_adjusted: of the one.
        """
        said, found, where = self.said, self.judged, self.where
        reading, left = wide
        told = found.main if found.kind != "collapse" else found.lost_from(reading.step)
        main = told or Difference()
        prompts = _prompts(found) if told is None else told.prompts
        same = {
            "about": "checkpoints" if _alone(found) else "recipes",
            "verdict": reading.verdict,
            "worst_case": reading.verdict if reading.vetoed else None,
            "left": left,
            "p_sign_flip": None,
            "best": list(reading.best),
            "step": reading.step,
            "n": _seeds_of(found) if told is None else told.n,
            "n_prompts": prompts.n if prompts is not None else 0,
            "method": _method(found) if told is None else told.method_of(),
            "expectation": self._expectation(reading.verdict, main.difference),
        }
        said = {"about": "recipes", **said}  # earlier answers do not say it
        for name, value in same.items():
            if said[name] != value or isinstance(said[name], bool):
                shown = str(said[name])[:80]
                wrong(f"{where}: {name} {shown} is said, {value} follows from its numbers")
        if {whole(r) for r in said["per_replicate"]} != main.own.keys():
            wrong(f"{where}: its replicates are not those with both sides")
        for r, difference in said["per_replicate"].items():
            near(difference, main.own[whole(r)], where, f"replicate {r}")
        near(said["difference"], main.difference, where, "difference")
        _interval(said, reading, found.level(rate), where)
        near(said["p"], found.p(False), where, "p", P_SLACK)
        near(said["p_adjusted"], p_adjusted, where, "p adjusted", P_SLACK)
        _spread(said["spread"], main, where)
        self._parts()
        self._sizes()
        narrower = prompts is not None and not _alone(found)
        if (said["narrow"] is not None) != narrower:
            wrong(f"{where}: the claim on exactly these prompts goes with prompts")
        if narrower:
            self._narrow(*narrow, narrow_rate)

    def _narrow(self, reading: Said, left: int, rate: float) -> None:
        """The claim on exactly these prompts."""
        said, where = self.said["narrow"], f"{self.where} on exactly these prompts"
        if said["verdict"] != reading.verdict:
            wrong(f"{where}: {said['verdict']} is said, {reading.verdict} follows from its numbers")
        p = self.judged.p(True)
        _interval(said, reading, self.judged.level(rate), where)
        near(said["p"], p, where, "p", P_SLACK)
        adjusted = self.corrected(p, left) if self.said["planned"] else p
        near(said["p_adjusted"], adjusted, where, "p adjusted", P_SLACK)

    def _parts(self) -> None:
        """Further estimates of its kind, such as the bend of a trend."""
        said, parts = self.said["parts"], self.judged.parts
        names = [(part["name"], part["level"]) for part in said]
        if names != [(name, level) for name, level, _ in parts]:
            wrong(f"{self.where}: its parts are not those of the manifest")
        for told, (name, level, found) in zip(said, parts):  # noqa: B905 - Python 3.9
            where = f"{self.where}: {name} {level}".rstrip()
            near(told["difference"], found.difference, where, "difference")
            lo, hi = found.interval(self.alpha) or (None, None)
            _ends(told, lo, hi, where)
            near(told["p"], found.p(), where, "p", P_SLACK)

    def _sizes(self) -> None:
        """Those that are told; whether a metric's least value is 0, nothing here says."""
        for name, size in (self.said.get("sizes") or {}).items():
            found = None
            if name == "d_z" and self.judged.kind in LINEAR:
                found = d_z(self.judged.main)
            elif name == "log_ratio" and self.judged.kind == "difference" and self.higher is False:
                found = log_ratio(self.rows, self.contrast["parts"][0]["cells"])
            elif name == "gap_share" and self.judged.kind == "difference":
                found = self._gap_share(size)
            if found is None:
                wrong(f"{self.where}: a size {str(name)[:40]} is told, and it is not defined")
            near(size, found, self.where, str(name)[:40])

    def _gap_share(self, size: Any) -> Any:
        """The difference over the way between two reference rows: which two, no record says."""
        known = [v for row in self.references.values() for v in row.values()]
        self.judged.work.spend(len(known) ** 2)
        if self.judged.main.difference is None:
            return None
        gaps = [abs(one - two) for one in known for two in known if one != two]
        shares = [self.judged.main.difference / gap for gap in gaps]
        return min(shares, key=lambda share: abs(share - size), default=None)

    def _expectation(self, verdict: str, difference: Any) -> str:
        expect = self.contrast["expect"]
        if not expect or difference is None or not verdict.startswith(("improves", "harms")):
            return ""
        expected = (difference > 0) == (expect == "higher")
        return "as expected" if expected else "contrary to expectation"


def _prompts(found: ContrastEstimates) -> Any:
    """Spread over prompts of the best of several levels: that of the first two."""
    each = [pair.prompts for pair in found.several.values()] if found.kind == "best" else []
    return None if not each or None in each else each[0]


def _alone(found: ContrastEstimates) -> bool:
    """Whether the claim is about checkpoints measured once each."""
    each = [found.main, *found.several.values()]
    return next((one.alone for one in each if one is not None), False)


def _seeds_of(found: ContrastEstimates) -> int:
    """Replicates with a matched cell in every pair of levels."""
    pairs = found.several.values() if found.kind == "best" else ()
    return min((pair.n for pair in pairs), default=0)


def _method(found: ContrastEstimates) -> str:
    if found.kind != "best" or not found.several:
        return "none"
    first = next(iter(found.several.values()))
    return f"one-sided, {len(found.levels) - 1} to a level; {first.method_of()}"


def _interval(said: dict[str, Any], reading: Said, level: float, where: str) -> None:
    near(said["level"], level, where, "level")
    _ends(said, reading.lo, reading.hi, where)


def _ends(said: dict[str, Any], lo: Any, hi: Any, where: str) -> None:
    """Both ends, to 1e-8 of the interval's width; what is infinite is not told."""
    width = 0.0 if lo is None or not math.isfinite(hi - lo) else hi - lo
    for end, found in (("lo", lo), ("hi", hi)):
        known = found is not None and math.isfinite(found)
        near(said[end], found if known else None, where, end, max(1e-12, 1e-8 * width))


def _spread(said: Any, found: Difference, where: str) -> None:
    """The parts of the standard error."""
    if (said is None) == found.judged:
        return wrong(f"{where}: the spread is told exactly where there is an interval")
    if not found.judged:
        return None
    if found.alone:
        if (said["seeds"], said["seeds_df"], said["both"]) != (None, None, None):
            wrong(f"{where}: a spread over seeds is told, and the claim is about checkpoints")
        near(said["prompts"], math.sqrt(found.prompts.variance), where, "spread over prompts")
        near(said["prompts_df"], found.prompts.df, where, "degrees of freedom over prompts")
        return None
    near(said["seeds"], found.se, where, "spread over seeds")
    near(said["seeds_df"], found.df, where, "degrees of freedom over seeds")
    over = found.prompts
    if over is None:
        if (said["prompts"], said["prompts_df"], said["both"]) != (None, None, None):
            wrong(f"{where}: a spread over prompts is told, and there is none")
        return None
    near(said["prompts"], math.sqrt(over.variance), where, "spread over prompts")
    near(said["prompts_df"], over.df, where, "degrees of freedom over prompts")
    # A difference of large numbers: as sure as what it is taken of.
    near(said["both"] ** 2, over.both, where, "spread shared by both", 1e-10 * over.variance)
    return None


def cell_of(
    said: dict[str, Any], row: str, metric: str, seen: Seen, by_prompt: bool, alpha: float
) -> None:
    """Check spread and interval of one arm's metric.

    Raises:
        Bad: if a number is another.
    """
    rows = seen.curves.get(metric, {}).get(LAST, {})
    tables = seen.tables(metric, LAST) if by_prompt else None
    cell = [([{row: 1.0}], 1.0)]
    found = estimated({row: rows.get(row, {})}, cell, tables, seen.work, seen.checkpoints)
    values = list(rows.get(row, {}).values())
    sd = None
    if len(values) > 1:
        mean = sum(values) / len(values)
        sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    where = f"{row}, {metric}"
    near(said["sd"], sd, where, "standard deviation")
    lo, hi = found.interval(alpha) or (None, None)
    _ends(said, lo, hi, where)
    reach = found.prompts.n if found.prompts is not None and lo is not None else 0
    if said["n_prompts"] != reach:
        wrong(f"{where}: it reaches over {reach} prompts, not {str(said['n_prompts'])[:20]}")


def whole(text: Any) -> int:
    """A whole number written as text, of a length that is no work to read."""
    if not isinstance(text, str) or not re.fullmatch(rf"[0-9]{{1,{MOST_DIGITS}}}", text):
        raise ValueError(f"a whole number is needed, given {str(text)[:40]!r}")
    return int(text)


def near(said: Any, found: Any, where: str, what: str, slack: float = 1e-12) -> None:
    """Refuse a number that is not the recomputed one, up to rounding or `slack`."""
    if said is None or found is None:
        if said is not found:
            wrong(f"{where}: {what} is {said}, recomputed {found}")
    elif isinstance(said, bool) or not math.isclose(said, found, rel_tol=1e-8, abs_tol=slack):
        wrong(f"{where}: {what} is {said!r}, recomputed {found!r}")


def wrong(why: str) -> None:
    """Raise `Bad` about the answer."""
    raise Bad(why[:400], ANSWER)
