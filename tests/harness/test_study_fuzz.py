"""Mutated study files: only our errors, each with a place, no hang; what is still valid plans."""

from __future__ import annotations

import resource
import signal
import warnings
from pathlib import Path
from types import FrameType

import pytest

from harness.errors import StudyError
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.planning.make import make_plan
from harness.planning.printed import lines_of
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy
from harness.study.yaml_file import read_text
from tests.harness.study_mutants import LAUGHS, ROOT, mutant

SECONDS = 20
"""Most processor time of one input; nearly all take hundredths."""
GROWTH_KIB = 1_000_000


class HangError(Exception):
    pass


def _late(number: int, frame: FrameType | None) -> None:
    raise HangError


def _placed(error: StudyError) -> bool:
    assert error.problems
    assert all(p.line and p.column and p.message for p in error.problems)
    return True


def survives(seed: int, folder: Path) -> bool:
    """Load a mutant and, if it is valid, plan it; true if it was valid."""
    file, text = mutant(seed)
    place = folder / file.parent.name
    place.mkdir(exist_ok=True)
    target = place / "study.yaml"
    target.write_text(text.replace("../../", f"{ROOT}/"), encoding="utf-8", errors="replace")
    before = signal.signal(signal.SIGPROF, _late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                made = load_study(target)
            except StudyError as error:
                return not _placed(error)
            planned = make_plan(
                OpenedStudy(made, Workspace(folder / "w"), history=History()), check_devices=False
            )
            assert planned.trials
            assert lines_of(planned, "study.yaml", arms=True)
            assert len(planned.model_dump_json()) > 0
            return True
    except Exception as error:
        raise AssertionError(f"seed {seed}, {file.parent.name}: {type(error).__name__}") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fuzz(seeds: range, folder: Path) -> int:
    """How many of the mutants were valid; fails at the first that is not handled."""
    (folder / "pyproject.toml").touch()
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    valid = sum(survives(seed, folder) for seed in seeds)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < GROWTH_KIB
    return valid


def test_300_mutants(tmp_path: Path):
    valid = fuzz(range(300), tmp_path)
    assert 10 < valid < 290, "both kinds are reached"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_10000_mutants(tmp_path: Path):
    assert fuzz(range(1000, 11_000), tmp_path) > 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "nodes"),
        ("[" * 3000 + "]" * 3000, "nested"),
        ("a: " + "{b: " * 300 + "1" + "}" * 300, "nested"),
        ("a: " + "9" * 5000, "not a number"),
        ("a: " + "x" * 3_000_000, "at most"),
    ],
)
def test_bombs_are_refused_with_a_place(text: str, said: str):
    document = read_text(Path("bomb.yaml"), text)
    assert any(said in p.message and p.line and p.column for p in document.problems)


@pytest.mark.parametrize("line", ["recipe: {name}", "recipe: {{}}\nprotocol: {name}"])
def test_names_that_no_file_can_have(tmp_path: Path, line: str):
    head = "name: demo\nquestion: Why?\nsubject: harness.testing.stub\nfactors: {part.x: [0.0]}\n"
    file = tmp_path / "study.yaml"
    file.write_text(head + line.format(name="x" * 400 + "/x.yaml"))
    (tmp_path / "pyproject.toml").touch()
    if line.startswith("recipe: {name}"):
        with pytest.raises(StudyError, match="no recipe file"):
            load_study(file)
    else:
        load_study(file)  # the stub takes any name for a protocol
