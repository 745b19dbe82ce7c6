"""The shop, running, as root and as an ordinary user; and a small system."""

import os
from collections.abc import Iterator

import pytest

from tests.system.running import RunningSystem, SmallSystem, shop, small_system

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this is what root adds")


@pytest.fixture(
    scope="module",
    params=[pytest.param(True, marks=needs_root, id="root"), pytest.param(False, id="no-root")],
)
def running_shop(request: pytest.FixtureRequest) -> Iterator[RunningSystem]:
    """Sealed; shared by the tests of a module, each of which leaves it as it was."""
    with shop(as_root=request.param) as system:
        system.start()
        system.drive_traffic()  # so that there is an order to read
        yield system


@pytest.fixture
def fresh_shop() -> Iterator[RunningSystem]:
    """Not started; for tests that end it."""
    with shop(as_root=os.geteuid() == 0) as system:
        yield system


@pytest.fixture
def fresh_small() -> Iterator[SmallSystem]:
    """One service behind a gateway, not started; for tests to which it is all the same."""
    with small_system(as_root=os.geteuid() == 0) as system:
        yield system


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What does not depend on who runs it is run once by `make test`."""
    for item in items:
        twice = os.geteuid() == 0 and "[no-root" in item.nodeid
        if twice and item.get_closest_marker("once") is not None:
            item.add_marker(pytest.mark.slow)
