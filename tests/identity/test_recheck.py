"""Rules X1 to X10 on signed bytes: a right SVID passes, and each rule says no to its own breach."""

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.identity.forging import (
    BOTH_USAGES,
    DNS,
    URI,
    Change,
    Draft,
    Hierarchy,
    ca_draft,
    make_hierarchy,
    name,
    usage,
)
from tests.identity.world import START, TRUST_DOMAIN
from watertight.identity import recheck
from watertight.identity.errors import CredentialRejected
from watertight.identity.keys import KeyType, generate

ORDERS = URI(f"spiffe://{TRUST_DOMAIN}/orders")
WEB = DNS("orders")
HOUR = dt.timedelta(hours=1)


@pytest.fixture(scope="module")
def ours() -> Hierarchy:
    return make_hierarchy()


def issued(draft: Draft, ours: Hierarchy) -> x509.Certificate:
    """What the authority would do with a certificate that it has just signed."""
    der = draft.signed(ours.issuer).public_bytes(serialization.Encoding.DER)
    return recheck.check_issued(der, ours.intent(draft))


def test_a_right_svid_passes_every_rule(ours: Hierarchy) -> None:
    assert issued(Draft(), ours).serial_number == Draft().serial


LEAF_BREACHES: list[tuple[str, str, Change]] = [
    ("X1", "one-uri-san", lambda d: d.but(sans=(WEB,))),
    ("X1", "one-uri-san", lambda d: d.but(sans=None)),
    ("X1", "one-uri-san", lambda d: d.but(sans=(ORDERS, URI("spiffe://shop.internal/mailer")))),
    ("X1", "one-uri-san", lambda d: d.but(sans=(ORDERS, URI("https://shop.internal/")))),
    ("X1", "uri-is-a-spiffe-id", lambda d: d.but(sans=(URI("https://shop.internal/orders"),))),
    ("X1", "uri-is-a-spiffe-id", lambda d: d.but(sans=(URI("spiffe://shop.internal/a/../b"),))),
    ("X2", "names-a-workload", lambda d: d.but(sans=(URI(f"spiffe://{TRUST_DOMAIN}"),))),
    ("X3", "san-is-critical-without-subject", lambda d: d.but(subject=x509.Name([]))),
    ("X4", "is-no-ca", lambda d: d.but(constraints=None)),
    (
        "X4",
        "is-no-ca",
        lambda d: d.but(constraints=x509.BasicConstraints(ca=True, path_length=None)),
    ),
    ("X5", "key-usage-is-critical", lambda d: d.but(usage=None)),
    ("X5", "key-usage-is-critical", lambda d: d.but(usage_critical=False)),
    ("X5", "key-only-signs-messages", lambda d: d.but(usage=usage("key_agreement"))),
    (
        "X5",
        "key-only-signs-messages",
        lambda d: d.but(usage=usage("digital_signature", "key_cert_sign")),
    ),
    (
        "X5",
        "key-only-signs-messages",
        lambda d: d.but(usage=usage("digital_signature", "crl_sign")),
    ),
    ("X6", "serves-and-calls", lambda d: d.but(usages=(ExtendedKeyUsageOID.SERVER_AUTH,))),
    ("X6", "serves-and-calls", lambda d: d.but(usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))),
    (
        "X6",
        "serves-and-calls",
        lambda d: d.but(usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
    ),
    (
        "X10",
        "constrains-no-names",
        lambda d: d.but(extra=((x509.NameConstraints([DNS("x")], None), True),)),
    ),
]


@pytest.mark.parametrize(("rule", "check", "change"), LEAF_BREACHES)
def test_leaf_rule_says_no(ours: Hierarchy, rule: str, check: str, change: Change) -> None:
    with pytest.raises(CredentialRejected) as refusal:
        recheck.check_leaf(change(Draft()).signed(ours.issuer))
    assert (refusal.value.rule, refusal.value.check) == (rule, check)


def test_x3_allows_an_empty_subject_with_a_critical_san(ours: Hierarchy) -> None:
    draft = Draft().but(subject=x509.Name([]), san_critical=True)
    assert str(recheck.check_leaf(draft.signed(ours.issuer))) == ORDERS.value


def test_x6_allows_a_peer_without_extended_key_usage(ours: Hierarchy) -> None:
    recheck.check_leaf(Draft().but(usages=None).signed(ours.issuer))


