"""A protocol's file, found where the project lies now: records hold the whole path it had."""

from __future__ import annotations

from pathlib import Path, PurePath


def protocol_here(written: str, study_file: str, project: Path) -> str:
    """A protocol as it was recorded; its file in this project, should that have been moved.

    A copy of a project reads its own file, too, and not that of the original.

    Args:
        written: a name, which stays, or the whole path of a file.
        study_file: the study that named it, relative to its project.
        project: where that project is now.
    """
    then = PurePath(written)
    if not then.is_absolute():
        return written
    study = PurePath(study_file).parent.parts
    parts, count = then.parts[1:], len(study)
    ends = [i for i in range(len(parts)) if study and parts[i : i + count] == study]
    ends = ends or list(range(len(parts)))  # a study at the top of its project: what fits first
    for start in ends:
        here = project.joinpath(*parts[start:])
        if here.is_file():
            return str(here)
    return written
