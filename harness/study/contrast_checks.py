"""Checks of the contrasts of a study: one kind each, factors that can answer it, all it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.study.arms import everything_on
from harness.study.kinds import KEYS, KINDS, kinds_with
from harness.study.model import Contrast, Level, StudyFile, find
from harness.study.scores import ScoresError, scores_of
from harness.study.shape import Shape
from harness.study.unknown_factors import UnknownFactors
from harness.study.yaml_file import Document
from harness.text.spelling import nearest

Levels = Mapping[str, Mapping[str, Level]]
Named = Callable[..., bool]

ONE_OF = "a and b, " + ", ".join(key for key in KEYS if key != "a")
ORDER = "`ordered: true` (the levels' own numbers), `log`, `rank` or `{scores: [...]}`"
_GIVEN = {
    "margin": kinds_with(lambda traits: traits.margin),
    "expect": kinds_with(lambda traits: traits.linear),
    "levels": kinds_with(lambda traits: traits.levels),
}
"""Setting -> the kinds that it belongs to."""


def unmatched(study: StudyFile, contrast: Contrast) -> str:
    """Why no cell of a design holds what a contrast compares, and what to take instead."""
    told = f"`{contrast.kind}` needs {KINDS[contrast.kind].needs}, and no planned arms are that"
    if contrast.kind == "interaction" and study.design in ("one_factor", "leave_one_out"):
        return f"{told}: design {study.design} changes one factor at a time; take pairs or full"
    if study.design == "zip" and len(study.factors) > 1:
        return f"{told}: under design zip all factors advance together"
    if study.design == "fractional":
        return f"{told}, nor do the arms of the fraction determine it"
    return told


class ContrastChecks:
    """Checks one contrast at a time; problems go to the document.

    Args:
        document: where problems go.
        shape: the study as written.
        levels: levels of the factors that are right.
        named: checks `factor: level` pairs at a place of the file; true if all are known.
        strangers: where names that are no factor are noted.
    """

    def __init__(
        self,
        document: Document,
        shape: Shape,
        levels: Levels,
        named: Named,
        strangers: UnknownFactors,
    ) -> None:
        self.document = document
        self.shape = shape
        self.written: StudyFile = shape.study
        self.levels = levels
        self.named = named
        self.strangers = strangers
        self.known = strangers.known

    def run(self, index: int, contrast: Contrast) -> bool:
        """Check a contrast; true if it is right, so that its arms can be matched."""
        key = self._kind(index, contrast)
        good = self._pinned(index, contrast)
        if not key:
            return False
        good = self._belongs(index, contrast) and good
        check = getattr(self, f"_{contrast.kind}")
        return bool(check(index, contrast)) and good

    def _fail(self, said: str, index: int, *loc: str | int, key: bool = False) -> bool:
        self.document.fail(said, "contrasts", index, *loc, key=key)
        return False

    def _kind(self, index: int, contrast: Contrast) -> str:
        """The key that says what is compared; empty if there is none, or more than one."""
        given = [key for key in KEYS if getattr(contrast, key)]
        has_b = "b" in contrast.model_fields_set
        if has_b and "a" not in given and not given:
            self._fail(f"required key 'a' is missing (in contrasts.{index})", index)
            return ""
        if not given:
            said = f"contrast {contrast.id} says not what it compares: give one of {ONE_OF}"
            self._fail(said, index)
            return ""
        if given == ["a"] and not has_b:
            self._fail(f"required key 'b' is missing (in contrasts.{index})", index)
            return ""
        others = given[1:] if given[0] == "a" or not has_b else [*given[1:], "b"]
        for key in others:
            said = (
                f"a contrast is of one kind, and this one has `{given[0]}` already; `{key}` needs "
                f"a contrast of its own (one of {ONE_OF})"
            )
            self._fail(said, index, key, key=True)
        return "" if others else given[0]

    def _pinned(self, index: int, contrast: Contrast) -> bool:
        good = self.named(contrast.at, "contrasts", index, "at")
        for factor in contrast.at:
            if factor in contrast.factors:
                said = f"{factor!r} is already fixed by a side; `at` pins other factors"
                if KINDS[contrast.kind].factors:
                    said = f"{factor!r} is what `{contrast.kind}` is about; `at` pins other factors"
                good = self._fail(said, index, "at", factor, key=True)
        return good

    def _belongs(self, index: int, contrast: Contrast) -> bool:
        """Settings that another kind reads are a mistake, not a remark."""
        good = True
        for key, allowed in _GIVEN.items():
            if getattr(contrast, key) and contrast.kind not in allowed:
                said = f"`{key}` belongs to {', '.join(allowed)}; this is {contrast.kind}"
                good = self._fail(said, index, key, key=True)
        return good

    def _difference(self, index: int, contrast: Contrast) -> bool:
        good = all(
            [
                self.named(part, "contrasts", index, name)
                for name, part in (("a", contrast.a), ("b", contrast.b))
            ]
        )
        return good and self._comparable(index, contrast, ())

    def _comparable(self, index: int, contrast: Contrast, inside: tuple[str, ...]) -> bool:
        one, other = contrast.sides
        filled = self.written.baseline
        if not filled and self.written.design == "leave_one_out":
            filled = everything_on(self.written.factors, self.levels)
        open_ = sorted((set(one) ^ set(other)) - set(filled))
        if open_ and ("baseline" in self.shape.lost or set(filled) - self.known):
            return False
        if open_:
            said = f"only one side names {', '.join(open_)}; name it on both, or give a baseline"
            return self._fail(said, index, *inside)
        if any(factor not in self.levels for factor in {*one, *other}):
            return False
        named = {*one, *other}
        a, b = filled | one, filled | other
        if all(find(self.levels[f], a[f]) == find(self.levels[f], b[f]) for f in named):
            return self._fail("sides a and b are the same", index, *inside, "b")
        return True

    def _factor(self, name: str, index: int, *loc: str | int) -> bool:
        """Whether a factor of this name is there and right."""
        if name not in self.known:
            self.strangers.add(name, ("contrasts", index, *loc))
        return name in self.levels

    def _ordered(self, name: str) -> bool | None:
        """Whether a factor is ordered; None where its order is itself a mistake."""
        try:
            return bool(scores_of(self.written.factors[name], self.levels[name]))
        except ScoresError:
            return None

    def _trend(self, index: int, contrast: Contrast) -> bool:
        name = contrast.trend
        if not self._factor(name, index, "trend"):
            return False
        labels = list(self.levels[name])
        ordered = self._ordered(name)
        if len(labels) < 3:
            sides = f"a: {{{name}: {labels[-1]}}}, b: {{{name}: {labels[0]}}}"
            more = f"is a difference; write {sides}" if len(labels) == 2 else "says nothing"
            said = f"a trend over {len(labels)} level{'s' * (len(labels) > 1)} of {name!r} {more}"
            return self._fail(said, index, "trend")
        if ordered is False:
            said = f"factor {name!r} is not ordered, so it has no trend; give it {ORDER}"
            return self._fail(said, index, "trend")
        return ordered is True

    def _interaction(self, index: int, contrast: Contrast) -> bool:
        return self._two(index, contrast, "interaction", contrast.interaction)

    def _more(self, index: int, contrast: Contrast) -> bool:
        return self._two(index, contrast, "more", contrast.more)

    def _two(self, index: int, contrast: Contrast, key: str, names: list[str]) -> bool:
        """Two different factors, each with two levels, in order, or with two that are picked."""
        if names[0] == names[1]:
            said = f"`{key}` needs two different factors, given {names[0]!r} twice"
            return self._fail(said, index, key, 1)
        good = all([self._factor(name, index, key, n) for n, name in enumerate(names)])
        picked = all([self._picked(index, f, own, names) for f, own in contrast.levels.items()])
        for n, name in enumerate(names):
            if name not in self.levels or name in contrast.levels:
                continue
            labels, ordered = list(self.levels[name]), self._ordered(name)
            if len(labels) == 2 or ordered:
                continue
            good = False
            if len(labels) == 1:
                said = f"factor {name!r} has one level, so it moves nothing"
                self._fail(said, index, key, n)
            elif ordered is False:
                said = (
                    f"factor {name!r} has {len(labels)} levels and is not ordered: pick two, "
                    f"`levels: {{{name}: [{labels[0]}, {labels[-1]}]}}`, or give it {ORDER}"
                )
                self._fail(said, index, key, n)
        return good and picked

    def _picked(self, index: int, factor: str, pair: list[Any], names: list[str]) -> bool:
        if factor not in names:
            said = f"`levels` picks two of {' or '.join(names)}, given {factor!r}"
            near = nearest(factor, names)
            return self._fail(f"{said}{near}", index, "levels", factor, key=True)
        if factor not in self.levels:
            return False
        own = self.levels[factor]
        good = True
        for number, value in enumerate(pair):
            if find(own, value) is None:
                said = f"{value!r} is not a level of {factor!r}{nearest(value, own)}"
                good = self._fail(said, index, "levels", factor, number)
        if good and find(own, pair[0]) == find(own, pair[1]):
            said = f"`levels` picks {pair[0]!r} of {factor!r} twice; pick two different ones"
            good = self._fail(said, index, "levels", factor, 1)
        return good

    def _best(self, index: int, contrast: Contrast) -> bool:
        if not self._factor(contrast.best, index, "best"):
            return False
        if len(self.levels[contrast.best]) < 2:
            said = f"factor {contrast.best!r} has one level, which is the best by itself"
            return self._fail(said, index, "best")
        return True

    def _collapse(self, index: int, contrast: Contrast) -> bool:
        good = self.named(contrast.collapse, "contrasts", index, "collapse")
        wrong = any(p.path == f"contrasts.{index}.margin" for p in self.document.problems)
        if contrast.margin is None and not wrong:
            said = "`collapse` needs a `margin`: the smallest loss that matters, in metric units"
            good = self._fail(said, index)
        return self._measured_twice(index, contrast) and good

    def _sooner(self, index: int, contrast: Contrast) -> bool:
        assert contrast.sooner is not None
        good = all(
            [
                self.named(part, "contrasts", index, "sooner", name)
                for name, part in (("a", contrast.sooner.a), ("b", contrast.sooner.b))
            ]
        )
        if contrast.sooner.threshold is None:
            said = "`sooner` needs a `threshold`: the value that is reached, or lost with `falls`"
            self._fail(said, index, "sooner")
        good = good and self._comparable(index, contrast, ("sooner",))
        return self._measured_twice(index, contrast) and good

    def _measured_twice(self, index: int, contrast: Contrast) -> bool:
        """Whether there is a curve: at least two measured cycles."""
        cycles = sorted(set(self.written.measure_at))
        if len(cycles) >= 2 or "measure_at" in self.shape.lost:
            return True
        have = f"only cycle {cycles[0]}" if cycles else "only the end"
        said = (
            f"`{contrast.kind}` looks along training and needs at least two measured cycles; "
            f"`measure_at` names {have}: write e.g. `measure_at: [50, 100, 200]`"
        )
        return self._fail(said, index, contrast.kind, key=True)
