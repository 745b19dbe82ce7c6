"""Forged credentials are right but for what is wrong with them, and are gone at the end."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.identity.serving.authority import new_issuer, new_root
from watertight.attack.arena import Credential, Forgery
from watertight.identity.chain import verify_svid
from watertight.identity.errors import IdentityError
from watertight.identity.svid import TrustBundle
from watertight.verify.forge import REUSED_SECONDS, CannotForge, Forger, Signer, right

TRUST_DOMAIN = "shop.internal"
IDENTITY = f"spiffe://{TRUST_DOMAIN}/storefront"
RIGHT = right(IDENTITY, "storefront")
ROOT = new_root()
ISSUER = new_issuer(ROOT)


@pytest.fixture
def forger(tmp_path: Path) -> Iterator[Forger]:
    made = Forger(Signer(ISSUER.certificate, ISSUER.key, (ISSUER.certificate,)), parent=tmp_path)
    yield made
    made.close()


def chain_of(credential: Credential) -> list[x509.Certificate]:
    assert credential.certificate is not None
    return x509.load_pem_x509_certificates(credential.certificate.read_bytes())


def judged(credential: Credential) -> str:
    """What the house's own verification says of it."""
    bundles = {TRUST_DOMAIN: TrustBundle(TRUST_DOMAIN, (ROOT.certificate,))}
    return str(verify_svid(chain_of(credential), bundles, dt.datetime.now(dt.UTC)))


def test_a_long_proof_never_uses_one_that_is_about_to_expire(tmp_path: Path) -> None:
    clock = iter((0.0, REUSED_SECONDS, REUSED_SECONDS + 1, REUSED_SECONDS + 1))
    signer = Signer(ISSUER.certificate, ISSUER.key, (ISSUER.certificate,))
    made = Forger(signer, parent=tmp_path, clock=lambda: next(clock))
    try:
        first, again, later = (made.forge(RIGHT) for _ in range(3))
    finally:
        made.close()
    assert first == again
    assert later != first
    assert RIGHT.not_after_seconds > 2 * REUSED_SECONDS


def test_the_right_one_is_right(forger: Forger) -> None:
    assert judged(forger.svid(IDENTITY, "storefront")) == IDENTITY


@pytest.mark.parametrize(
    "forgery",
    [
        replace(RIGHT, issuer="self"),
        replace(RIGHT, issuer="foreign"),
        replace(RIGHT, not_before_seconds=-7200, not_after_seconds=-3600),
        replace(RIGHT, not_before_seconds=3600, not_after_seconds=7200),
        replace(RIGHT, uri_sans=(), common_name=IDENTITY),
        replace(RIGHT, uri_sans=(), dns_sans=(IDENTITY,)),
        replace(RIGHT, uri_sans=(IDENTITY, f"{IDENTITY}-2")),
        replace(RIGHT, uri_sans=(f"{IDENTITY}\0.evil",)),
        replace(RIGHT, uri_sans=(f"spiffe://elsewhere.{TRUST_DOMAIN}/storefront",)),
        replace(RIGHT, extended_key_usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        replace(RIGHT, is_ca=True),
    ],
    ids=str,
)
def test_each_wrong_one_is_refused(forger: Forger, forgery: Forgery) -> None:
    with pytest.raises(IdentityError):
        judged(forger.forge(forgery))


def test_the_foreign_authority_has_our_names_and_another_key(forger: Forger) -> None:
    theirs = forger.foreign_authority
    assert theirs.subject == ISSUER.certificate.subject
    assert theirs.public_key() != ISSUER.certificate.public_key()


def test_a_name_too_long_for_a_common_name_is_written_all_the_same(forger: Forger) -> None:
    long = f"{IDENTITY}/{'x' * 60}"
    (leaf, *_rest) = chain_of(forger.forge(replace(RIGHT, common_name=long)))
    with pytest.warns(UserWarning, match="<= 64"):
        assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == long


def test_what_cannot_be_written_is_said(forger: Forger) -> None:
    with pytest.raises(CannotForge):
        forger.forge(replace(RIGHT, uri_sans=("spiffe://shöp.internal/x",)))


def test_keys_are_private_fit_and_gone_at_the_end(tmp_path: Path) -> None:
    made = Forger(Signer(ISSUER.certificate, ISSUER.key), parent=tmp_path)
    credential = made.forge(RIGHT)
    assert made.forge(RIGHT) == credential
    path = credential.private_key
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert key.public_key() == chain_of(credential)[0].public_key()
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_forgery_that_soon_ends_is_made_anew(forger: Forger) -> None:
    brief = replace(right("spiffe://shop.internal/orders", "orders"), not_after_seconds=5)
    assert forger.forge(brief) != forger.forge(brief)
