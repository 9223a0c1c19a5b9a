"""Where records of trials are looked for, and which of their subjects may be imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.bundle.read import unpacked_bundle
from harness.errors import HarnessError, NotJudgedError
from harness.journal.history import History
from harness.journal.records import Planned
from harness.journal.workspace import (
    FOLDER,
    RESULTS,
    STUDY_FILE,
    Workspace,
    history_folders,
    project_of,
    projects_of,
)
from harness.running.study_status import only_key
from harness.study.yaml_file import name_in
from harness.subjects.settings import MEASURED_BY, CommandSettings, SubjectSpec, imported_by
from harness.text.bounded_file import UnreadableError, limited_text
from harness.text.identifiers import NO_NAME, ForeignError

JOURNALS = "*.jsonl"


@dataclass(frozen=True)
class Places:
    """Folders with journals, and folders that hold `trials/<key>/`."""

    journals: list[Path]
    roots: list[Path] = field(default_factory=list)
    projects: list[Path] = field(default_factory=list)
    """Where the studies' files and subjects may be."""
    names: dict[Path, str] = field(default_factory=dict)
    """What to call a folder that only holds a copy, e.g. of an MLflow run's files."""
    study: Path | None = None
    """The study file or folder that was named, if any."""
    trusted: frozenset[str] = frozenset()
    """Modules that the reader's own study files named before anything was fetched or unpacked."""
    foreign: bool = False
    """Whether records come from a bundle or a server: what they name is not started."""

    def means(self, planned: Planned) -> bool:
        """Whether a recorded study is the one that was named; any, where none was."""
        if self.study is None:
            return True
        files = [(p / planned.study_file).resolve() for p in self.projects]
        if self.study.is_file() and self.study.suffix in (".yaml", ".yml"):
            return self.study.resolve() in files or planned.study == name_in(self.study)
        folder = (self.study if self.study.is_dir() else self.study.parent).resolve()
        beside = [folder / STUDY_FILE, folder.parent / STUDY_FILE]
        names = {name_in(f) for f in beside if f.is_file()}
        held = folder in [file.parent for file in files]
        return held or planned.study in {folder.name, folder.parent.name, *names}

    def read(self) -> History:
        """All records, merged.

        Raises:
            ForeignError: if a record of somebody else gives a key or the like that is none.
        """
        history = History.read(self.journals)
        odd = [w for w in history.warnings if NO_NAME in w]
        if self.foreign and odd:
            raise ForeignError(f"{odd[0]}: nothing of these records was used")
        return history

    def key(self, history: History, prefix: str, workspace: Workspace) -> str:
        """The one key that starts with `prefix`; a short name is fine too.

        Raises:
            HarnessError: if there is none, naming every place that was searched, or several.
        """
        if not history.find(prefix.rpartition("-")[2]):
            raise HarnessError(
                f"no trial {prefix!r}. Looked in:\n"
                + "".join(f"  {line}\n" for line in self.searched())
                + "Name another place with --from (a workspace, a study's results folder, a "
                "bundle, an MLflow address), --study or --workspace."
            )
        return only_key(history, prefix, workspace)

    def searched(self) -> list[str]:
        """One line a place: what it is, and how many trials it holds."""
        lines = []
        for folder in dict.fromkeys(self.journals):
            name = self.names.get(folder, str(folder))
            if not folder.is_dir():
                lines.append(f"{name}: not there")
            else:
                count = len(History.read([folder]).trials)
                lines.append(f"{name}: {count} trial{'' if count == 1 else 's'}")
        return lines


def places_around(workspace: Workspace, study: Path | None = None) -> Places:
    """The workspace, a study's results, or those of all studies of the project.

    Args:
        workspace: its journal comes first.
        study: a study file, its folder, or its results folder; None searches `studies/*/results`
            of the workspace's project, or of the project one is in where the workspace lies
            elsewhere.
    """
    journals = history_folders(workspace, study)
    return Places(journals, [workspace.root], projects_of(workspace, study), study=study)


