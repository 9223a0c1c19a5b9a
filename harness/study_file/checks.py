"""Checks of a study file that need more than its shape; one pass finds all mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.contract import Subject
from harness.design import ArmsError, Layout, baseline_of, combinations, layout
from harness.errors import Problem, StudyError
from harness.planning.enumeration import Combination
from harness.planning.matching import match, sides
from harness.study import Contrast, Study
from harness.study_file.contrast_checks import DIRECTED, unmatched
from harness.study_file.design_checks import DesignChecks
from harness.study_file.document import Document, Loc, is_file, read
from harness.study_file.factor_checks import FactorChecks
from harness.study_file.level_checks import LevelChecks
from harness.study_file.nearest import nearest
from harness.study_file.recipe_checks import RecipeChecks
from harness.study_file.resolve import Resolver
from harness.study_file.shape import Shape, shape_of
from harness.study_file.subject_checks import SubjectChecks
from harness.study_file.where import WhereError

NEEDED_FOR_ARMS = {
    *("factors", "where", "baseline", "arms", "set", "recipe", "design", "subject"),
    *("resolution", "replicates"),
}
"""Parts of the file that must be right before arms can be resolved."""


def checked_study(file: Path) -> Study:
    """Read a study file and check everything in it.

    Raises:
        StudyError: with every mistake found.
    """
    document = read(file)
    shape = shape_of(document)
    if shape is None:
        raise StudyError(file, _news(document.problems))
    study = _Checks(file, document, shape).run()
    if document.problems:
        raise StudyError(file, _news(document.problems))
    return study


def _news(problems: list[Problem]) -> list[Problem]:
    """Without what is said of values that could not be read: the text's mistake says it all."""
    unread = {(p.file, p.line, p.column) for p in problems if p.of_text}
    return [p for p in problems if p.of_text or (p.file, p.line, p.column) not in unread]


