"""Contract tests that any subject must pass: subclass, give three fixtures, run pytest.

class TestMine(SubjectContract):
@pytest.fixture
def subject(self): ...   # the module
@pytest.fixture
def recipe(self): ...    # a recipe that runs in seconds, as plain data
@pytest.fixture
def protocol(self): ...  # name of a protocol
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.contract import Context, Fingerprints, Measurement, MetricSpec, Report, Subject
from harness.journal.seeds import stream_for


class SubjectContract:
    """What every subject keeps to. Give fixtures `subject`, `recipe` and `protocol`."""

    def test_offers_the_names(self, subject: Subject) -> None:
        assert issubclass(subject.Recipe, BaseModel)
        assert subject.metrics
        assert all(isinstance(spec, MetricSpec) for spec in subject.metrics.values())
        assert any(spec.headline for spec in subject.metrics.values())

    def test_recipe_survives_json(self, subject: Subject, recipe: dict[str, Any]) -> None:
        made = subject.Recipe.model_validate(recipe)
        again = subject.Recipe.model_validate(json.loads(json.dumps(made.model_dump(mode="json"))))
        assert again == made

    def test_fingerprints_are_stable(
        self, subject: Subject, recipe: dict[str, Any], protocol: str
    ) -> None:
        found = subject.fingerprints(recipe, protocol)
        assert isinstance(found, Fingerprints)
        assert found == subject.fingerprints(recipe, protocol)
        assert all((found.data, found.protocol, found.code))

    def test_runs_to_an_outcome(
        self, subject: Subject, recipe: dict[str, Any], protocol: str, tmp_path: Path
    ) -> None:
        reports = run_subject(subject, recipe, protocol, tmp_path)
        assert [r.outcome for r in reports[:-1]] == [None] * (len(reports) - 1)
        assert reports[-1].outcome is not None
        steps = [r.step for r in reports]
        assert steps == sorted(steps)
        measured = [r for r in reports if r.measured]
        assert measured, "a finished run holds a measurement"
        for report in measured:
            unknown = set(report.metrics) - set(subject.metrics)
            assert not unknown, f"measured but not declared in `metrics`: {unknown}"
        for artifact in (a for r in reports for a in r.artifacts if a.kind != "checkpoint"):
            assert (tmp_path / artifact.path).exists(), artifact.path

    def test_same_seeds_same_numbers(
        self, subject: Subject, recipe: dict[str, Any], protocol: str, tmp_path: Path
    ) -> None:
        """Reads randomness from the context only: runs are equal, replicates are not."""
        found = [
            [
                r.metrics
                for r in run_subject(subject, recipe, protocol, tmp_path / str(i), replicate)
                if r.measured
            ]
            for i, replicate in enumerate((0, 0, 1))
        ]
        assert found[0] == found[1]
        assert found[0] != found[2]

    def test_resumes_bit_for_bit(
        self, subject: Subject, recipe: dict[str, Any], protocol: str, tmp_path: Path
    ) -> None:
        whole = run_subject(subject, recipe, protocol, tmp_path / "whole")
        broken = tmp_path / "broken"
        checkpoint = _first_checkpoint(subject, recipe, protocol, broken)
        if checkpoint is None:
            return  # a subject without checkpoints starts again, which is allowed
        rest = run_subject(subject, recipe, protocol, tmp_path / "rest", resume_from=checkpoint)
        assert rest[-1].metrics == whole[-1].metrics


def run_subject(
    subject: Subject,
    recipe: dict[str, Any],
    protocol: str,
    folder: Path,
    replicate: int = 0,
    resume_from: Path | None = None,
) -> Sequence[Report]:
    """Every report of one run in `folder`."""
    return list(subject.run(recipe, _context(protocol, folder, replicate, resume_from)))


def _first_checkpoint(
    subject: Subject, recipe: dict[str, Any], protocol: str, folder: Path
) -> Path | None:
    running = subject.run(recipe, _context(protocol, folder, 0, None))
    for report in running:
        for artifact in report.artifacts:
            if artifact.kind == "checkpoint":
                close = getattr(running, "close", None)
                if close is not None:
                    close()
                return folder / artifact.path
    return None


def _context(protocol: str, folder: Path, replicate: int, resume_from: Path | None) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        key="0" * 16,
        replicate=replicate,
        seed=stream_for(replicate),
        folder=folder,
        measurement=Measurement(protocol=protocol),
        resume_from=resume_from,
        cache=folder / "cache",
    )
