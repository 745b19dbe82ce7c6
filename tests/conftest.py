"""How the tests are shared out where several processes run them (``make test``).

A file's tests stay together and in order, for they share its servers; what takes longest begins
first, so that no process is left with it at the end.
"""

import pytest

LONGEST_FIRST = (
    "tests/system",
    "tests/rabbitmq",
    "tests/docs",
    "tests/resources",
    "tests/runtime",
    "tests/sdk",
    "tests/examples",
    "tests/envoy",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the tests, and says which of them go together."""
    items.sort(key=lambda item: _turn(item.nodeid))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _turn(nodeid: str) -> int:
    for turn, folder in enumerate(LONGEST_FIRST):
        if nodeid.startswith(folder):
            return turn
    return len(LONGEST_FIRST)