class _Checks:
    """One pass over one study; problems are collected in the document."""

    def __init__(self, file: Path, document: Document, shape: Shape) -> None:
        self.file = file
        self.document = document
        self.shape = shape
        self.study = Study(**dict(shape.study), file=file.absolute())
        self.named = SubjectChecks(file, document, shape)

    def run(self) -> Study:
        subject = self.named.run()
        self.study = self.study.model_copy(update={"subject": self.named.spec})
        recipe = RecipeChecks(self.file, self.document, self.shape)
        resolver = recipe.run(subject) if subject else None
        self.study = self.study.model_copy(update={"base": recipe.base})
        good: list[int] = []
        if self.shape.has_factors:
            levels = FactorChecks(self.document, self.study, resolver).run(self.shape.broken)
            DesignChecks(self.document, self.study, levels, self.shape.lost).run()
            good = LevelChecks(self.document, self.shape, levels, resolver).run()
        if subject is not None:
            self.named.against(resolver)
            self._defaults(subject)
            self._measured(subject, resolver)
            if resolver is not None and self._ready():
                self._arms(subject, good)
        return self.study

    def _ready(self) -> bool:
        own = str(self.file)
        return self.shape.has_factors and not any(
            p.file != own or p.path.split(".")[0] in NEEDED_FOR_ARMS for p in self.document.problems
        )

    def _defaults(self, subject: Subject) -> None:
        """Fill in what the file leaves to the subject: primary metric, protocol."""
        written = self.shape.study
        headline = [name for name, spec in subject.metrics.items() if spec.headline]
        primary = written.primary or next(iter(headline or subject.metrics), "")
        default = getattr(subject, "default_protocol", "")
        default = default or next(iter(getattr(subject, "protocols", ())), "default")
        protocol = written.protocol or default
        if protocol.endswith((".yaml", ".yml")):
            protocol = str((self.file.parent / protocol).absolute())
        contrasts = [
            c if c.metric else c.model_copy(update={"metric": primary}) for c in written.contrasts
        ]
        self.study = self.study.model_copy(
            update={"primary": primary, "protocol": protocol, "contrasts": contrasts}
        )

    def _measured(self, subject: Subject, resolver: Resolver | None) -> None:
        known = list(subject.metrics)
        named: list[tuple[str, Loc]] = [(self.study.primary, ("primary",))]
        named += [
            (contrast.metric, ("contrasts", index, "metric"))
            for index, contrast in self.shape.numbered("contrasts", self.shape.study.contrasts)
            if contrast.metric
        ]
        for metric, loc in named:
            if metric not in known:
                self.document.fail(f"no metric {metric!r}{nearest(metric, known)}", *loc)
        for index, contrast in self.shape.numbered("contrasts", self.study.contrasts):
            self._directed(subject, index, contrast)
        protocols = list(getattr(subject, "protocols", ()))
        name = self.study.protocol
        if protocols and name not in protocols and not is_file(Path(name)):
            self.document.fail(f"no protocol {name!r}{nearest(name, protocols)}", "protocol")
        elif resolver is not None:
            try:
                subject.fingerprints(resolver.resolve({}), name)
            except (ValueError, OSError) as error:
                self.document.fail(f"protocol {name!r} cannot be used: {error}", "protocol")

    def _directed(self, subject: Subject, index: int, contrast: Contrast) -> None:
        """What asks for the better needs a metric that has a better direction."""
        spec = subject.metrics.get(contrast.metric)
        if contrast.kind not in DIRECTED or spec is None or spec.higher_is_better is not None:
            return
        having = [name for name, s in subject.metrics.items() if s.higher_is_better is not None]
        written = "metric" if self.shape.study.contrasts[index].metric else contrast.kind
        self.document.fail(
            f"`{contrast.kind}` asks what is better, and {contrast.metric!r} has no better "
            f"direction{nearest(contrast.metric, having)}",
            *("contrasts", index, written),
            key=written != "metric",
        )

    def _arms(self, subject: Subject, good: list[int]) -> None:
        if not DesignChecks(self.document, self.study, self.study.levels(), set()).size():
            return
        try:
            made = layout(self.study, subject)
        except ArmsError as error:
            for text, loc in self._grouped(error):
                self.document.fail(text, *loc, key=loc == ("factors",))
            return
        except WhereError as error:  # only some combinations compare what cannot be compared
            index = self.study.where.index(error.expression)
            self.document.fail(f"{error} ({error.expression!r})", "where", index)
            return
        if not made.arms:
            self.document.fail("`where` leaves no arm", "where", key=True)
            return
        if baseline_of(self.study) and not any(arm.baseline for arm in made.arms):
            self.document.fail(
                "the baseline is not among the arms: `where`, `arms` or the design leaves it out",
                "baseline" if self.study.baseline else "where",
                key=not self.study.baseline,
            )
        self._surroundings(subject, made)
        for index, contrast in self.shape.numbered("contrasts", self.study.contrasts):
            if index not in good or match(self.study, made, contrast).comparable:
                continue
            if contrast.kind == "difference":
                a, b = sides(self.study, contrast)
                said = (
                    f"contrast {contrast.id} matches no pair of arms: a is {_shown(a)}, b is "
                    f"{_shown(b)}, and {_unmatched(self.study)}"
                )
            else:
                said = f"contrast {contrast.id} matches no arms: {unmatched(self.study, contrast)}"
            self.document.fail(said, "contrasts", index)

    def _surroundings(self, subject: Subject, made: Layout) -> None:
        """Every level must have its data and weights; asked for once a level, not once an arm."""
        seen: set[tuple[str, str]] = set()
        first = ""
        for arm in made.arms:
            new = [level for level in arm.levels.items() if level not in seen]
            seen.update(new)
            if not new:
                continue
            try:
                prints = subject.fingerprints(arm.recipe, self.study.protocol)
                said = ""
            except (ValueError, OSError) as error:
                said = f"arm {arm.name} cannot be run: {error}"
            else:
                first = first or prints.protocol
                if prints.protocol != first:
                    said = (
                        f"arm {arm.name} is measured otherwise than {made.arms[0].name}: their "
                        "protocol fingerprints differ, so no table could hold both"
                    )
            if said:
                factor, label = new[0]
                index = self.study.levels()[factor][label].index
                self.document.fail(said, "factors", factor, "levels", index)

    def _grouped(self, error: ArmsError) -> Iterator[tuple[str, Loc]]:
        """One text per message, placed at the level that exactly the refused arms share, if any."""
        groups: dict[tuple[str, str], list[Combination]] = {}
        for combination, fault in error.faults:
            groups.setdefault((".".join(fault.path), fault.message), []).append(combination)
        every = combinations(self.study)
        for (path, message), found in groups.items():
            loc: Loc = ("factors",)
            for factor, label in found[0].items():
                having = [c for c in every if c[factor] == label]
                if len(having) == len(found) and all(c[factor] == label for c in found):
                    loc = ("factors", factor, "levels", self.study.levels()[factor][label].index)
            yield (
                f"{len(found)} arm(s) have a recipe that is refused, e.g. {_shown(found[0])}: "
                f"{path or 'recipe'}: {message}",
                loc,
            )


def _unmatched(study: Study) -> str:
    """Why no cell of the design holds both sides, and what to write instead."""
    told = "no two planned arms have these levels and agree on all other factors"
    if study.design == "fractional":
        return f"{told}, nor do the arms of the fraction determine the difference"
    if study.design == "zip" and len(study.factors) > 1:
        return f"{told}: under design zip they advance together, so name all of them on both sides"
    return told


def _shown(levels: Combination) -> str:
    return "{" + ", ".join(f"{k}: {v}" for k, v in levels.items()) + "}"
