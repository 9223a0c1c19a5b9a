"""What every test starts with."""

import sys
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.support.executor_contract")


@pytest.fixture(scope="session")
def path_of_tests() -> list[str]:
    return [*sys.path]


@pytest.fixture(autouse=True)
def _path_is_put_back(path_of_tests: list[str]) -> Iterator[None]:
    """Loading a subject puts `sys.path` in order for it, for good; the next test has another.

    One of ours moves the root of the repository to the end. Workers of Ray get the driver's path,
    and would find the `tests` of an installed package first.
    """
    yield
    sys.path[:] = path_of_tests
