"""A study that has run, to reproduce trials of; its journal can be edited by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from harness.journal.history import History, TrialHistory
from harness.journal.workspace import Workspace
from harness.reproduce.entry import reproduction
from harness.reproduce.reproduction import Reproduction
from harness.running.run_study import run
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy

STUDY = """
name: again
question: Does it come out again?
subject: {subject}
recipe: {{cycles: 2}}
factors:
  part.x: [0.0, 1.0]
replicates: {replicates}
protocol: v1
primary: score
"""
CLAIM = """
baseline: {{part.x: 0.0}}
contrasts:
  - {{id: H1, claim: x helps, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}}}
"""


class Lab:
    """A project with one study that has run."""

    def __init__(
        self,
        root: Path,
        subject: str = "harness.testing.stub_measured",
        replicates: int = 2,
        more: str = "",
        **options: Any,
    ) -> None:
        root.mkdir(exist_ok=True)
        (root / "pyproject.toml").write_text("")
        self.file = root / "studies" / "again" / "study.yaml"
        self.file.parent.mkdir(parents=True)
        text = STUDY + more
        self.file.write_text(text.format(subject=subject, replicates=replicates))
        self.workspace = Workspace(root / "stillhouse-workspace")
        self.run(**options)

    def run(self, **options: Any) -> None:
        self._run(self.file, **options)

    def run_other(self, name: str, text: str) -> None:
        """Run another study of the project, in the same workspace."""
        file = self.file.parents[1] / name / "study.yaml"
        file.parent.mkdir()
        file.write_text(text)
        self._run(file)

    def _run(self, file: Path, **options: Any) -> None:
        loaded = load_study(file)
        code = run(
            OpenedStudy(loaded, self.workspace),
            executor="inline",
            echo=lambda _: None,
            **{"tracker": None, **options},
        ).exit_code
        assert code == 0

    def copy(self, root: Path) -> Lab:
        """One that a test may spoil."""
        copied = object.__new__(Lab)
        shutil.copytree(self.workspace.root.parent, root)
        copied.file = root / "studies" / "again" / "study.yaml"
        copied.workspace = Workspace(root / "stillhouse-workspace")
        return copied

    @property
    def history(self) -> History:
        return History.read([self.workspace.journal])

    def of_kind(self, kind: str) -> list[TrialHistory]:
        found = [t for t in self.history.trials.values() if t.ordered[0].opened.trial.kind == kind]
        return sorted(found, key=lambda t: t.key)

    @property
    def key(self) -> str:
        return self.of_kind("trial")[0].key

    def key_at(self, x: float, replicate: int) -> str:
        trials = [t.ordered[0].opened.trial for t in self.of_kind("trial")]
        found = [t for t in trials if t.replicate == replicate and t.recipe["part"]["x"] == x]
        return found[0].key

    def again(self, depth: Any = "auto", key: str | None = None, **options: Any) -> Reproduction:
        options = {"workspace": self.workspace, "echo": lambda _: None, **options}
        return reproduction(self.key if key is None else key, depth=depth, **options)

    def edit_journal(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Rewrite every record of the journal by hand, as one should not."""
        for file in self.workspace.journal.glob("*.jsonl"):
            records = [json.loads(line) for line in file.read_text().splitlines()]
            for record in records:
                change(record)
            file.write_text("".join(json.dumps(r) + "\n" for r in records))

    def forget(self, keys: Collection[str]) -> None:
        """Take trials out of the journal, as if they had not run yet; the plan still holds them."""
        for file in self.workspace.journal.glob("*.jsonl"):
            records = [json.loads(line) for line in file.read_text().splitlines()]
            kept = [r for r in records if r.get("key") not in keys or r["type"] == "trial"]
            file.write_text("".join(json.dumps(r) + "\n" for r in kept))

    def move(self, shifts: dict[str, float], metric: str = "score") -> None:
        """Shift recorded numbers, by trial key: as if they had come out so."""

        def change(record: dict[str, Any]) -> None:
            if record["type"] == "closed" and record["key"] in shifts:
                record["measurements"][-1]["metrics"][metric] += shifts[record["key"]]

        self.edit_journal(change)