def places_given(source: str, workspace: Workspace, study: Path | None = None) -> Places:
    """What `--from` names: a folder with records, a bundle, or an MLflow server.

    A folder may be a workspace, a study's folder, its `results`, a project with `studies/`, or an
    unpacked bundle. A bundle is checked and unpacked into the workspace's cache; nothing of its
    code is run. Of an MLflow server the journals that the studies' runs carry are copied there.
    Modules that a study of the reader's names may be imported: `study`, and those of the project.

    Raises:
        HarnessError: if it is none of these.
        NotJudgedError: if nothing is recorded there.
    """
    projects = projects_of(workspace, study)
    trusted = named_by(projects, study)  # before anything of a stranger's is on this disk
    if "://" in source or source.startswith("sqlite:"):
        from harness.tracking.mlflow_results import fetch

        workspace.ensure_usable()
        copies = fetch(source, workspace)
        return Places([*copies], [], projects, copies, trusted=trusted, foreign=True)
    place = Path(source)
    if place.is_dir():
        folder = place
    elif place.is_file():
        folder = _unpacked(place, workspace)
    else:
        raise HarnessError(
            f"--from {source!r} is not there: give a folder with records, a bundle that "
            "`bundle` made, or an MLflow address (http://host:port, sqlite:////path)"
        )
    journals = list(_with_journals(folder))
    if not journals:
        raise NotJudgedError(
            f"--from {source!r} holds no records: no *.jsonl in it, in its journal/, results/, "
            f"{FOLDER}/journal/ or studies/*/results/"
        )
    roots = [folder, folder / FOLDER, folder.parent, *(j.parent for j in journals)]
    # Nothing is imported from a stranger's bundle: only a folder the user chose may be a project.
    own = [project_of(folder.resolve() / "x")] if place.is_dir() else []
    return Places(journals, roots, [*own, *projects], trusted=trusted, foreign=place.is_file())


def _with_journals(folder: Path) -> Iterable[Path]:
    candidates = [
        folder,
        folder / "journal",
        folder / RESULTS,
        folder / FOLDER / "journal",
        *sorted(folder.glob(f"*/{RESULTS}")),
        *sorted(folder.glob(f"studies/*/{RESULTS}")),
    ]
    return (c for c in candidates if any(c.glob(JOURNALS)))


def _unpacked(file: Path, workspace: Workspace) -> Path:
    """Folder of a bundle's content, checked and unpacked once."""
    workspace.ensure_usable()
    return unpacked_bundle(file, workspace.cache / "bundles")


OWN = "harness."
_NAMED = re.compile(r"""^\s*(?:subject|measured_by):\s*["']?([A-Za-z_][\w.]*(?::[\w.]+)?)""", re.M)


def why_not_trusted(spec: SubjectSpec, places: Places) -> str:
    """Why the record's subject is not imported; empty if it may be.

    Importing a module runs it, so a record of somebody else names none that happens to be
    importable here: only Stillhouse's own, and those that the reader's own study files name.
    """
    # A folder that the reader names is trusted like anything else that he runs.
    if not places.foreign:
        return ""
    if isinstance(spec, CommandSettings) and spec.recipe_schema is not None:
        return (
            f"the record names the file {spec.recipe_schema} of another machine; nothing is read "
            "from a bundle's or a server's word: unpack it, read it, and give the folder"
        )
    module = imported_by(spec)
    if not module or module == MEASURED_BY or module.startswith(OWN) or module in places.trusted:
        return ""
    return (
        f"the record names subject {module!r}, which none of your studies names; nothing is "
        "imported on a bundle's or a server's word. If it is yours, give a study file of yours "
        "that names it: --study FILE"
    )


def named_by(projects: Sequence[Path], study: Path | None) -> frozenset[str]:
    """Modules that the reader's study files name. Asked before anything of a stranger is here.

    Args:
        projects: projects of the reader.
        study: a study file, or a folder of them, that the reader named.
    """
    return frozenset(name for file in _files(projects, study) for name in _named(file))


def _files(projects: Sequence[Path], study: Path | None) -> Iterator[Path]:
    if study is not None:
        yield from sorted(study.glob("*.yaml")) if study.is_dir() else [study]
    for project in projects:
        yield from sorted(project.glob("*.yaml"))
        yield from sorted(project.glob("studies/*/*.yaml"))


def _named(file: Path) -> list[str]:
    try:
        return _NAMED.findall(limited_text(file))
    except UnreadableError:
        return []
