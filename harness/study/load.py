"""Loads a study file and checks what needs more than its shape; one pass finds all mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.contract import Subject
from harness.errors import HarnessError, Problem, StudyError, SubjectError
from harness.journal.gc_pauses import paused
from harness.journal.workspace import STUDY_FILE, Workspace, file_of, here, project_of
from harness.study.arms import ArmsError, Combination, Layout, baseline_of, combinations, layout
from harness.study.contrast_checks import unmatched
from harness.study.contrasts import match, sides
from harness.study.kinds import KINDS
from harness.study.level_checks import DesignChecks, FactorChecks, LevelChecks
from harness.study.model import Contrast, Study
from harness.study.opened_study import OpenedStudy
from harness.study.resolver import Fault, RecipeError, Resolver, nested, resolver_of
from harness.study.shape import Shape, shape_of
from harness.study.where_expression import WhereError
from harness.study.yaml_file import Document, Loc, is_file, read
from harness.subjects.load import load_subject, model_of
from harness.subjects.placeholders import Placeholder, placeholders
from harness.subjects.settings import CommandSettings, StudentsSettings
from harness.text.spelling import nearest


def load_study(path: Path) -> Study:
    """Read and check a study file; see `open_study` for commands, which need more than the file."""
    return _checked(path)[0]


def open_study(path: Path, workspace: Workspace | Path | None = None) -> OpenedStudy:
    """Read and check a study file and find its workspace; its subject is made once.

    Args:
        path: the study's YAML file, or its folder, which then holds `study.yaml`.
        workspace: the folder that the user named, if any, or a workspace.

    Raises:
        HarnessError: if there is no such file.
        StudyError: with every mistake of the study and its recipe, each with file, line and column.
    """
    study, subject = _checked(path)
    if not isinstance(workspace, Workspace):
        workspace = Workspace.find(study.file, workspace)
    return OpenedStudy(study, workspace, subject=subject)


@paused()
def _checked(path: Path) -> tuple[Study, Subject]:
    file = file_of(Path(path))
    if not _is_text(file):
        raise HarnessError(
            f"the path of {file.name!a} is not UTF-8, which no record can hold: rename it"
        )
    if not file.exists():
        beside = sorted(str(found) for found in Path().glob(f"studies/*/{STUDY_FILE}"))
        known = f"; here are {', '.join(beside)}" if beside else ""
        raise HarnessError(f"no file {file}. Name a study file or the folder of one{known}")
    return checked_study(file)


def _is_text(file: Path) -> bool:
    """Whether a record can hold the path: names of other encodings come as half surrogates."""
    try:
        str(here() / file).encode()
    except UnicodeEncodeError:
        return False
    return True


NEEDED_FOR_ARMS = {
    *("factors", "where", "baseline", "arms", "set", "recipe", "design", "subject"),
    *("resolution", "replicates"),
}
"""Parts of the file that must be right before arms can be resolved."""


def checked_study(file: Path) -> tuple[Study, Subject]:
    """A study file with everything in it checked, and the subject that it was checked against.

    Raises:
        StudyError: with every mistake found.
    """
    document = read(file)
    shape = shape_of(document)
    if shape is None:
        raise StudyError(file, _news(document.problems))
    study, subject = _Checks(file, document, shape).run()
    if document.problems or subject is None:
        raise StudyError(file, _news(document.problems))
    return study, subject


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

    def run(self) -> tuple[Study, Subject | None]:
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
        return self.study, subject

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
        directed = KINDS[contrast.kind].directed
        if not directed or spec is None or spec.higher_is_better is not None:
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


class RecipeChecks:
    """Reads the base recipe and applies `set`; problems go to the study's document."""

    def __init__(self, file: Path, document: Document, shape: Shape) -> None:
        self.file = file
        self.document = document
        self.shape = shape
        self.base: dict[str, Any] = {}
        """The base recipe's data as written."""
        self._recipe: Document | None = None

    def run(self, subject: Subject) -> Resolver | None:
        """A resolver on base and `set`, without their faulty parts; None if that cannot be made."""
        found = self._read()
        if found is None:
            return None
        self.base, place = found
        try:
            model = model_of(subject, self.base)
        except HarnessError as error:  # only a schema that a command names can be at fault
            self.document.fail(str(error), "subject", "recipe_schema")
            return None
        if getattr(model, "only_shown", False):
            self.document.refuse_words("recipe", "set", "factors")
            if self._recipe is not None:
                told = len(self._recipe.problems)
                self._recipe.refuse_words()
                self.document.problems += self._recipe.problems[told:]
        resolver, faults = resolver_of(model, self.base)
        self.document.problems += [place(fault) for fault in faults]
        return self._with_set(resolver) if resolver is not None else None

    def _read(self) -> tuple[dict[str, Any], Callable[[Fault], Problem]] | None:
        """The base recipe's data, and how to place a fault of it; None if it cannot be read."""
        given = self.shape.study.recipe
        if "recipe" in self.shape.lost:
            return None
        if isinstance(given, dict):
            return given, lambda fault: self.document.problem(
                fault.message, ("recipe", *fault.path)
            )
        path = self.file.parent / given
        if not is_file(path):
            try:
                beside = [p.name for p in path.parent.glob("*.y*ml")]
            except OSError:  # a name that no folder can have
                beside = []
            others = [name for name in beside if name != self.file.name]
            self.document.fail(f"no recipe file {given!r}{nearest(path.name, others)}", "recipe")
            return None
        recipe = self._recipe = read(path)
        if not recipe.problems and not isinstance(recipe.data, dict):
            recipe.fail("a recipe must be a mapping")
        self.document.problems += recipe.problems
        if not isinstance(recipe.data, dict):
            return None
        return recipe.data, lambda fault: recipe.problem(fault.message, fault.path)

    def _with_set(self, resolver: Resolver) -> Resolver:
        good: dict[str, Any] = {}
        for path, value in self.shape.study.set.items():
            unknown = resolver.unknown(path)
            other = next((p for p in good if nested(p, path)), None)
            if unknown is not None:
                self.document.fail(unknown, "set", path, key=True)
            elif other is not None:
                said = f"{path!r} is already assigned by {other!r}"
                self.document.fail(said, "set", path, key=True)
            elif self._fits(resolver, path, value):
                good[path] = value
        try:
            return resolver.after(good)
        except RecipeError as error:
            for fault in error.faults:
                said = f"{'.'.join(fault.path) or 'recipe'}: {fault.message}"
                self.document.fail(said, "set", key=True)
            return resolver

    def _fits(self, resolver: Resolver, path: str, value: Any) -> bool:
        try:
            resolver.after({path: value})
        except RecipeError as error:
            # Each alone first, so that a fault is placed at its own line.
            under = [f for f in error.faults if (".".join(f.path) + ".").startswith(path + ".")]
            for fault in under:
                self.document.fail(fault.message, "set", path)
            return not under  # a fault of the whole may go once all of `set` is applied
        return True