ISSUE_BREACHES: list[tuple[str, str, Change]] = [
    ("X1", "is-the-attested-id", lambda d: d.but(sans=(URI("spiffe://shop.internal/mailer"),))),
    ("X1", "is-the-attested-id", lambda d: d.but(sans=(URI("spiffe://evil.internal/orders"),))),
    ("X1", "has-only-granted-names", lambda d: d.but(sans=(ORDERS, WEB, DNS("mailer")))),
    ("X1", "has-only-granted-names", lambda d: d.but(sans=(ORDERS,))),
    (
        "X1",
        "has-only-granted-names",
        lambda d: d.but(sans=(ORDERS, WEB, x509.RFC822Name("a@shop.internal"))),
    ),
    ("X3", "has-the-subject", lambda d: d.but(subject=name(TRUST_DOMAIN, "services", "mailer"))),
    ("X3", "has-the-subject", lambda d: d.but(subject=name(TRUST_DOMAIN, "servers", "orders"))),
    ("X6", "has-both-usages", lambda d: d.but(usages=None)),
    (
        "X6",
        "has-both-usages",
        lambda d: d.but(usages=(*BOTH_USAGES, ExtendedKeyUsageOID.CODE_SIGNING)),
    ),
    ("X9", "has-the-requested-key", lambda d: d.but(key=generate(KeyType.ECDSA_P256))),
    ("X9", "key-identifiers-chain", lambda d: d.but(authority_key_identifier=False)),
    ("X9", "key-identifiers-chain", lambda d: d.but(subject_key_identifier=False)),
    ("X9", "lives-within-its-issuer", lambda d: d.but(end=START + 25 * HOUR)),
    ("X9", "is-valid-now", lambda d: d.but(end=START + 2 * HOUR)),
    ("X9", "is-valid-now", lambda d: d.but(end=START - HOUR / 120)),
    ("X9", "is-valid-now", lambda d: d.but(start=START + HOUR / 2)),
    ("X9", "has-only-known-extensions", lambda d: d.but(extra=((x509.OCSPNoCheck(), False),))),
    ("X9", "serial-is-random-enough", lambda d: d.but(serial=4711)),
]


@pytest.mark.parametrize(("rule", "check", "change"), ISSUE_BREACHES)
def test_issue_rule_says_no(ours: Hierarchy, rule: str, check: str, change: Change) -> None:
    draft = Draft()
    der = change(draft).signed(ours.issuer).public_bytes(serialization.Encoding.DER)
    with pytest.raises(CredentialRejected) as refusal:
        recheck.check_issued(der, ours.intent(draft))
    assert (refusal.value.rule, refusal.value.check) == (rule, check)


def test_x9_refuses_a_weak_key(ours: Hierarchy) -> None:
    draft = Draft().but(key=ec.generate_private_key(ec.SECP192R1()))
    with pytest.raises(CredentialRejected, match="leaf-key-is-strong"):
        issued(draft, ours)


def test_x9_refuses_another_issuers_signature(ours: Hierarchy) -> None:
    draft, stranger = Draft(), make_hierarchy()
    der = draft.signed(stranger.issuer).public_bytes(serialization.Encoding.DER)
    with pytest.raises(CredentialRejected, match="is-signed-by-the-issuer"):
        recheck.check_issued(der, ours.intent(draft))
    der = draft.signed(ours.issuer).public_bytes(serialization.Encoding.DER)
    crossed = replace(ours.intent(draft), root=stranger.root.certificate)
    with pytest.raises(CredentialRejected, match="is-signed-by-the-issuer"):
        recheck.check_issued(der, crossed)


def test_x7_refuses_an_issuer_of_another_trust_domain() -> None:
    foreign, draft = make_hierarchy("evil.internal"), Draft()
    der = draft.signed(foreign.issuer).public_bytes(serialization.Encoding.DER)
    with pytest.raises(CredentialRejected, match="issuer-is-of-the-same-domain"):
        recheck.check_issued(der, foreign.intent(draft))


AUTHORITY_BREACHES: list[tuple[str, str, Change]] = [
    ("X5", "key-usage-is-critical", lambda d: d.but(usage_critical=False)),
    ("X5", "key-usage-is-critical", lambda d: d.but(usage=None)),
    ("X5", "signs-certificates", lambda d: d.but(usage=usage("crl_sign"))),
    ("X7", "is-a-ca", lambda d: d.but(constraints=None)),
    (
        "X7",
        "is-a-ca",
        lambda d: d.but(constraints=x509.BasicConstraints(ca=False, path_length=None)),
    ),
    ("X7", "names-its-trust-domain", lambda d: d.but(sans=(ORDERS,))),
    ("X7", "names-its-trust-domain", lambda d: d.but(sans=None)),
    (
        "X7",
        "names-its-trust-domain",
        lambda d: d.but(sans=(URI("spiffe://shop.internal"), URI("spiffe://evil.internal"))),
    ),
    ("X9", "key-is-strong", lambda d: d.but(key=ec.generate_private_key(ec.SECP192R1()))),
]


@pytest.mark.parametrize(("rule", "check", "change"), AUTHORITY_BREACHES)
def test_authority_rule_says_no(rule: str, check: str, change: Change) -> None:
    with pytest.raises(CredentialRejected) as refusal:
        recheck.check_authority(change(ca_draft("root")).signed())
    assert (refusal.value.rule, refusal.value.check) == (rule, check)


def test_a_right_ca_certificate_passes() -> None:
    recheck.check_authority(ca_draft("root").signed())


def test_every_check_has_a_breach_that_it_refuses() -> None:
    """A check that no test makes say no could be one that cannot."""
    shown = {check for _, check, _ in LEAF_BREACHES + ISSUE_BREACHES + AUTHORITY_BREACHES}
    shown |= {"leaf-key-is-strong", "is-signed-by-the-issuer", "issuer-is-of-the-same-domain"}
    # The library makes no certificates of version 1: see test_chain.py.
    shown |= {"version-is-3"}
    every = {c.name for c in (*recheck.LEAF_CHECKS, *recheck.AUTHORITY_CHECKS)}
    every |= {c.name for c in recheck.INTENT_CHECKS}
    assert every == shown
