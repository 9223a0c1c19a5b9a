"""The study file of checkpoints from elsewhere: started, or added to without losing edits."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from harness.errors import HarnessError
from harness.study import load
from harness.study_file.limited import UnreadableError, limited_text
from harness.subjects.stranger_study import Stranger, numbered, place, study_of
from harness.subjects.students import content_digest
from harness.workspace import project_of

HEAD = (
    "# Checkpoints from elsewhere, made by `stillhouse measure`, which also adds to it.\n"
    "# Edit `question`, `primary` and `contrasts`; then `stillhouse report` this file.\n"
)


class StrangerFile:
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
        strangers: Sequence[Stranger],
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
            else Stranger(s.path, s.levels, paths.get((place(s), s.path.resolve())), s.settings)
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
        temporary = self.file.with_name(f".{self.file.stem}-{os.getpid()}.yaml")
        try:
            temporary.write_text(self.text(), encoding="utf-8")
            load(temporary)
            temporary.replace(self.file)
        finally:
            temporary.unlink(missing_ok=True)

    def _entry(self, stranger: Stranger) -> dict[str, Any]:
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
    return place(Stranger(Path(), dict(entry["levels"])))
