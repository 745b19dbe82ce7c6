"""How the tests are shared out where several processes run them (``make test``).

Each file's tests run in one process, for they share its servers. What takes longest begins first,
so that no process is left with it at the end.
"""

import fcntl
import os
import signal
from collections.abc import Iterator

# Programs that a test starts beside a gRPC server are no servers, and one in thousands died of it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import hypothesis.internal.observability  # noqa: F401 - its plugin does so at the very end, where
import pytest  # Python 3.11.7 cannot compile any more after a test of deeply nested answers
import structlog
from hypothesis import settings

import watertight.enforcers.registry  # noqa: F401 - tells the model which kinds there are
from tests.exhaustive import is_exhaustive
from tests.keeper import keep_house

LONGEST_FIRST = (
    "tests/system/test_shop",
    "tests/system/test_endings",
    "tests/servers/together",
    "tests/docs",
    "tests/servers/rabbitmq",
    "tests/dataplane/attacks",
    "tests/system",
    "tests/servers/postgresql",
    "tests/sdk",
    "tests/runtime",
    "tests/examples",
    "tests/servers/nats",
    "tests/dataplane",
)

# How long one example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """From here on, what is left of this run is somebody's to remove (:mod:`tests.keeper`)."""
    if not hasattr(config, "workerinput"):
        keep_house()


def pytest_keyboard_interrupt() -> None:
    """The end begins; who interrupts it again only hides what was to be said."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the tests, and leaves out what :mod:`tests.exhaustive` names."""
    for item in items:
        if is_exhaustive(item.nodeid):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    for turn, start in enumerate(LONGEST_FIRST):
        if nodeid.startswith(start):
            return turn
    return len(LONGEST_FIRST)


@pytest.fixture
def host_loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The loopback addresses of this host's own network, which one shop at a time can have."""
    # The processes of one run have directories of their own below a common one.
    with (tmp_path_factory.getbasetemp().parent / "host_loopback.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def logs_to_nobody_s_stream() -> Iterator[None]:
    """A command that ran in this process has sent its log to a stream that is closed by now."""
    yield
    structlog.reset_defaults()
