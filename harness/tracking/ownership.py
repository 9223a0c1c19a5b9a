"""Whose the runs on a tracking server are. A server is written by several people and is nobody's.

A trial's run is this workspace's if and only if its key and the nonce of its attempt are in the
journal here; the runs of a study and of its arms say a workspace's id. An experiment is written by
one workspace: every process that writes leaves a random epoch in the workspace and, after that, as
a tag of the experiment. An epoch there that is not in the workspace was left by somebody who went
on from elsewhere: another workspace with a study of this name, or a copy of this one. Nobody can
know which of the two is meant to go on, so that is a question: `--as NAME` writes beside, under
that name; `--adopt` goes on in the place of the other.

Imports no mlflow.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError
from harness.journal.history import History
from harness.journal.workspace import Workspace, make_workspace_id
from harness.journal.writer import append_line
from harness.text.identifiers import NAME, Name, identifier
from harness.text.printable import printable
from harness.text.secrets import without_credentials
from harness.tracking.address import sqlite_file
from harness.tracking.run_write import TAG, RefusedError

VARIABLE = "STILLHOUSE_AS"
"""Answers for batch jobs, where nobody can be asked: as `--as`."""
EPOCH = TAG + "epoch."
"""Prefix of the experiment's tags, one an epoch; the value is the workspace's id."""
WORKSPACE = TAG + "workspace"
"""Tag of a run: the workspace that wrote it."""
EPOCHS = "epochs"
"""Folder of the workspace with an empty file an epoch: a name that is new is never cached, so that
processes on other machines that share the folder see it at once."""
MEMORY = "tracked.json"
OWN = "own"
"""The workspace's own database, wherever the workspace lies."""
SHOWN = 5
Tags = Mapping[str, str]


class ElsewhereError(HarnessError, RefusedError):
    """The experiment was continued from elsewhere, and nobody has said what to do."""

    def __init__(self, text: str, proposal: str) -> None:
        self.proposal = proposal
        """A name under which this workspace may write beside."""
        super().__init__(text)


