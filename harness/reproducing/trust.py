"""Which subjects may be imported for a record that comes from a bundle or a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.study_file.limited import UnreadableError, limited_text
from harness.subjects.settings import MEASURED_BY, CommandSettings, SubjectSpec, imported_by

if TYPE_CHECKING:
    from harness.reproducing.places import Places

OWN = "harness."
_NAMED = re.compile(r"""^\s*(?:subject|measured_by):\s*["']?([A-Za-z_][\w.]*(?::[\w.]+)?)""", re.M)


def why_not(spec: SubjectSpec, places: Places) -> str:
    """Why the record's subject is not imported; empty if it may be.

    Importing a module runs it, so a record of somebody else names none that happens to be
    importable here: only Stillhouse's own, and those that the reader's own study files name.
    """
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
