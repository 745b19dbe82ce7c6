"""One client of one server, told on stdin what to do; each answer is a line of JSON on stdout.

    work SECONDS      one session, one acknowledged operation after another
    connect SECONDS   one new session after another
    live SECONDS      as work, until the session dies: when did it?
    watch SECONDS     handshakes, until the server's certificate is another one: when was it?

Handed to ``python -c`` as text, so that it runs inside a service's pod as well as on the host; so
it imports nothing of the benches. Its argument is JSON: the ``kind`` of server, and either the
``channel`` of the service that leads there, or ``where`` the server is, in the clear. Each kind
has the same client library in both. Times are those of the machine's monotonic clock.
"""

import asyncio
import json
import socket
import ssl
import struct
import sys
import time
from functools import cache
from typing import Any, Protocol

BODY = b"x" * 100
ROWS = 1000
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL manual, section 55.7
HANDSHAKE_SECONDS = 5.0
PAUSE_SECONDS = 0.002
"""Between two handshakes of ``watch``: it is to see the server, not to keep it busy."""


class Session(Protocol):
    """One open connection."""

    version: str
    """Of the server, in its own words."""
    dead: asyncio.Event
    """Set once the client library has noticed that the connection is gone."""

    async def operate(self, number: int) -> None:
        """One operation; returns once the server has answered. Raises if it does not."""
        ...

    async def close(self) -> None:
        """Ends the session in good order."""
        ...


