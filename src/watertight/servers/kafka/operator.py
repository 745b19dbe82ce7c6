"""The operator: how we ask and change a running broker, with the server's own SVID.

Over the listener on which the broker talks to itself, by a few requests of Kafka's protocol: a tool
in Java would take seconds for each (ADR 46). It verifies the broker as every client must.
"""

import asyncio
import itertools
import ssl
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.errors import WatertightError
from watertight.servers.kafka import wire
from watertight.servers.kafka.compile import NODE, KafkaGrants
from watertight.servers.kafka.facts import ACL, Entity
from watertight.servers.kafka.wire import Answer
from watertight.servers.kind import RunsOtherwise
from watertight.servers.served import own_identity

TIMEOUT_SECONDS = 15.0
READY_SECONDS = 60.0
POLL_SECONDS = 0.05
STRANGERS_SECONDS = 5.0
"""Files are put in place one after the other, so a first look may be at some of each."""
STRANGERS = "the broker and its operator do not trust each other"
_MAX_ANSWER_BYTES = 64 << 20
BROKEN = (OSError, EOFError, ValueError, TimeoutError)
"""How a connection may end, TLS errors (OSError) and answers of another shape among them."""
TOPIC_CONFIG, BROKER_CONFIG = 2, 4
OF_TOPIC, OF_BROKER, OF_ALL_BROKERS, OF_FILE = 1, 2, 3, 4
"""Where a setting comes from (DescribeConfigs, ``config_source``)."""
SET, DELETE = 0, 1
ANY, MATCH = 1, 1
AS_MANY = -1
_MILLISECONDS = 10_000


class BrokerUnreachable(WatertightError):
    """The broker does not let the operator in, or does not answer."""


class BrokerRefused(WatertightError):
    """The broker answers with an error."""


Configs = Mapping[str, tuple[str | None, int]]
"""Name → value (None where it is secret) and source."""


