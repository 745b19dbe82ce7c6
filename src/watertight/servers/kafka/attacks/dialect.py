"""Kafka as an attacker speaks it: one request, one answer, one error code."""

import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from watertight.attack.login import TIMEOUT_SECONDS, Login, LoginRefused
from watertight.attack.make import ProbeMaker
from watertight.attack.probe import Observation, Outcome, not_run, refused, served
from watertight.attack.session import Act
from watertight.attack.wire import Closed, Wire
from watertight.servers.kafka.attacks.requests import EVERYTHING, Request, find
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


def sees_only(topics: frozenset[str]) -> Act:
    """Asks for all names: those of others are not told."""

    async def ask(wire: Wire) -> Observation:
        names = _names(await asked(wire, EVERYTHING))
        others = sorted(names - topics)
        return served(f"it is told of {', '.join(others)}") if others else refused(f"{len(names)}")

    return ask


def _names(answer: bytes) -> frozenset[str]:
    """Of the topics in an answer to ``EVERYTHING``."""
    at, names = 4, set()

    def number(shape: str) -> int:
        nonlocal at
        found = _number(answer, at, shape)
        at += struct.calcsize(shape)
        return found

    def name() -> str:
        nonlocal at
        size = max(0, number(">h"))
        at += size
        return answer[at - size : at].decode(errors="replace")

    for _ in range(number(">i")):
        number(">i"), name(), number(">i"), name()
    name(), number(">i")
    for _ in range(number(">i")):
        number(">h")
        names.add(name())
        number(">b")
        for _ in range(number(">i")):
            number(">h"), number(">i"), number(">i")
            for _ in range(2):
                copies = max(0, number(">i"))
                at += 4 * copies
    return frozenset(names)
