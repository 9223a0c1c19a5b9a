"""The errors Stillhouse shows to users; everything else that escapes is a bug."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STOPPED = 4
"""Exit code of what a deadline stopped: the same command continues."""
UNEXPECTED = 70
"""Exit code of what nobody foresaw (`EX_SOFTWARE`): a bug, or a machine that fails."""


class HarnessError(ValueError):
    """Base of every error meant for the user: says what was given, what is allowed, what to do.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code: int = 2


@dataclass(frozen=True)
class Problem:
    """One mistake in a study file, with its place (1-based line and column)."""

    message: str
    line: int | None = None
    column: int | None = None
    path: str = ""
    """Dotted path inside the file, e.g. `factors.edit_share.levels`."""
    file: str = ""
    """The file it is in, where that is not the study file (the recipe)."""
    of_text: bool = False
    """Whether the text itself is wrong; then what is said of the value read there is no news."""


class StudyError(HarnessError):
    """All mistakes found in one study file, reported together."""

    def __init__(self, file: Path | str, problems: list[Problem]) -> None:
        self.file = str(file)
        self.problems = sorted(
            problems,
            key=lambda p: ((p.file or self.file) != self.file, p.file, p.line or 0, p.column or 0),
        )
        counted = f"{len(problems)} mistake{'s' * (len(problems) != 1)}"
        lines = [f"{self.file}: {counted}; nothing was written"]
        for problem in self.problems:
            place = f"{problem.file or self.file}:{problem.line or 1}:{problem.column or 1}"
            lines.append(f"  {place}: {problem.message}")
        super().__init__("\n".join(lines))


class WorkspaceError(HarnessError):
    """The workspace cannot be used: read-only, full, or not where it was said to be."""


class ClaimedError(HarnessError):
    """Another live driver holds the trial or the study."""


class SubjectError(HarnessError):
    """The subject named by a study cannot be imported or breaks the contract."""


class NotJudgedError(HarnessError):
    """Something needed for a judgement is missing."""

    exit_code = 3


class BundleError(HarnessError):
    """A bundle cannot be trusted, or cannot be made: says which member, which line, and why."""

    def __init__(self, message: str, member: str = "", line: int = 0) -> None:
        self.member, self.line = member, line
        super().__init__(message)