class Operator:
    """An open connection. Made by :func:`operator`; one request at a time.

    Every method raises :class:`BrokerRefused`, :class:`BrokerUnreachable`.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, resource: str
    ) -> None:
        self._reader, self._writer, self._resource = reader, writer, resource
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Ends it at once."""
        self._writer.transport.abort()

    async def topics(self) -> Mapping[str, tuple[int, bool]]:
        """Every topic → how many partitions it has, and whether it is the broker's own."""
        answer = await self._ask(3, 4, wire.array(None) + wire.int8(0))
        answer.int32()
        answer.array(lambda: (answer.int32(), answer.text(), answer.int32(), answer.string()))
        answer.string(), answer.int32()

        def partition() -> None:
            answer.int16(), answer.int32(), answer.int32()
            answer.array(answer.int32), answer.array(answer.int32)

        def topic() -> tuple[str, tuple[int, bool]]:
            answer.int16()
            name, internal = answer.text(), bool(answer.int8())
            return name, (len(answer.array(partition)), internal)

        return dict(answer.array(topic))

    async def configs(self, kind: int, names: Iterable[str]) -> Mapping[str, Configs]:
        """Of each topic or node, all that it is set to."""
        body = wire.array(wire.int8(kind) + wire.string(name) + wire.array(None) for name in names)
        answer = await self._ask(32, 1, body + wire.int8(0))
        answer.int32()

        def config() -> tuple[str, tuple[str | None, int]]:
            name, value = answer.text(), answer.string()
            answer.int8()
            source, secret = answer.int8(), answer.int8()
            answer.array(lambda: (answer.text(), answer.string(), answer.int8()))
            return name, (None if secret else value, source)

        def one() -> tuple[str, Configs]:
            self._judge("DescribeConfigs", answer.int16(), answer.string())
            answer.int8()
            return answer.text(), dict(answer.array(config))

        return dict(answer.array(one))

    async def alter(
        self, kind: int, name: str, changes: Iterable[tuple[str, int, str | None]]
    ) -> None:
        """Sets and unsets settings of a topic or node: name, SET or DELETE, value."""
        items = [wire.string(n) + wire.int8(how) + wire.string(value) for n, how, value in changes]
        one = wire.int8(kind) + wire.string(name) + wire.array(items)
        answer = await self._ask(44, 0, wire.array([one]) + wire.int8(0))
        answer.int32()

        def judged() -> None:
            self._judge("IncrementalAlterConfigs", answer.int16(), answer.string())
            answer.int8(), answer.string()

        answer.array(judged)

    async def create_topic(self, name: str, partitions: int, settings: Mapping[str, str]) -> None:
        """A topic with as many copies as the broker makes: ours makes none."""
        set_to = (wire.string(key) + wire.string(value) for key, value in settings.items())
        one = wire.string(name) + wire.int32(partitions) + wire.int16(AS_MANY) + wire.array([])
        body = wire.array([one + wire.array(set_to)]) + wire.int32(_MILLISECONDS) + wire.int8(0)
        answer = await self._ask(19, 2, body)
        answer.int32()
        answer.array(lambda: self._named(f"topic {name}", answer, told=True))

    async def grow_topic(self, name: str, partitions: int) -> None:
        """More partitions; what is in the topic stays where it is."""
        one = wire.string(name) + wire.int32(partitions) + wire.array(None)
        body = wire.array([one]) + wire.int32(_MILLISECONDS) + wire.int8(0)
        answer = await self._ask(37, 0, body)
        answer.int32()
        answer.array(lambda: self._named(f"partitions of {name}", answer, told=True))

    async def delete_topic(self, name: str) -> None:
        """With all that is in it."""
        body = wire.array([wire.string(name)]) + wire.int32(_MILLISECONDS)
        answer = await self._ask(20, 1, body)
        answer.int32()
        answer.array(lambda: self._named(f"the end of topic {name}", answer))

    async def empty(self, name: str, partitions: int) -> bool:
        """Whether nothing can be read from a topic."""
        ends = [await self._offsets(name, partitions, when) for when in (-2, -1)]
        return ends[0] == ends[1]

    async def _offsets(self, name: str, partitions: int, when: int) -> Mapping[int, int]:
        """``when``: -2 for the first offset of each partition, -1 for that after the last."""
        wanted = wire.array(wire.int32(n) + wire.int64(when) for n in range(partitions))
        body = wire.int32(-1) + wire.array([wire.string(name) + wanted])
        answer = await self._ask(2, 1, body)

        def partition() -> tuple[int, int]:
            number = answer.int32()
            self._judge(f"offsets of {name}", answer.int16())
            answer.int64()
            return number, answer.int64()

        found = answer.array(lambda: (answer.string(), answer.array(partition))[1])
        return {number: offset for partitions in found for number, offset in partitions}

    async def acls(self) -> frozenset[ACL]:
        """Every entry."""
        answer = await self._ask(29, 1, _filter(None))
        answer.int32()
        self._judge("DescribeAcls", answer.int16(), answer.string())

        def one() -> list[ACL]:
            kind, name, pattern = answer.int8(), answer.text(), answer.int8()
            return answer.array(
                lambda: ACL(
                    kind,
                    name,
                    pattern,
                    answer.text(),
                    answer.text(),
                    answer.int8(),
                    answer.int8(),
                )
            )

        return frozenset(acl for entries in answer.array(one) for acl in entries)

    async def create_acls(self, acls: Iterable[ACL]) -> None:
        """Adds entries."""
        entries = (
            wire.int8(acl.resource_type)
            + wire.string(acl.name)
            + wire.int8(acl.pattern)
            + wire.string(acl.principal)
            + wire.string(acl.host)
            + wire.int8(acl.operation)
            + wire.int8(acl.permission)
            for acl in acls
        )
        answer = await self._ask(30, 1, wire.array(entries))
        answer.int32()
        answer.array(lambda: self._judge("CreateAcls", answer.int16(), answer.string()))

    async def delete_acls(self, acls: Iterable[ACL]) -> None:
        """Takes entries away, those and no others."""
        await self._delete(_filter(acl) for acl in acls)

    async def delete_all_acls(self, principal: str) -> None:
        """Takes away all that one principal may do."""
        await self._delete([_filter(None, principal=principal)])

    async def _delete(self, filters: Iterable[bytes]) -> None:
        answer = await self._ask(31, 1, wire.array(filters))
        answer.int32()

        def entry() -> None:
            self._judge("DeleteAcls", answer.int16(), answer.string())
            answer.int8(), answer.string(), answer.int8()
            answer.string(), answer.string(), answer.int8(), answer.int8()

        def judged() -> None:
            self._judge("DeleteAcls", answer.int16(), answer.string())
            answer.array(entry)

        answer.array(judged)

    async def quotas(self) -> Mapping[Entity, Mapping[str, float]]:
        """Whoever has one."""
        answer = await self._ask(48, 0, wire.array([]) + wire.int8(0))
        answer.int32()
        self._judge("DescribeClientQuotas", answer.int16(), answer.string())

        def one() -> tuple[Entity, Mapping[str, float]]:
            entity = tuple(answer.array(lambda: (answer.text(), answer.string())))
            return entity, dict(answer.array(lambda: (answer.text(), answer.float64())))

        return dict(answer.array(one))

    async def alter_quota(self, entity: Entity, values: Mapping[str, float | None]) -> None:
        """``values``: name → number, or None for none."""
        whom = wire.array(wire.string(kind) + wire.string(name) for kind, name in entity)
        operations = wire.array(
            wire.string(name) + wire.float64(value or 0.0) + wire.int8(value is None)
            for name, value in values.items()
        )
        answer = await self._ask(49, 0, wire.array([whom + operations]) + wire.int8(0))
        answer.int32()

        def judged() -> None:
            self._judge("AlterClientQuotas", answer.int16(), answer.string())
            answer.array(lambda: (answer.text(), answer.string()))

        answer.array(judged)

    def _named(self, what: str, answer: Answer, *, told: bool = False) -> None:
        answer.string()
        self._judge(what, answer.int16(), answer.string() if told else None)

    def _judge(self, what: str, code: int, said: str | None = None) -> None:
        if code:
            raise BrokerRefused(
                f"{self._resource}: the broker refuses {what}: error {code}"
                + (f", {said}" if said else "")
            )

    async def _ask(self, api: int, version: int, body: bytes) -> Answer:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                number = next(self._numbers)
                self._writer.write(wire.request(api, version, number, body))
                size: int = struct.unpack(">i", await self._reader.readexactly(4))[0]
                if not 0 <= size <= _MAX_ANSWER_BYTES:
                    raise wire.Malformed(f"an answer of {size} bytes")
                answer = Answer(await self._reader.readexactly(size))
                if answer.int32() != number:
                    raise wire.Malformed("an answer to another request")
                return answer
        except BROKEN as error:
            raise unreachable(self._resource, error) from error


