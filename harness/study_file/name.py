"""Which file is meant, and the name it gives its study, read without checking the rest."""

from __future__ import annotations

from pathlib import Path

STUDY_FILE = "study.yaml"
"""The study file of a folder."""


def file_of(path: Path) -> Path:
    """The study file that is meant: a folder means its `study.yaml`."""
    return path / STUDY_FILE if path.is_dir() else path


def name_in(file: Path) -> str:
    """The study's name; the file's own where it gives none or is no YAML."""
    from harness.study_file.document import read  # slow to import

    content = read(file).data
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else file.stem
