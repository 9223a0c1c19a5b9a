"""Stages of the trainer's study, and what it says undisturbed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.aftermath import Undisturbed, undisturbed
from tests.faults.stage import Stage


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The study run without a fault, MLflow included; to be read only."""
    made = Stage(tmp_path_factory.mktemp("undisturbed"))
    made.completes("--inline")
    return made


@pytest.fixture(scope="session")
def expected(whole: Stage) -> Undisturbed:
    return undisturbed(whole.workspace)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "project")
    yield made
    made.close()