def _filter(acl: ACL | None, principal: str | None = None) -> bytes:
    """What DescribeAcls and DeleteAcls look for; None: all of ``principal``'s, or all."""
    if acl is None:
        anywhere = wire.int8(ANY) + wire.string(None) + wire.int8(ANY)
        return anywhere + wire.string(principal) + wire.string(None) + wire.int8(ANY) * 2
    return (
        wire.int8(acl.resource_type)
        + wire.string(acl.name)
        + wire.int8(acl.pattern)
        + wire.string(acl.principal)
        + wire.string(acl.host)
        + wire.int8(acl.operation)
        + wire.int8(acl.permission)
    )


@asynccontextmanager
async def operator(
    plan: ServerPlan, host: ServerHost, *, within_seconds: float = READY_SECONDS
) -> AsyncIterator[Operator]:
    """Comes in, and waits until the broker can be asked; a port alone says nothing of that.

    Raises :class:`BrokerUnreachable`, and
    :class:`~watertight.servers.kind.RunsOtherwise` where one of the two has no certificate that the
    other trusts: the broker has missed a change of root, or its certificate has ended.
    """
    clock = asyncio.get_running_loop()
    began = clock.time()
    while True:
        try:
            session = await _enter(plan, host)
            break
        except (BrokerUnreachable, BrokerRefused) as error:
            if clock.time() >= began + STRANGERS_SECONDS and _are_strangers(error.__cause__):
                raise RunsOtherwise(f"{STRANGERS}: {error.__cause__}") from error
            if clock.time() >= began + within_seconds or not await host.running():
                raise
        await asyncio.sleep(POLL_SECONDS)
    try:
        yield session
    finally:
        session.close()


async def _enter(plan: ServerPlan, host: ServerHost) -> Operator:
    grants: KafkaGrants = plan.grants
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            context = own_identity(host.placement.credentials(plan.resource))
            sock = await host.connect(grants.internal_port)
            try:
                streams = await asyncio.open_connection(
                    sock=sock, ssl=context, server_hostname=plan.resource
                )
            except BaseException:
                sock.close()
                raise
    except BROKEN as error:
        raise unreachable(plan.resource, error) from error
    session = Operator(*streams, plan.resource)
    try:
        await session.acls()  # answered once the broker has read what it keeps
        await session.configs(BROKER_CONFIG, [NODE])
    except BaseException:
        session.close()
        raise
    return session


def _are_strangers(error: BaseException | None) -> bool:
    """Whether one end does not trust the other: by what OpenSSL calls its own verdict, or the alert
    that it was sent (RFC 8446, section 6.2)."""
    reason = error.reason or "" if isinstance(error, ssl.SSLError) else ""
    return reason == "CERTIFICATE_VERIFY_FAILED" or (
        "_ALERT_" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)
    )


def unreachable(resource: str, error: Exception) -> BrokerUnreachable:
    """The error for a connection that ended so."""
    return BrokerUnreachable(
        f"{resource} does not answer its operator: {error or type(error).__name__}",
        remedy=f"Look at the log of {resource}.",
    )
