"""Software that nobody here wrote takes our SVIDs: OpenSSL in a handshake, and py-spiffe."""

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from spiffe import JwtBundle, JwtSvid, TrustDomain, X509Bundle, X509Svid

from tests.identity.world import TRUST_DOMAIN, FakeClock, authority
from watertight.identity.clock import system_clock
from watertight.identity.keeper import SVIDKeeper
from watertight.identity.svid import X509SVID


class NowClock(FakeClock):
    """The real time: other people's software cannot be told another."""

    def __init__(self) -> None:
        super().__init__(system_clock())


async def kept(directory: Path, *names: str) -> tuple[SVIDKeeper, list[X509SVID]]:
    """A keeper with fresh SVIDs."""
    with authority(directory, NowClock()) as made:
        keeper = SVIDKeeper(made, names, now=NowClock())
        await keeper.refresh()
        svids = [keeper.x509_svid(name) for name in names]
        return keeper, [s for s in svids if s is not None]


def context(side: int, svid: X509SVID | None, roots: bytes, directory: Path) -> ssl.SSLContext:
    """TLS 1.3 with an SVID, trusting the bundle."""
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    # What Python 3.13 asks of every chain by default: RFC 5280 to the letter.
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=roots.decode())
    if svid is not None:
        combined = directory / f"{svid.leaf.serial_number}.pem"
        combined.touch(mode=0o600)
        combined.write_bytes(svid.private_key_pem() + svid.chain_pem())
        made.load_cert_chain(combined)
    return made


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> dict[str, Any]:
    """A whole mutual handshake in memory; the client's certificate as the server sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server, server_hostname=name)
    callee = server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(10):
        for end in (caller, callee):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
        if len(done) == 2:
            return dict(callee.getpeercert() or {})
    raise AssertionError("the handshake did not end")


async def test_openssl_shakes_hands_both_ways(tmp_path: Path) -> None:
    keeper, (orders, mailer) = await kept(tmp_path, "orders", "mailer")
    roots = keeper.bundle().pem()
    client = context(ssl.PROTOCOL_TLS_CLIENT, orders, roots, tmp_path)
    server = context(ssl.PROTOCOL_TLS_SERVER, mailer, roots, tmp_path)
    seen = handshake(client, server, "mailer")
    assert ("URI", f"spiffe://{TRUST_DOMAIN}/orders") in seen["subjectAltName"]
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(client, server, "payments")


async def test_openssl_refuses_our_svids_under_another_root(tmp_path: Path) -> None:
    _, (orders, _) = await kept(tmp_path / "one", "orders", "mailer")
    other, (_, mailer) = await kept(tmp_path / "two", "orders", "mailer")
    roots = other.bundle().pem()
    client = context(ssl.PROTOCOL_TLS_CLIENT, orders, roots, tmp_path)
    server = context(ssl.PROTOCOL_TLS_SERVER, mailer, roots, tmp_path)
    with pytest.raises(ssl.SSLError, match=r"certificate verify failed|unknown ca"):
        handshake(client, server, "mailer")


async def test_py_spiffe_takes_our_svids_and_bundles(tmp_path: Path) -> None:
    domain = TrustDomain(TRUST_DOMAIN)
    with authority(tmp_path, NowClock()) as made:
        keeper = SVIDKeeper(made, ["orders"], now=NowClock())
        await keeper.refresh()
        ours = keeper.x509_svid("orders")
        assert ours is not None
        theirs = X509Svid.parse_raw(ours.chain_der(), ours.private_key_der)
        assert str(theirs.spiffe_id) == ours.spiffe_id
        bundle = X509Bundle.parse_raw(domain, keeper.bundle().der())
        assert set(bundle.x509_authorities) == set(keeper.bundle().authorities)
        jwks = JwtBundle.parse(domain, json.dumps(keeper.jwt_bundle()).encode())
        token = JwtSvid.parse_and_validate(keeper.jwt_svid("orders", ["mailer"]), jwks, {"mailer"})
        assert str(token.spiffe_id) == ours.spiffe_id
