"""Where a key set comes from, and what is said when it does not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.gateway.certified import certified
from tests.gateway.providers import SETS, entra, jwks, okta
from tests.ports import free_port
from watertight.control.issuers import facts, left_out, require_keys, withdrawals
from watertight.gateway import fetching
from watertight.gateway.fetching import MAX_BYTES, NONE, KeySets, fetch, fetch_all, unknown
from watertight.gateway.keysets import JWKSRefused
from watertight.model.findings import MachineLacks
from watertight.model.system import Gateway, Issuer, Position, Requirement, Route, System

ISSUER = Issuer("main", "https://login.example", ("shop",), "jwks.json")


def system(issuer: Issuer = ISSUER) -> System:
    routes = (Route("/", "web", require=Requirement("main")),)
    return System("shop", gateway=Gateway("h", routes, issuers={"main": issuer}))


@asynccontextmanager
async def served(answer: bytes, directory: Path) -> AsyncIterator[str]:
    """An HTTPS server with a certificate of a CA of its own (``ca.pem``); its URL."""
    chain, key, ca = certified("localhost")
    (directory / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "server.pem").write_bytes(pem + chain.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/keys"


def http(body: str, status: str = "200 OK", *headers: str) -> bytes:
    """An answer as it goes over the wire."""
    head = (f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", body)
    return "\r\n".join(head).encode()


async def why(url: str, directory: Path) -> str:
    """What is said of a key set at that URL."""
    with pytest.raises(JWKSRefused) as refused:
        await fetch(replace(ISSUER, jwks=url), directory)
    return str(refused.value)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose CA is trusted, as the error says."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return tmp_path


@pytest.mark.parametrize("provider", SETS)
async def test_a_file_and_a_url_are_read_alike(provider: str, trusted: Path) -> None:
    serve, usable, skipped = SETS[provider]
    (trusted / "jwks.json").write_text(text := jwks(*serve()))
    from_file = await fetch(ISSUER, trusted)
    async with served(http(text), trusted) as url:
        assert await fetch(replace(ISSUER, jwks=url), trusted) == from_file
    assert (from_file.count, len(from_file.skipped)) == (usable, skipped)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (http("", "404 Not Found"), "status 404 Not Found"),
        (http("", "302 Found", "location: https://other/"), "a redirect (302)"),
        (http("<html>"), "is not JSON (line 1, column 1)"),
        (http('{"issuer": "x", "jwks_uri": "https://x"}'), "is a provider's configuration"),
        (http(" " * (MAX_BYTES + 1)), f"larger than {MAX_BYTES} bytes"),
        (b"SSH-2.0-x\r\n\r\n", "not right HTTP"),
        (b"", "not right HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe", "not UTF-8"),
    ],
    ids=["404", "redirect", "html", "discovery", "huge", "ssh", "nothing", "utf-8"],
)
async def test_what_a_server_answers_is_told(answer: bytes, says: str, trusted: Path) -> None:
    async with served(answer, trusted) as url:
        assert says in await why(url, trusted)


async def test_who_cannot_be_reached_is_told(tmp_path: Path) -> None:
    assert "connection refused" in await why(f"https://127.0.0.1:{free_port()}/keys", tmp_path)
    assert "is not known" in await why("https://nowhere.invalid/keys", tmp_path)


async def test_an_untrusted_certificate_is_told(tmp_path: Path) -> None:
    async with served(http(jwks(*okta())), tmp_path) as url:
        said = await why(url, tmp_path)
    assert "its certificate is not trusted (" in said
    assert "SSL_CERT_FILE" in said


async def test_a_server_without_tls_is_told(tmp_path: Path) -> None:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "TLS failed (" in await why(f"https://127.0.0.1:{port}/keys", tmp_path)


async def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JWKSRefused, match="No such file"):
        await fetch(ISSUER, tmp_path)
    (tmp_path / "jwks.json").write_text(" " * (MAX_BYTES + 1))
    with pytest.raises(JWKSRefused, match="larger than"):
        await fetch(ISSUER, tmp_path)
    (tmp_path / "jwks.json").write_bytes(b"\xff")
    with pytest.raises(JWKSRefused, match="not UTF-8"):
        await fetch(ISSUER, tmp_path)


@pytest.mark.parametrize("host", ["xn--", "1.2.3.999", "[v1.x]"])
async def test_a_host_that_is_no_name_is_refused_like_one_that_does_not_answer(
    tmp_path: Path, host: str
) -> None:
    assert "cannot be fetched" in await why(f"https://{host}/", tmp_path)


async def test_an_unreachable_issuer_keeps_its_last_good_set(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(jwks(*entra()))
    first = await fetch_all(system(), tmp_path, NONE)
    (tmp_path / "jwks.json").unlink()
    second = await fetch_all(system(), tmp_path, first)
    assert second.keys == first.keys
    require_keys(system(), second)
    [told] = facts(second)
    assert told["keys"] == len(entra())
    assert "No such file" in told["failure"]


async def test_an_empty_set_withdraws_what_is_in_force_only(tmp_path: Path) -> None:
    """Who is new has to have a key; what others put in force is not kept for want of one."""
    file = tmp_path / "jwks.json"
    file.write_text(jwks())
    new = await fetch_all(system(), tmp_path, NONE)
    assert (new.keys, new.closed) == ({}, ())
    never = await fetch_all(system(), tmp_path, new)
    assert (never.keys, never.closed) == ({}, ())
    with pytest.raises(MachineLacks, match="holds no key"):
        require_keys(system(), never)
    adopted = await fetch_all(system(), tmp_path, unknown(system()))
    assert adopted.closed == ("main",)
    require_keys(system(), adopted)
    [line] = withdrawals(unknown(system()), adopted)
    assert "holds no key. From now on every token" in line
    other = replace(ISSUER, issuer="https://other.example")
    assert (await fetch_all(system(other), tmp_path, adopted)).keys == {}


async def test_a_set_that_cannot_be_had_is_kept_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(fetching, "_now", lambda: now)
    (tmp_path / "jwks.json").write_text(jwks(*entra()))
    known = await fetch_all(system(), tmp_path, NONE)
    (tmp_path / "jwks.json").unlink()
    for seconds, closed in ((60.0, ()), (86_400.0, ()), (86_401.0, ("main",)), (9e9, ("main",))):
        now = 1_000.0 + seconds
        known = await fetch_all(system(), tmp_path, known)
        assert known.closed == closed
    (tmp_path / "jwks.json").write_text(jwks(*entra()))
    assert (await fetch_all(system(), tmp_path, known)).closed == ()


@pytest.mark.parametrize(
    "change", [lambda i: replace(i, issuer="https://o"), lambda i: replace(i, jwks="other.json")]
)
async def test_the_keys_of_another_issuer_are_never_kept(
    tmp_path: Path, change: Callable[[Issuer], Issuer]
) -> None:
    (tmp_path / "jwks.json").write_text(jwks(*entra()))
    first = await fetch_all(system(), tmp_path, NONE)
    (tmp_path / "jwks.json").unlink()
    assert (await fetch_all(system(change(ISSUER)), tmp_path, first)).keys == {}


async def test_a_required_issuer_without_keys_is_refused_at_its_jwks(tmp_path: Path) -> None:
    at = Position("watertight.yaml", 9, 12)
    issuer = replace(ISSUER, jwks=f"https://127.0.0.1:{free_port()}/keys", jwks_at=at)
    missing = await fetch_all(system(issuer), tmp_path, NONE)
    with pytest.raises(MachineLacks, match="connection refused") as refused:
        require_keys(system(issuer), missing)
    [finding] = refused.value.findings
    assert (finding.at, finding.code) == (at, "WT-E1443")


async def test_the_keys_that_are_left_out_are_told(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(jwks(*SETS["keycloak"][0]()))
    key_sets: KeySets = await fetch_all(system(), tmp_path, NONE)
    assert [*left_out(key_sets)] == [
        "Of the keys of the issuer `main`, key `kc-enc` is for encryption."
    ]
