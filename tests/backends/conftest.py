"""Servers that the tests of this folder share; each is started once, on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import servers


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    with servers.postgres() as address:
        yield address


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    with servers.s3() as address:
        yield address


@pytest.fixture(scope="module")
def tracking(
    database: str, endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Tracking]:
    made = servers.Tracking(database, endpoint, tmp_path_factory.mktemp("mlflow"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cluster() -> Iterator[servers.RayCluster]:
    made = servers.RayCluster()
    try:
        made.add(1)
        made.add(1)
        yield made
    finally:
        made.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "project"
