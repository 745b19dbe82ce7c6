"""Kafka as an attacker speaks it: one request, one answer, one error code."""

import ssl
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from watertight.attack.login import TIMEOUT_SECONDS, Login, LoginRefused
from watertight.attack.make import ProbeMaker
from watertight.attack.probe import Observation, Outcome, not_run, refused, served
from watertight.attack.session import Act
from watertight.attack.wire import Closed, Wire
from watertight.servers.kafka.attacks.requests import Request, find
from watertight.servers.kafka.declaration import KIND

NO = {
    29: "TOPIC_AUTHORIZATION_FAILED",
    30: "GROUP_AUTHORIZATION_FAILED",
    31: "CLUSTER_AUTHORIZATION_FAILED",
    53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    61: "DELEGATION_TOKEN_AUTH_DISABLED",
    65: "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
}
"""Errors that are refusals (org.apache.kafka.common.protocol.Errors)."""
OURS = {35: "UNSUPPORTED_VERSION", 42: "INVALID_REQUEST"}
"""Errors that are about how we asked."""
LARGEST = 4 << 20
Listed: TypeAlias = Sequence[Any]
"""How an answer lies: numbers and texts as in ``Request.verdict``, `n` and `N` for a name; a list
is an array of such, a tuple a compact one, of fewer than 127."""

MAKE = ProbeMaker(KIND)


@dataclass(slots=True)
class KafkaDialect:
    """Implements :class:`~watertight.attack.login.Dialect`."""

    enforcer: str = KIND
    alpn: tuple[str, ...] = ()
    lowest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    tells_who: bool = True

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """TLS begins at once, and so does a login in the clear."""

    async def login(self, wire: Wire, login: Login) -> None:
        """Asks for the service's own group: there is no other login, and the broker answers
        nobody else."""
        code = verdict(find(login.service), await asked(wire, find(login.service)))
        if code in NO:
            raise LoginRefused(NO[code])


async def asked(wire: Wire, request: Request) -> bytes:
    """The body of the answer. Raises ``Closed``, ``TimeoutError``."""
    await wire.send(request.encoded(7))
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack(">i", data[:4])[0]:
        if len(data) >= 4 and not 0 <= struct.unpack(">i", data[:4])[0] <= LARGEST:
            raise Closed("what answers is not Kafka")
        more = await wire.receive(TIMEOUT_SECONDS)
        if not more:
            raise Closed("hung up")
        data += more
    return data[8:]


_SIZES = {"b": 1, "h": 2, "i": 4, "q": 8, "t": 1}


def verdict(request: Request, answer: bytes) -> int:
    """The first error code. Raises ``Closed`` where the answer has none."""
    at = 0
    for step in request.verdict:
        if step == "*":
            if len(answer) < at + 2:
                raise Closed("an answer without a verdict")
            return int(struct.unpack(">h", answer[at : at + 2])[0])
        if step == "s":
            at += 2 + max(0, _number(answer, at, ">h"))
        elif step == "S":
            at += max(1, answer[at])
        elif step == "a":
            if _number(answer, at, ">i") < 1:
                raise Closed("an answer without a verdict")
            at += 4
        elif step == "A":
            if answer[at : at + 1] in (b"", b"\x00", b"\x01"):
                raise Closed("an answer without a verdict")
            at += 1
        else:
            at += _SIZES[step]
    raise Closed("an answer without a verdict")


def _number(answer: bytes, at: int, shape: str) -> int:
    found = answer[at : at + struct.calcsize(shape)]
    return int(struct.unpack(shape, found)[0]) if len(found) == struct.calcsize(shape) else -1


def asks(request: Request) -> Act:
    """One request. Only the broker's own words are a refusal: one that hangs up has not
    understood, and then nothing was tried."""

    async def ask(wire: Wire) -> Observation:
        try:
            code = verdict(request, await asked(wire, request))
        except Closed as end:
            return not_run(f"{end} at request {request.api}")
        if code in NO:
            return refused(NO[code])
        if code in OURS:
            return not_run(f"{OURS[code]} at request {request.api}")
        return served(f"permitted, and answered with {code or 'no error'}")

    return ask


def asks_all(requests: Mapping[str, Request]) -> Act:
    """All of them within one session; the first that the broker takes is told."""

    async def ask(wire: Wire) -> Observation:
        for what, request in requests.items():
            seen = await asks(request)(wire)
            if seen.outcome is not Outcome.REFUSED:
                return replace(seen, detail=f"{what}: {seen.detail}")
        return refused(f"all {len(requests)} requests")

    return ask


def sees_only(request: Request, listed: Listed, mine: Callable[[str], bool]) -> Act:
    """Asks for all names: those that are not ``mine`` are not told."""

    async def ask(wire: Wire) -> Observation:
        names = _names(listed, await asked(wire, request))
        others = sorted(name for name in names if not mine(name))
        return served(f"it is told of {', '.join(others)}") if others else refused(f"{len(names)}")

    return ask


TOPICS: Listed = ("i", ["isis"], "si", ["hnb", ["hii", ["i"], ["i"]]])
GROUPS: Listed = ("ih", ["ns"])
TRANSACTIONS: Listed = ("tih", ("S",), ("NqSt",))


def _names(listed: Listed, answer: bytes) -> frozenset[str]:
    """All that stands at an `n` or `N`. Raises ``Closed`` where the answer is of another shape."""
    found: set[str] = set()

    def walk(steps: Listed, at: int) -> int:
        for step in steps:
            if not isinstance(step, str):
                compact = isinstance(step, tuple)
                count = answer[at] - 1 if compact else _number(answer, at, ">i")
                at += 1 if compact else 4
                for _ in range(count):
                    at = walk(step, at)
                continue
            for kind in step:
                if kind in "sn":
                    start, size = at + 2, max(0, _number(answer, at, ">h"))
                elif kind in "SN":
                    start, size = at + 1, max(0, answer[at] - 1)
                else:
                    start, size = at, _SIZES[kind]
                at = start + size
                if kind in "nN":
                    found.add(answer[start:at].decode(errors="replace"))
        return at

    try:
        end = walk(listed, 0)
    except IndexError as error:
        raise Closed("an answer that ends too early") from error
    if end > len(answer):
        raise Closed("an answer that ends too early")
    return frozenset(found)
