"""A study opened for a command: its file, subject and workspace, and what is recorded there."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.journal.history import History
from harness.journal.workspace import RESULTS, Workspace, project_of
from harness.subjects.load import load_subject

if TYPE_CHECKING:
    from harness.contract import Subject
    from harness.study.model import Study


class OpenedStudy:
    """One study in one workspace, for as long as a command takes.

    What is slow is done once: the subject, which hashes declared data when it is first asked for
    digests, is the one that checked the study file; the history is read when it is first needed.
    """

    def __init__(
        self,
        study: Study,
        workspace: Workspace,
        *,
        subject: Subject | None = None,
        history: History | None = None,
    ) -> None:
        """Take a checked study.

        Args:
            study: from `load_study`.
            workspace: where students are kept, trials are claimed and results are recorded.
            subject: in the place of the one that the study names.
            history: in the place of what the workspace and the study's results hold.
        """
        self.study = study
        self.workspace = workspace
        self._history = history
        if subject is not None:
            self.subject = subject

    @cached_property
    def project(self) -> Path:
        """Folder of the project that the study belongs to."""
        return project_of(self.study.file)

    @cached_property
    def subject(self) -> Subject:
        """What the study is about.

        Raises:
            SubjectError: if it cannot be loaded or breaks the contract.
        """
        return load_subject(self.study.subject, project=self.project)

    @property
    def history(self) -> History:
        """The workspace's journals and those recorded beside the study file, as last read."""
        if self._history is None:
            self._history = History.read([self.workspace.journal, self.study.file.parent / RESULTS])
        return self._history

    def reread(self) -> History:
        """The history as it is now: other processes may have written to it."""
        self._history = None
        return self.history

    def asking(self, study: Study) -> OpenedStudy:
        """The same subject, workspace and history, asked by another version of the study."""
        return OpenedStudy(study, self.workspace, subject=self.subject, history=self.history)
