"""The operator: how we ask a running server, with the server's own SVID, over its own TLS port.

A small client of the text protocol (NATS documentation, "Client Protocol"), for nothing but
requests whose answer is JSON. It verifies the server as every client must.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from watertight.enforcers.resource import (
    ServerHost,
    ServerPlan,
)
from watertight.errors import WatertightError
from watertight.servers.nats.accounts import inbox
from watertight.servers.nats.compile import NATSGrants
from watertight.servers.served import own_identity

TIMEOUT_SECONDS = 5.0
RECOVERY_SECONDS = 60.0
"""How long a server that was killed may take to read in what it keeps, and to answer again."""
RELOAD_SECONDS = 2.0
POLL_SECONDS = 0.05
_MAX_LINE_BYTES = 1 << 16
_MAX_ANSWER_BYTES = 64 << 20
_BROKEN = (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError)
"""How a connection may end, TLS errors (OSError) and answers of another shape among them."""
_CONNECT = {
    "verbose": False,
    "pedantic": False,
    "headers": True,
    "no_responders": True,
    "protocol": 1,
    "lang": "watertight",
    "version": "1",
    "name": "watertight",
}


class ServerUnreachable(WatertightError):
    """The server does not let the operator in, or does not answer."""


class Refused(WatertightError):
    """The server answered with an error."""


class NobodyAnswers(Refused):
    """Nobody listens on the subject, the server says (a status without a body)."""


class Operator:
    """An open session of the operator. Made by :func:`operator`; one request at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: ServerPlan
    ) -> None:
        self._reader = reader
        self._writer = writer
        # All sessions of the operator are in one account, and would hear one another's answers.
        self._inbox = f"{inbox(plan.resource)}.{secrets.token_hex(8)}"
        self._plan = plan
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Ends it at once: nothing is on its way that anybody waits for."""
        self._writer.transport.abort()

    async def enter(self) -> None:
        """Says who we are, and listens on our own inbox."""
        subscribe = f"SUB {self._inbox}.* 1\r\nPING\r\n"
        self._writer.write(f"CONNECT {json.dumps(_CONNECT)}\r\n{subscribe}".encode())
        while True:
            verb, rest, _ = await self._next()
            if verb == "PONG":
                return
            if verb == "-ERR":
                raise Refused(rest)

    async def ask(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request and its answer. Raises :class:`Refused`, :class:`ServerUnreachable`."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._asked(subject, body)
        except _BROKEN as error:
            raise _unreachable(self._plan, error) from error
        fault = answer.get("error")
        if fault:
            said = fault.get("description", fault) if isinstance(fault, dict) else fault
            raise Refused(str(said))
        return answer

    async def _asked(self, subject: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """While a server takes up a new configuration, JetStream is not there for a moment."""
        loop = asyncio.get_running_loop()
        until = loop.time() + RELOAD_SECONDS
        while True:
            try:
                return await self._answer(subject, self.tell(subject, body))
            except NobodyAnswers:
                if loop.time() > until:
                    raise
            await asyncio.sleep(POLL_SECONDS)

    def tell(self, subject: str, body: Mapping[str, Any] | None = None) -> str:
        """A request whose answer nobody need wait for: where it will come."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        payload = json.dumps(body).encode() if body is not None else b""
        # At once: the second of two packets would wait for 40 ms (Nagle, and late ACKs).
        self._writer.write(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")
        return reply

    async def _answer(self, subject: str, reply: str) -> dict[str, Any]:
        while True:
            verb, rest, payload = await self._next()
            if verb == "-ERR":
                raise Refused(f"{subject}: {rest}")
            if verb in ("MSG", "HMSG") and rest.split(" ", 1)[0] == reply:
                if verb == "HMSG":  # a status without a body: nobody answers there
                    raise NobodyAnswers(f"{subject}: {payload.decode(errors='replace').strip()}")
                answer: dict[str, Any] = json.loads(payload)
                return answer

    async def _next(self) -> tuple[str, str, bytes]:
        """The next operation: verb, arguments, payload. PING is answered on the way."""
        while True:
            line = (await self._reader.readuntil(b"\r\n")).decode().rstrip("\r\n")
            verb, _, rest = line.partition(" ")
            if verb == "PING":
                self._writer.write(b"PONG\r\n")
            elif verb in ("MSG", "HMSG"):
                size = int(rest.rsplit(" ", 1)[1])
                if size > _MAX_ANSWER_BYTES:
                    raise ValueError(f"an answer of {size} bytes")
                payload = (await self._reader.readexactly(size + 2))[:-2]
                return verb, rest, payload
            else:
                return verb, rest, b""


@asynccontextmanager
async def operator(
    plan: ServerPlan, host: ServerHost, *, within_seconds: float = 0.0
) -> AsyncIterator[Operator]:
    """Logs in as the operator; tries again for so long where the server does not answer.

    Raises :class:`ServerUnreachable`.
    """
    clock = asyncio.get_running_loop()
    deadline = clock.time() + within_seconds
    while True:
        try:
            session = await _log_in(plan, host)
            break
        except ServerUnreachable:
            if clock.time() >= deadline:
                raise
        await asyncio.sleep(POLL_SECONDS)
    try:
        yield session
    finally:
        session.close()


async def _log_in(plan: ServerPlan, host: ServerHost) -> Operator:
    grants: NATSGrants = plan.grants
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            context = own_identity(host.placement.credentials(plan.resource))
            sock = await host.connect(plan.port)
            try:
                if not grants.tls_first:
                    await _info(sock)
                reader, writer = await asyncio.open_connection(
                    sock=sock, ssl=context, server_hostname=plan.resource, limit=_MAX_LINE_BYTES
                )
            except BaseException:
                sock.close()
                raise
            session = Operator(reader, writer, plan)
            try:
                await session.enter()
            except BaseException:
                session.close()
                raise
            return session
    except (*_BROKEN, Refused) as error:
        raise _unreachable(plan, error) from error


async def _info(sock: Any) -> None:
    """Reads the line that a server without ``handshake_first`` says before TLS.

    A server that does not demand TLS in it is not spoken to.
    """
    data = b""
    while not data.endswith(b"\r\n"):
        more = await asyncio.get_running_loop().sock_recv(sock, 4096)
        data += more
        if not more or len(data) > _MAX_LINE_BYTES or not data.startswith(b"INFO "[: len(data)]):
            raise ValueError("no INFO")
    _demand_tls(data)


async def pass_info(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """The same for who only looks, and says nothing by it. Raises OSError."""
    try:
        _demand_tls(await reader.readuntil(b"\r\n"))
    except (ValueError, asyncio.LimitOverrunError) as odd:
        raise ConnectionError(str(odd)) from odd


def _demand_tls(line: bytes) -> None:
    if not line.startswith(b"INFO ") or json.loads(line[5:]).get("tls_required") is not True:
        raise ValueError("the server does not demand TLS")


def _unreachable(plan: ServerPlan, error: Exception) -> ServerUnreachable:
    why = str(error) or type(error).__name__
    return ServerUnreachable(
        f"{plan.resource} does not answer its operator: {why}",
        remedy=f"Look at the log of {plan.resource}.",
    )
