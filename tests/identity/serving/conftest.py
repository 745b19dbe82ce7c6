"""What the tests of the identity doors share."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.identity.serving.authority import Clock, Identities
from tests.identity.serving.client import Client, client
from watertight.identity.attestation import Process, ProcessTreeAttestor, start_ticks
from watertight.identity.workload_api.endpoint import IdentityEndpoint


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a Unix socket's name, open to every uid."""
    with tempfile.TemporaryDirectory(prefix="wt-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def identities() -> Identities:
    """Two workloads with an SVID each."""
    return Identities("orders", "payments")


@pytest.fixture
def attestor() -> ProcessTreeAttestor:
    """Takes this process, and all that it starts, for ``orders``."""
    attestor = ProcessTreeAttestor()
    attestor.admit("orders", Process(os.getpid(), start_ticks(os.getpid())), {os.geteuid()})
    return attestor


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


@pytest.fixture
async def endpoint(
    identities: Identities, attestor: ProcessTreeAttestor, clock: Clock, short: Path
) -> AsyncIterator[IdentityEndpoint]:
    """Doors without one opened yet."""
    async with IdentityEndpoint(identities, attestor, short / "private", clock) as endpoint:
        yield endpoint


@pytest.fixture
async def door(endpoint: IdentityEndpoint, short: Path) -> Path:
    """A door at which this process is ``orders``."""
    await endpoint.open(short / "api.sock")
    return short / "api.sock"


@pytest.fixture
async def orders(door: Path) -> AsyncIterator[Client]:
    """A client that is attested as ``orders``."""
    async with client(door) as connected:
        yield connected


@pytest.fixture
async def nobody(
    endpoint: IdentityEndpoint, attestor: ProcessTreeAttestor, door: Path
) -> AsyncIterator[Client]:
    """A client that is attested as no workload."""
    attestor.withdraw("orders")
    async with client(door) as connected:
        yield connected