class _Memory(BaseModel):
    """What a workspace remembers of where a study is tracked."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    format: int = 1
    names: dict[str, Name] = Field(
        default_factory=dict, description="Address of a server -> experiment that is written there."
    )
    adopted: list[Name] = Field(
        default_factory=list, description="Workspaces whose runs are gone on with."
    )


def name_to_write_to(given: str | None) -> str:
    """The name that `--as` gives, else STILLHOUSE_AS; empty where neither says anything.

    Raises:
        HarnessError: if it is no name.
    """
    name = given if given is not None else os.environ.get(VARIABLE, "")
    if given == "":
        raise HarnessError(f"--as is empty: give a name that matches {NAME}")
    if name:
        identifier("--as" if given is not None else VARIABLE, name)
    return name


def refuse_untracked(given: str | None, adopt: bool) -> None:
    """Refuse an answer where nothing is asked: it would be forgotten.

    Raises:
        HarnessError: for `--as` or `--adopt` of a command that does not fill MLflow.
    """
    if given is not None or adopt:
        raise HarnessError(
            "--as and --adopt say what to do in MLflow, and this command does not fill it: give "
            "them to `sync`, or leave out --no-mlflow and --smoke"
        )


# The price of asking: a user of two checkouts answers once, and a copy keeps its original's id
# until its `workspace.json` is deleted.
class Ownership:
    """What this workspace owns of one study on one tracking server."""

    def __init__(
        self, workspace: Workspace, uri: str, study: str, *, beside: str = "", adopt: bool = False
    ) -> None:
        """Take the answer that was given in advance, if any: a name, or to adopt what is there."""
        self.study = study
        self.attempts: set[tuple[str, str]] = set()
        """Key and nonce of every attempt in the history at hand."""
        self._workspace = workspace
        self._shown = without_credentials(uri)
        self._place = OWN if sqlite_file(uri) == workspace.database else self._shown.rstrip("/")
        self._adopt = adopt
        self._beside = beside
        self._closed: set[tuple[str, str]] = set()
        self._epoch = ""
        self._proposal = ""
        self._ids: set[str] = set()
        self._journal: set[tuple[str, str]] | None = None
        self._journal_sizes: dict[str, int] = {}

    @property
    def experiment(self) -> str:
        """Name of the experiment: as answered, else as remembered, else the study's name."""
        return self._beside or self._memory().names.get(self._place, self.study)

    @property
    def workspace_id(self) -> str:
        """Id of this workspace, made where it has none yet."""
        return self._workspace.id or make_workspace_id(self._workspace.root)

    def know(self, history: History) -> None:
        """Take in every attempt of a history."""
        for key, trial in history.everything.items():
            for attempt in trial.attempts.values():
                place = (key, attempt.opened.nonce)
                self.attempts.add(place)
                if attempt.closed is not None:
                    self._closed.add(place)

    def remember(self) -> None:
        """Keep the name that was answered: the next command need not be told again."""
        memory = self._memory()
        if self._beside and memory.names.get(self._place, self.study) != self._beside:
            self._keep(
                memory.model_copy(update={"names": memory.names | {self._place: self._beside}})
            )

    def mark(self) -> dict[str, str]:
        """The tags that this process leaves on the experiment; its epoch is on the disk first."""
        if not self._epoch:
            epoch = secrets.token_hex(16)
            # On the disk first: a crash after the tag would leave an epoch on the server that this
            # workspace does not know, and so take its own experiment for a stranger's.
            self._note(epoch)
            self._epoch = epoch
        return {EPOCH + self._epoch: self.workspace_id, TAG + "study": self.study}

    def judge(self, tags: Tags, runs: Callable[[], Iterable[Tags]]) -> None:
        """Say whether the experiment may be written.

        Args:
            tags: of the experiment.
            runs: the tags of each of its runs; asked for only where they decide.

        Raises:
            ElsewhereError: if it may not.
        """
        there = tags.get(TAG + "study", self.study)
        if there != self.study:
            raise ElsewhereError(
                f"{self._named()} holds the study {printable(there)[:100]!r}, not {self.study!r}. "
                f"Nothing of it was changed. Give another name: --as {self.proposal()}",
                self.proposal(),
            )
        strangers = self._strangers(tags)
        if not strangers and epochs_in(tags):
            return
        earlier = not strangers  # written by an earlier version, or by nobody yet
        if earlier and all(self._is_of_this_journal(run) for run in runs()):
            return
        if not self._adopt:
            raise ElsewhereError(self._question(strangers), self.proposal())
        missing = [run for run in runs() if not self._is_closed_here(run)]
        if missing:
            names = [run.get(TAG + "short") or run.get(TAG + "key", "") for run in missing[:SHOWN]]
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise ElsewhereError(
                f"{self._named()} cannot be adopted: the history here does not hold how "
                f"{printable(', '.join(names))[:400]}{more} ended. Nothing of it was changed. "
                "Bring the other workspace's records here first (its committed results/, beside "
                f"the study file), or write beside it: --as {self.proposal()}",
                self.proposal(),
            )

    def settled(self, tags: Tags) -> list[str]:
        """The experiment is this workspace's now; which tags of earlier epochs may go.

        Args:
            tags: of the experiment, after `mark` was written and `judge` had nothing against it.
        """
        for epoch in self._strangers(tags):
            self._note(epoch)
        memory = self._memory()
        writers = {tags[EPOCH + epoch] for epoch in epochs_in(tags)}
        others = sorted(w for w in writers - {self.workspace_id, *memory.adopted} if _is_name(w))
        if others:
            self._keep(memory.model_copy(update={"adopted": [*memory.adopted, *others]}))
        self._ids = {"", self.workspace_id, *memory.adopted, *others}
        return [EPOCH + epoch for epoch in epochs_in(tags) if epoch != self._epoch]

    def owns(self, tags: Tags) -> bool:
        """Whether a run of an experiment that may be written is this workspace's."""
        whose = tags.get(WORKSPACE, "")
        ours = whose in self._ids
        key = tags.get(TAG + "key")
        if key is None:
            return ours
        nonce = _nonce(tags)
        if not nonce:  # marked as incomplete
            return ours and any(key == known for known, _ in list(self.attempts))
        if (key, nonce) in self.attempts:
            return True
        if ours and whose:  # another process of this workspace may have begun it since
            self.attempts |= self._read_journal()
        return (key, nonce) in self.attempts

    def proposal(self) -> str:
        """A name that no other workspace, nor a copy of this one in another place, will choose."""
        if not self._proposal:
            identity = self._workspace.id or secrets.token_hex(16)
            text = f"{identity}\n{self._workspace.root}"
            mark = hashlib.sha256(text.encode()).hexdigest()[:6]
            self._proposal = f"{self.study[:100]}-{mark}"
        return self._proposal

    def _named(self) -> str:
        return f"experiment {self.experiment!r} of MLflow at {self._shown}"

    def _question(self, strangers: list[str]) -> str:
        how = "was continued from elsewhere" if strangers else "holds runs of another workspace"
        return (
            f"{self._named()} {how}: by another workspace, or by a copy of this one. Nothing of it "
            "was changed. To write beside it, under a name of your own: "
            f"--as {self.proposal()} (remembered; {VARIABLE} says it for batch jobs). To go on in "
            "its place: --adopt, where the history here holds how every run there ended"
        )

    def _strangers(self, tags: Tags) -> list[str]:
        return [epoch for epoch in epochs_in(tags) if not is_epoch_of(self._workspace, epoch)]

    def _note(self, epoch: str) -> None:
        """Leave an epoch in the workspace, on the disk when this returns."""
        folder = self._workspace.root / EPOCHS
        folder.mkdir(parents=True, exist_ok=True)
        append_line(folder / identifier("epoch", epoch), self.study, sync=True)

    def _is_of_this_journal(self, tags: Tags) -> bool:
        """As `owns`, by the journal of this workspace alone: nothing there says whose it is."""
        key, nonce = tags.get(TAG + "key"), _nonce(tags)
        if key is None:
            return tags.get(WORKSPACE, "") in ("", self._workspace.id)
        known = self._read_journal()
        return (key, nonce) in known if nonce else any(key == k for k, _ in known)

    def _is_closed_here(self, tags: Tags) -> bool:
        key, nonce = tags.get(TAG + "key"), _nonce(tags)
        if key is None:
            return True
        return (key, nonce) in self._closed if nonce else any(key == k for k, _ in self._closed)

    def _read_journal(self) -> set[tuple[str, str]]:
        folder = self._workspace.journal
        sizes = {f.name: f.stat().st_size for f in folder.glob("*.jsonl")}
        if self._journal is None or sizes != self._journal_sizes:
            history = History.read([folder], numbers=False)
            found = {
                (key, attempt.opened.nonce)
                for key, trial in history.trials.items()
                for attempt in trial.attempts.values()
            }
            self._journal, self._journal_sizes = found, sizes
        return self._journal

    def _memory(self) -> _Memory:
        file = self._workspace.study(self.study) / MEMORY
        try:
            return _Memory.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):  # nothing is lost: it is asked again
            return _Memory()

    def _keep(self, memory: _Memory) -> None:
        file = self._workspace.study(self.study) / MEMORY
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{MEMORY}-{secrets.token_hex(4)}")
        temporary.write_text(memory.model_dump_json(indent=1) + "\n")
        temporary.replace(file)


def experiment_of(workspace: Workspace, uri: str, study: str, beside: str = "") -> str:
    """Name of the experiment that a study is written to."""
    return Ownership(workspace, uri, study, beside=beside).experiment


def epochs_in(tags: Iterable[str]) -> list[str]:
    """Epochs among the tags of an experiment."""
    return [name.removeprefix(EPOCH) for name in tags if name.startswith(EPOCH)]


def is_epoch_of(workspace: Workspace, epoch: str) -> bool:
    """Whether a process of this workspace left the epoch, or it was adopted here."""
    return _is_name(epoch) and (workspace.root / EPOCHS / epoch).is_file()


def _nonce(tags: Tags) -> str:
    """Nonce of the attempt that a run shows; empty where it says none."""
    return tags.get(TAG + "attempt", "").partition("-")[2]


def _is_name(text: str) -> bool:
    try:
        identifier("", text)
    except HarnessError:
        return False
    return True