class PostgreSQL:
    """psycopg, synchronous: nothing else happens in this process."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.version = connection.info.parameter_status("server_version").split()[0]
        self.dead = asyncio.Event()

    @classmethod
    async def open(cls, spec: dict[str, Any]) -> "PostgreSQL":
        """A service finds all that libpq must know in its environment."""
        import psycopg  # noqa: PLC0415

        return cls(psycopg.connect(**spec.get("where", {}), autocommit=True))

    async def operate(self, number: int) -> None:
        query = "SELECT note FROM items WHERE id = %s"
        if self._connection.execute(query, (number % ROWS,)).fetchone() is None:
            raise LookupError("the row is not there")

    async def close(self) -> None:
        self._connection.close()


class NATS:
    """nats-py; a message is acknowledged by the answer to the PING that follows it."""

    def __init__(self, client: Any, dead: asyncio.Event) -> None:
        self._client = client
        version = client.connected_server_version
        self.version = f"{version.major}.{version.minor}.{version.patch}"
        self.dead = dead

    @classmethod
    async def open(cls, spec: dict[str, Any]) -> "NATS":
        """Over a channel, with what ``watertight.sdk`` sets and nothing else."""
        from nats.aio.client import Client  # noqa: PLC0415

        dead = asyncio.Event()

        async def closed() -> None:
            dead.set()

        client, where = Client(), spec.get("where", {})
        options: dict[str, Any] = {"allow_reconnect": False, "closed_cb": closed}
        if "channel" in spec:
            from watertight.sdk.strict_nats import StrictClient  # noqa: PLC0415

            client = StrictClient(originate=False)
            endpoint, context = channel(spec["channel"])
            where = {"host": endpoint.address, "port": endpoint.port}
            options |= {
                "tls": context,
                "tls_hostname": endpoint.host,
                "tls_handshake_first": endpoint.parameters["tls_first"] == "true",
                "inbox_prefix": endpoint.parameters["inbox_prefix"],
            }
        await client.connect("nats://{host}:{port}".format(**where), **options)
        return cls(client, dead)

    async def operate(self, number: int) -> None:
        del number
        await self._client.publish("items", BODY)
        await self._client.flush()

    async def close(self) -> None:
        await self._client.close()


class RabbitMQ:
    """aio-pika; each message is confirmed, and routed to no queue: the disk has no part in it."""

    def __init__(self, connection: Any, exchange: str) -> None:
        self._connection = connection
        self._name, self._exchange = exchange, None
        self.version = str(connection.transport.connection.server_properties["version"])
        self.dead = asyncio.Event()
        connection.close_callbacks.add(lambda *_: self.dead.set())

    @classmethod
    async def open(cls, spec: dict[str, Any]) -> "RabbitMQ":
        """Over a channel, with what ``watertight.sdk`` sets and nothing else."""
        import aio_pika  # noqa: PLC0415

        where, exchange = spec.get("where", {}), "amq.fanout"
        if "channel" in spec:
            endpoint, context = channel(spec["channel"])
            exchange = "items"
            where = {
                "host": endpoint.address,
                "port": endpoint.port,
                "virtualhost": endpoint.parameter("virtual_host"),
                "ssl": context is not None,
                "ssl_context": context,
                "login": "",
                "password": "",
                "auth": "EXTERNAL",
            }
        return cls(await aio_pika.connect(**where), exchange)

    async def operate(self, number: int) -> None:
        import aio_pika  # noqa: PLC0415

        del number
        if self._exchange is None:
            opened = await self._connection.channel(publisher_confirms=True)
            self._exchange = await opened.get_exchange(self._name, ensure=False)
        await self._exchange.publish(aio_pika.Message(BODY), "items", mandatory=False)

    async def close(self) -> None:
        await self._connection.close()


@cache
def channel(name: str) -> tuple[Any, Any]:
    """Where a channel leads, and its TLS context; None where the proxy speaks TLS."""
    from watertight.sdk.endpoints import find  # noqa: PLC0415
    from watertight.sdk.opening import tls_context  # noqa: PLC0415

    endpoint = find(name)
    return endpoint, None if endpoint.originate else tls_context(name)


KINDS: dict[str, Any] = {"postgresql": PostgreSQL, "nats": NATS, "rabbitmq": RabbitMQ}


async def work(spec: dict[str, Any], seconds: float) -> dict[str, Any]:
    session: Session = await KINDS[spec["kind"]].open(spec)
    await session.operate(0)
    count, began = 0, time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        await session.operate(count)
        count += 1
    await session.close()
    return {"count": count, "seconds": spent, "version": session.version}


async def connect(spec: dict[str, Any], seconds: float) -> dict[str, Any]:
    count, began = 0, time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        session: Session = await KINDS[spec["kind"]].open(spec)
        await session.close()
        count += 1
    return {"count": count, "seconds": spent}


async def live(spec: dict[str, Any], seconds: float) -> dict[str, Any]:
    session: Session = await KINDS[spec["kind"]].open(spec)
    await session.operate(0)
    said("ready")
    died: list[float] = []

    async def operate() -> None:
        number = 0
        try:
            while True:
                await session.operate(number)
                number += 1
                await asyncio.sleep(0)  # psycopg here never yields
        except Exception:  # noqa: BLE001  however it dies
            died.append(time.monotonic())

    operating = asyncio.ensure_future(operate())
    noticing = asyncio.ensure_future(session.dead.wait())
    done, left = await asyncio.wait(
        {operating, noticing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )
    at = died[0] if died else time.monotonic()
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return {"at": at if done else None}


def handshake(name: str, kind: str) -> bytes:
    """The certificate that the server shows to a new connection now."""
    endpoint, _ = channel(name)
    context = ssl.create_default_context(cafile=str(endpoint.credentials / "bundle.pem"))
    own = endpoint.credentials.resolve()
    context.load_cert_chain(own / "certificate.pem", own / "private_key.pem")
    where = (endpoint.address, endpoint.port)
    with socket.create_connection(where, timeout=HANDSHAKE_SECONDS) as raw:
        if kind == "postgresql":
            raw.sendall(SSL_REQUEST)
            if raw.recv(1) != b"S":
                raise OSError("the server wants no TLS")
        with context.wrap_socket(raw, server_hostname=endpoint.host) as secured:
            return secured.getpeercert(binary_form=True) or b""


async def watch(spec: dict[str, Any], seconds: float) -> dict[str, Any]:
    before = handshake(spec["channel"], spec["kind"])
    said("ready")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if handshake(spec["channel"], spec["kind"]) != before:
                return {"at": time.monotonic()}
        except OSError as error:
            return {"error": f"a handshake failed during the rotation: {error}"}
        await asyncio.sleep(PAUSE_SECONDS)
    return {"at": None}


def said(word: str) -> None:
    print(json.dumps({"said": word}), flush=True)


def main() -> None:
    spec = json.loads(sys.argv[1])
    commands = {"work": work, "connect": connect, "live": live, "watch": watch}
    said("here")
    for line in sys.stdin:
        command, seconds = line.split()
        try:
            result = asyncio.run(commands[command](spec, float(seconds)))
        except Exception as error:  # noqa: BLE001  told to who asked
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
