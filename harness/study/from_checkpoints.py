"""Checkpoints from elsewhere -> a study file that measures them; added to without losing edits."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from harness.errors import HarnessError
from harness.journal.labels import label_of
from harness.journal.workspace import project_of
from harness.study.load import load_study
from harness.study.yaml_file import read_text
from harness.subjects.checkpoints import content_digest
from harness.text.bounded_file import UnreadableError, limited_text

REPLICATE = "replicate"
SETTING = "setting."
"""Prefix of a label, or of a manifest's column, that is no label: `setting.base`."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class ForeignCheckpoint:
    """One checkpoint as the command line or a manifest gives it."""

    path: Path
    levels: dict[str, Any] = field(default_factory=dict)
    replicate: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def foreign_checkpoints(
    given: Iterable[str], labels: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[ForeignCheckpoint]:
    """What the arguments name: `PATH`, `PATH:arm=x,replicate=2`, or a manifest (.csv).

    Args:
        given: the arguments.
        labels: for every path that does not say otherwise.
        settings: what the students' files do not say, for every path likewise.

    Raises:
        HarnessError: if a label or a manifest cannot be read.
    """
    found = []
    for text in given:
        path, own = _split(text)
        if path.suffix.lower() == ".csv":
            found += [_stranger(p, {**labels, **own, **row}, settings) for p, row in _rows(path)]
        else:
            found.append(_stranger(path, {**labels, **own}, settings))
    return found


def labels_of(pairs: Iterable[str]) -> dict[str, Any]:
    """`["arm=a", "lr=1e-4"]` as a mapping, values read as YAML reads them.

    Raises:
        HarnessError: for a pair without `=`, or a name that cannot be a factor.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _NAME.fullmatch(name.removeprefix(SETTING)):
            raise HarnessError(
                f"label {pair!r} must be NAME=VALUE, the name of letters, digits and _; "
                "for example arm=portrait"
            )
        found[name] = _value(value)
    return found


def numbered(
    strangers: Sequence[ForeignCheckpoint], taken: Iterable[tuple[Any, int]] = ()
) -> list[ForeignCheckpoint]:
    """With a replicate each: those of an arm that have none get the free numbers from 0 on."""
    used = set(taken) | {(place(s), s.replicate) for s in strangers if s.replicate is not None}
    found = []
    for stranger in strangers:
        number = stranger.replicate
        if number is None:
            number = next(n for n in range(len(used) + 1) if (place(stranger), n) not in used)
            used.add((place(stranger), number))
        found.append(ForeignCheckpoint(stranger.path, stranger.levels, number, stranger.settings))
    return found


def place(stranger: ForeignCheckpoint) -> tuple[tuple[str, str], ...]:
    """Its arm, as something to compare."""
    return tuple(sorted((name, label_of(value)) for name, value in stranger.levels.items()))


def study_of(
    students: Sequence[Mapping[str, Any]],
    *,
    protocol: str,
    measured_by: str,
    baseline: Mapping[str, Any],
    contrasts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What a study file must say to measure the students.

    Args:
        students: entries of `subject.students`, all of them.
        protocol: how they are measured.
        measured_by: subject that measures them.
        baseline: label -> level that each other level is compared with; empty for none.
        contrasts: those the file has already.

    Raises:
        HarnessError: if the baseline is no label.
    """
    # Such checkpoints are trials of a study of their own rather than a kind of trial: the recipe is
    # their labels, the data digest their content. So reference rows are shared, and no other part
    # of the harness has to know of them.
    arms: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for student in students:
        arms.setdefault(tuple((k, label_of(v)) for k, v in student["levels"].items()), {}).update(
            student["levels"]
        )
    listed = list(arms.values())
    factors = {k: list({label_of(a[k]): a[k] for a in listed}.values()) for k in listed[0]}
    made: dict[str, Any] = {
        "subject": {"measured_by": measured_by, "students": list(students)},
        "recipe": dict(listed[0]),
        "factors": factors,
        "design": "explicit",
        "arms": [dict(arm) for arm in listed],
        "replicates": 1 + max(s["replicate"] for s in students),
        "protocol": protocol,
    }
    compared = list(contrasts)
    known = {c.get("id") for c in compared}
    for factor, level in baseline.items():
        if factor not in factors or label_of(level) not in map(label_of, factors[factor]):
            has = {f: [label_of(v) for v in values] for f, values in factors.items()}
            raise HarnessError(f"--baseline {factor}={label_of(level)} is no label; there is {has}")
        for other in factors[factor]:
            name_of = re.sub(r"[^A-Za-z0-9._-]", "-", f"{label_of(other)}-vs-{label_of(level)}")
            if label_of(other) != label_of(level) and name_of not in known:
                sides = {"a": {factor: other}, "b": {factor: level}}
                compared.append({"id": name_of.lstrip("-._"), **sides})
    if compared:
        made["contrasts"] = compared
    return made


def _split(text: str) -> tuple[Path, dict[str, Any]]:
    path, colon, rest = text.rpartition(":")
    if not colon or "=" not in rest:
        return Path(text), {}
    return Path(path), labels_of(rest.split(","))


def _stranger(
    path: Path, said: Mapping[str, Any], settings: Mapping[str, Any]
) -> ForeignCheckpoint:
    own = {k.removeprefix(SETTING): v for k, v in said.items() if k.startswith(SETTING)}
    levels = {k: v for k, v in said.items() if not k.startswith(SETTING) and k != REPLICATE}
    replicate = said.get(REPLICATE)
    if replicate is not None and (not isinstance(replicate, int) or not 0 <= replicate < 1000):
        raise HarnessError(f"{path}: replicate must be a whole number from 0, given {replicate!r}")
    if any(value is None or isinstance(value, list | dict) for value in levels.values()):
        raise HarnessError(f"{path}: a label needs a plain value, given {levels}")
    return ForeignCheckpoint(path, levels or {"arm": _called(path)}, replicate, {**settings, **own})


def _called(path: Path) -> str:
    """Label of a path without labels: its own name, or its parent's where that says nothing."""
    absolute = path.absolute()
    plain = absolute.name in ("student", "lora", "transformer")
    return absolute.parent.name if plain else absolute.name


def _rows(manifest: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Rows of a CSV with a column `path`; relative paths start from its folder.

    Raises:
        HarnessError: with the line, if a row is no checkpoint with its labels.
    """
    try:
        text = limited_text(manifest).removeprefix("\ufeff")
    except UnreadableError as error:
        raise HarnessError(f"manifest {manifest} cannot be read: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[tuple[Path, dict[str, Any]]] = []
    names: list[str] = []
    at = 0
    try:
        for row in reader:
            line, at = at + 1, reader.line_num
            if not any(cell.strip() for cell in row):
                continue
            if not names:
                names = _names(manifest, row)
            else:
                found.append(_listed(f"manifest {manifest}, line {line}", manifest, names, row))
    except csv.Error as error:
        raise HarnessError(f"manifest {manifest}, line {at + 1}: {error}") from error
    if not found:
        has = ", ".join(names) if names else "no rows"
        raise HarnessError(
            f"manifest {manifest} needs a column `path`, and one for each label, and a row for "
            f"each checkpoint; it has {has}"
        )
    return found


def _names(manifest: Path, row: Sequence[str]) -> list[str]:
    names = [name.strip() for name in row]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HarnessError(
            f"manifest {manifest} names columns twice: {', '.join(map(repr, twice))}"
        )
    if "path" not in names:
        hint = "; cells are parted by commas" if len(names) == 1 and ";" in names[0] else ""
        raise HarnessError(
            f"manifest {manifest} needs a column `path`, and one for each label; it has "
            f"{', '.join(names)}{hint}"
        )
    return names


def _listed(
    where: str, manifest: Path, names: Sequence[str], row: Sequence[str]
) -> tuple[Path, dict[str, Any]]:
    if len(row) != len(names):
        raise HarnessError(f"{where}: {len(row)} cells under {len(names)} columns")
    cells = dict(zip(names, row, strict=True))
    for name, cell in cells.items():
        # Numbers begin with + and -, too: formulas that do are read as the text they are.
        if cell.startswith(("=", "@")):
            raise HarnessError(f"{where}: {name} holds a formula ({cell[:40]}); write its value")
    path = cells.pop("path")
    if not path.strip():
        raise HarnessError(f"{where}: `path` is empty")
    try:
        return manifest.parent / path, labels_of(f"{k}={v}" for k, v in cells.items() if v)
    except HarnessError as error:
        raise HarnessError(f"{where}: {error}") from error


def _value(text: str) -> Any:
    document = read_text(Path("label"), text)
    return text if document.problems or document.data is None else document.data


HEAD = (
    "# Checkpoints from elsewhere, made by `stillhouse measure`, which also adds to it.\n"
    "# Edit `question`, `primary` and `contrasts`; then `stillhouse report` this file.\n"
)


class CheckpointStudyFile:
    """One such file; nothing is written before `save`."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one.

        Raises:
            HarnessError: if it is no study of checkpoints.
        """
        self.file = file
        self._yaml = YAML(typ="rt")
        self.content: Any = {}
        if not file.exists():
            return
        try:
            self.content = self._yaml.load(limited_text(file))
            list(self.content["subject"]["students"])
        except (UnreadableError, YAMLError, KeyError, TypeError, RecursionError) as error:
            raise HarnessError(
                f"{file} exists and is no study of checkpoints; name another file with --study"
            ) from error

    @property
    def protocol(self) -> str:
        """The protocol the file names, a file as an absolute path; empty for a new one."""
        return self.named(str(self.content.get("protocol", "")), self.file.absolute().parent)

    @property
    def measured_by(self) -> str:
        """The measuring subject the file names; empty for none."""
        return str(self.content["subject"].get("measured_by", "")) if self.content else ""

    @staticmethod
    def named(protocol: str, folder: Path) -> str:
        """A protocol by name, or an absolute path for one given as a file relative to a folder."""
        is_file = protocol.endswith((".yaml", ".yml"))
        return str((folder / protocol).resolve()) if is_file else protocol

    def add(
        self,
        strangers: Sequence[ForeignCheckpoint],
        *,
        name: str,
        protocol: str,
        measured_by: str,
        baseline: Mapping[str, Any],
    ) -> None:
        """Add checkpoints; one in the place of another, by labels and replicate, replaces it.

        Raises:
            HarnessError: if labels differ from those there, or two take the same place.
        """
        known = list(self.content["subject"]["students"]) if self.content else []
        entries = {(_levels(e), int(e["replicate"])): dict(e) for e in known}
        paths = {(_levels(e), self._resolved(e["path"])): int(e["replicate"]) for e in known}
        again = [
            s
            if s.replicate is not None
            else ForeignCheckpoint(
                s.path, s.levels, paths.get((place(s), s.path.resolve())), s.settings
            )
            for s in strangers
        ]
        seen: dict[Any, Path] = {}
        for stranger in numbered(again, entries):
            where = (place(stranger), stranger.replicate)
            if where in seen:
                raise HarnessError(
                    f"{stranger.path} and {seen[where]} both are {dict(stranger.levels)} replicate "
                    f"{stranger.replicate}: leave the replicates out to have them numbered"
                )
            seen[where] = stranger.path
            assert stranger.replicate is not None
            entries[place(stranger), stranger.replicate] = self._entry(stranger)
        names = {tuple(sorted(e["levels"])) for e in entries.values()}
        if len(names) > 1:
            sets = " and ".join(str(list(n)) for n in sorted(names))
            raise HarnessError(f"every checkpoint needs the same labels; there are {sets}")
        made = study_of(
            list(entries.values()),
            protocol=self._written(Path(protocol)) if Path(protocol).is_file() else protocol,
            measured_by=measured_by,
            baseline=baseline,
            contrasts=self.content.get("contrasts", ()) if self.content else (),
        )
        if not self.content:
            question = "How do checkpoints from elsewhere measure?"
            self.content = {"name": name, "question": question}
        for key, value in made.items():
            if key != "contrasts" or len(value) != len(self.content.get("contrasts", ())):
                self.content[key] = value

    def text(self) -> str:
        """The file as it would be written."""
        stream = io.StringIO()
        self._yaml.dump(self.content, stream)
        text = stream.getvalue()
        return text if text.startswith("#") else HEAD + text

    def save(self) -> None:
        """Write it; the old one stays until the new one is whole and known to be right.

        Raises:
            StudyError: if what is kept of the old one does not fit the checkpoints.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # Beside the file: relative paths in it must mean the same while it is checked.
        temporary = self.file.with_name(f".{self.file.stem}-{os.getpid()}.yaml")
        try:
            temporary.write_text(self.text(), encoding="utf-8")
            load_study(temporary)
            temporary.replace(self.file)
        finally:
            temporary.unlink(missing_ok=True)

    def _entry(self, stranger: ForeignCheckpoint) -> dict[str, Any]:
        entry = {
            "path": self._written(stranger.path),
            "levels": dict(stranger.levels),
            "replicate": stranger.replicate,
        }
        if stranger.settings:
            entry["settings"] = dict(stranger.settings)
        return entry | {"digest": content_digest(stranger.path, stranger.settings)}

    def _written(self, path: Path) -> str:
        """Relative to the file where both lie in one project, so that the project can move."""
        home, path = self.file.absolute().parent, path.resolve()
        if path.is_relative_to(project_of(self.file.absolute())):
            return os.path.relpath(path, home)
        return str(path)

    def _resolved(self, written: str) -> Path:
        return (self.file.absolute().parent / written).resolve()


def _levels(entry: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return place(ForeignCheckpoint(Path(), dict(entry["levels"])))
