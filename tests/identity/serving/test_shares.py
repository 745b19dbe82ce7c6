"""What one workload asks costs the others nothing: sizes, rates and numbers at identity doors."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import grpc
import pytest
import structlog

from tests.identity.serving.authority import Identities
from tests.identity.serving.client import Client, client
from watertight.control.eventlog import BURST_OF_A_KIND, FIELD_CHARACTERS, EventLog
from watertight.identity.jwt_svid import MAX_AUDIENCE_BYTES, MAX_AUDIENCES_BYTES
from watertight.identity.workload_api import shares
from watertight.identity.workload_api.endpoint import MESSAGE_BYTES, IdentityEndpoint

CONNECTS = 3_000


async def refused(call: object) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return error.value.code()


@pytest.fixture
def issued(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The audiences of every token that is signed."""
    signed: list[tuple[str, ...]] = []
    sign = identities.jwt_svid

    def counted(workload: str, audiences: tuple[str, ...]) -> str:
        signed.append(audiences)
        return sign(workload, audiences)

    monkeypatch.setattr(identities, "jwt_svid", counted)
    return signed


@pytest.mark.parametrize(
    "audiences",
    [
        ("x" * (MAX_AUDIENCE_BYTES + 1),),
        ("é" * MAX_AUDIENCE_BYTES,),
        tuple(
            "y" * MAX_AUDIENCE_BYTES for _ in range(MAX_AUDIENCES_BYTES // MAX_AUDIENCE_BYTES + 1)
        ),
    ],
    ids=["one", "in bytes", "together"],
)
async def test_long_audiences_are_refused(
    orders: Client, issued: list[tuple[str, ...]], audiences: tuple[str, ...]
) -> None:
    assert await refused(orders.fetch_jwt(*audiences)) is grpc.StatusCode.INVALID_ARGUMENT
    assert issued == []


async def test_long_requests_are_not_read(orders: Client, issued: list[tuple[str, ...]]) -> None:
    code = await refused(orders.fetch_jwt("x" * MESSAGE_BYTES))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert issued == []


async def test_a_client_that_asks_each_time_gets_the_token_it_has(
    orders: Client, issued: list[tuple[str, ...]]
) -> None:
    tokens = {(await orders.fetch_jwt("a")).svids[0].svid for _ in range(300)}
    assert len(tokens) == 1
    assert issued == [("a",)]


async def test_a_kept_token_ends_with_the_authority_that_signed_it(
    orders: Client, identities: Identities, issued: list[tuple[str, ...]]
) -> None:
    await orders.fetch_jwt("a")
    identities.rotate_leaf("orders")  # as any change of what the source has
    await orders.fetch_jwt("a")
    assert issued == [("a",), ("a",)]


async def test_signing_has_a_rate(orders: Client, issued: list[tuple[str, ...]]) -> None:
    """One workload cannot fill the audit log; what it has already it is given all the same."""
    asked = shares.ISSUES_AT_ONCE + 50
    calls = (orders.fetch_jwt(f"audience {number}") for number in range(asked))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    codes = {a.code() for a in answers if isinstance(a, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(issued) < asked
    assert await orders.fetch_jwt(*issued[-1])
    assert await orders.fetch_jwt("who waits a moment gets one")


async def test_streams_have_a_number(
    endpoint: IdentityEndpoint, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "STREAMS", 20)
    await endpoint.open(short / "api.sock")
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(client(short / "api.sock"))
        streams = [held.stream("FetchX509SVID") for _ in range(20)]
        await asyncio.gather(*(stream.next() for stream in streams))
        other = await stack.enter_async_context(client(short / "api.sock"))
        code = await refused(other.stream("FetchX509SVID").next())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


class ControlLog:
    """The control plane's log, as `watertight up` configures it, on a clock of the test's."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self.events = EventLog(path, lambda: self.now)
        self._path = path

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


@pytest.fixture
def control_log(tmp_path: Path) -> Iterator[ControlLog]:
    log = ControlLog(tmp_path / "control.log")
    structlog.configure(
        processors=log.events.processors(),
        logger_factory=structlog.WriteLoggerFactory(log.events),  # type: ignore[arg-type]
    )
    yield log
    structlog.reset_defaults()


async def test_connecting_and_closing_fills_no_log(
    endpoint: IdentityEndpoint, short: Path, control_log: ControlLog
) -> None:
    """Thousands of connections that end at once; another door answers meanwhile."""
    await endpoint.open(short / "theirs.sock")
    await endpoint.open(short / "ours.sock")

    def flood() -> None:
        for _ in range(CONNECTS):
            with socket.socket(socket.AF_UNIX) as caller, suppress(BlockingIOError):
                caller.setblocking(False)
                caller.connect(str(short / "theirs.sock"))

    flooding = asyncio.ensure_future(asyncio.to_thread(flood))
    async with client(short / "ours.sock") as connected:
        await connected.stream("FetchX509SVID").next()
    await flooding
    assert sum(map(len, control_log.lines())) < 64_000


def test_the_log_says_how_much_it_dropped(control_log: ControlLog) -> None:
    logger = structlog.get_logger()
    for _ in range(1_000):
        logger.warning("identity.listener.refused", path="x" * 100_000)
    logger.warning("something.else")
    *many, last = map(json.loads, control_log.lines())
    assert last["event"] == "something.else"
    assert len(many) == BURST_OF_A_KIND
    assert max(len(line["path"]) for line in many) == FIELD_CHARACTERS
    control_log.events.settle()
    assert len(control_log.lines()) == len(many) + 1, "the flood may go on"
    control_log.now = BURST_OF_A_KIND + 1
    control_log.events.settle()
    told = json.loads(control_log.lines()[-1])
    assert (told["of"], told["dropped"]) == ("identity.listener.refused", 1_000 - BURST_OF_A_KIND)


def test_no_local_variable_gets_into_the_log(control_log: ControlLog) -> None:
    """A traceback's frames hold keys and tokens."""
    private_key = "-----BEGIN" + " PRIVATE KEY-----"
    try:
        raise ValueError(len(private_key))
    except ValueError:
        structlog.get_logger().exception("it_failed")
    (line,) = control_log.lines()
    assert "ValueError" in line
    assert "PRIVATE KEY" not in line
