"""Who the server is, is checked in every handshake, whatever the driver asks for."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.sdk.world import World
from watertight.attack.arena import Credential, Forgery
from watertight.identity.svid import PEM
from watertight.sdk import tls_context
from watertight.sdk.peer import PeerContext, WrongServer
from watertight.verify.forge import right

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATABASE = "spiffe://shop.internal/orders-db"
RIGHT = right(DATABASE, "orders-db")


@asynccontextmanager
async def serving(
    world: World, credential: Credential, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[int]:
    """A TLS server that greets its client by the name in the client's certificate."""
    assert credential.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(credential.certificate)
    context.load_verify_locations(world.credentials("orders") / "bundle.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names = writer.get_extra_info("peercert")["subjectAltName"]
        writer.write(f"hello {dict(names)['URI']}".encode())
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        port: int = server.sockets[0].getsockname()[1]
        world.open("orders-db", "postgresql", port)
        yield port


async def by_asyncio(port: int, name: str = "orders-db") -> str:
    """What the server says, over asyncio's TLS (``wrap_bio``)."""
    context = tls_context("orders-db")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


async def by_blocking(port: int, name: str = "orders-db") -> str:
    """What the server says, over a socket that is wrapped once connected."""

    def say() -> str:
        context = tls_context("orders-db")
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            return connection.recv(100).decode()

    return await asyncio.to_thread(say)


async def by_late_connect(port: int, name: str = "orders-db") -> str:
    """What the server says, over a socket that is wrapped first and connects then."""

    def say() -> str:
        with tls_context("orders-db").wrap_socket(socket.socket(), server_hostname=name) as late:
            late.connect(("127.0.0.1", port))
            return late.recv(100).decode()

    return await asyncio.to_thread(say)


Call = Callable[..., Awaitable[str]]
WAYS = pytest.mark.parametrize("call", [by_asyncio, by_blocking, by_late_connect])


@WAYS
@pytest.mark.parametrize("asked", ["orders-db", "127.0.0.1", "elsewhere"])
async def test_the_right_server_knows_us(lasting_world: World, call: Call, asked: str) -> None:
    """What host name the driver asks for does not matter: the channel's is verified."""
    async with serving(lasting_world, lasting_world.forger.forge(RIGHT)) as port:
        assert await call(port, asked) == "hello spiffe://shop.internal/orders"


WRONG = {
    "another's SPIFFE ID": replace(RIGHT, uri_sans=("spiffe://shop.internal/billing",)),
    "a SPIFFE ID below ours": replace(RIGHT, uri_sans=(f"{DATABASE}/x",)),
    "another trust domain": replace(RIGHT, uri_sans=("spiffe://shop.example/orders-db",)),
    "in other letters": replace(RIGHT, uri_sans=("spiffe://shop.internal/Orders-DB",)),
    "two SPIFFE IDs, ours first": replace(RIGHT, uri_sans=(DATABASE, f"{DATABASE}2")),
    "two SPIFFE IDs, ours last": replace(RIGHT, uri_sans=(f"{DATABASE}2", DATABASE)),
    "no SPIFFE ID": replace(RIGHT, uri_sans=()),
}
UNTRUSTED = {
    "another host name": replace(RIGHT, dns_sans=("events",)),
    "no host name": replace(RIGHT, dns_sans=()),
    "a wildcard": replace(RIGHT, dns_sans=("*.internal",)),
    "a foreign authority": replace(RIGHT, issuer="foreign"),
    "signed by itself": replace(RIGHT, issuer="self"),
    "expired": replace(RIGHT, not_before_seconds=-600, not_after_seconds=-300),
    "not a server": replace(RIGHT, extended_key_usages=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
}


@WAYS
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_another_server_is_refused_by_its_name(
    lasting_world: World, call: Call, wrong: Forgery
) -> None:
    async with serving(lasting_world, lasting_world.forger.forge(wrong)) as port:
        with pytest.raises(WrongServer, match=f"not {DATABASE}"):
            await call(port)


@WAYS
@pytest.mark.parametrize("wrong", UNTRUSTED.values(), ids=UNTRUSTED.keys())
async def test_a_server_without_trust_is_refused(
    lasting_world: World, call: Call, wrong: Forgery
) -> None:
    async with serving(lasting_world, lasting_world.forger.forge(wrong)) as port:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await call(port)
        assert not isinstance(caught.value, WrongServer)


@WAYS
async def test_the_machines_own_roots_are_not_trusted(
    lasting_world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
) -> None:
    (tmp_path / "roots.pem").write_bytes(lasting_world.forger.foreign_authority.public_bytes(PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    async with serving(
        lasting_world, lasting_world.forger.forge(UNTRUSTED["a foreign authority"])
    ) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await call(port)


@WAYS
async def test_older_tls_is_refused(lasting_world: World, call: Call) -> None:
    async with serving(
        lasting_world, lasting_world.forger.forge(RIGHT), ssl.TLSVersion.TLSv1_2
    ) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await call(port)


async def test_what_a_driver_sets_on_the_context_changes_nothing(lasting_world: World) -> None:
    wrong = lasting_world.forger.forge(UNTRUSTED["a foreign authority"])
    async with serving(lasting_world, wrong) as port:
        context = tls_context("orders-db")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def test_a_handshake_under_another_context_is_none(lasting_world: World) -> None:
    """The guard of the guard: without the channel's context nobody is the right server."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.sslsocket_class = PeerContext.load(
        lasting_world.credentials("orders").resolve(), DATABASE
    ).sslsocket_class
    bare.load_verify_locations(lasting_world.credentials("orders") / "bundle.pem")
    bare.load_cert_chain(lasting_world.credentials("orders") / "combined.pem")
    async with serving(lasting_world, lasting_world.forger.forge(RIGHT)) as port:

        def connect() -> None:
            with socket.create_connection(("127.0.0.1", port)) as plain:
                bare.wrap_socket(plain, server_hostname="orders-db").close()

        with pytest.raises(WrongServer, match="not the channel's"):
            await asyncio.to_thread(connect)
