"""The fake world's protocol, loaded once, and two students measured under it."""

from __future__ import annotations

import pytest

from evaluation.measure import Measured, measure
from evaluation.protocol import Protocol
from evaluation.world import World, load_world
from tests.evaluation.fake_world import collapsed_student, fake_protocol, good_student


@pytest.fixture(scope="session")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    return fake_protocol(tmp_path_factory.mktemp("protocol"))


@pytest.fixture(scope="session")
def world(protocol: Protocol) -> World:
    return load_world(protocol)


@pytest.fixture(scope="session")
def good(protocol: Protocol, world: World) -> Measured:
    return measure(good_student, protocol, world)


@pytest.fixture(scope="session")
def collapsed(protocol: Protocol, world: World) -> Measured:
    return measure(collapsed_student, protocol, world)