class SubjectChecks:
    """Finds the subject; problems go to the document."""

    def __init__(self, file: Path, document: Document, shape: Shape) -> None:
        self.document = document
        self.shape = shape
        self.project = project_of(file)
        self.spec: str | CommandSettings | StudentsSettings = shape.study.subject
        """The subject, its paths relative to the project."""
        if not isinstance(self.spec, str):
            self.spec = self.spec.placed(file.resolve().parent, self.project)

    def run(self) -> Subject | None:
        """The subject; None if there is none to judge the rest of the study with."""
        if "subject" in self.shape.lost:
            return None
        if isinstance(self.spec, CommandSettings) and not self._in_place(self.spec):
            return None
        try:
            return load_subject(self.spec, project=self.project)
        except SubjectError as error:
            self.document.fail(str(error), "subject")
            return None

    def against(self, resolver: Resolver | None) -> None:
        """Check what a command says of the recipe and of measuring."""
        if not isinstance(self.spec, CommandSettings):
            return
        for field, text in self.spec.templates() if resolver is not None else ():
            for placeholder in placeholders(text):
                self._known(placeholder, field, text, resolver)
        if self.spec.student is not None and self.shape.study.measure_at:
            self.document.fail(
                "a command's student is measured at the end; `measure_at` is for trainers that "
                "report `metrics` themselves",
                "measure_at",
                key=True,
            )

    def _in_place(self, spec: CommandSettings) -> bool:
        """Whether the folder and the files it names are there."""
        root = self.project / spec.cwd
        if not root.is_dir():
            self.document.fail(f"{root.resolve()} is not a folder", "subject", "cwd")
            return False
        good = True
        for field in ("code", "data"):
            for index, name in enumerate(getattr(spec, field)):
                if not (root / name).exists():
                    said = f"{name!r} does not exist in {root.resolve()} (cwd)"
                    self.document.fail(said, "subject", field, index)
                    good = False
        return good

    def _known(
        self, placeholder: Placeholder, field: str, text: str, resolver: Resolver | None
    ) -> None:
        space, _, path = placeholder.name.partition(".")
        unknown = resolver.unknown(path) if resolver and space == "recipe" else None
        if unknown is not None:
            where = f" ({{{placeholder.name}}} in {text!r})"
            self.document.fail(unknown + where, "subject", field)
