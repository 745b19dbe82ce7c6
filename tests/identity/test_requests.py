"""Each issuance validator says no to its own kind of request, by name, and the audit log has it."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.identity.world import (
    ORDERS,
    TRUST_DOMAIN,
    FakeClock,
    authority,
    make_csr,
    request,
)
from watertight.identity import requests
from watertight.identity.errors import IssuanceRefused
from watertight.identity.keys import KeyType, generate, key_type_of
from watertight.identity.requests import IssuancePolicy, SVIDRequest, validate
from watertight.identity.spiffe import SPIFFEID

REVOKED = SPIFFEID.workload(TRUST_DOMAIN, "mallory")
POLICY = IssuancePolicy(TRUST_DOMAIN, frozenset({REVOKED}), max_ttl_seconds=86_400)
GATEWAY = SPIFFEID.workload(TRUST_DOMAIN, "gateway")


def signed_by(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """A CSR of a key that is none of ours."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def with_broken_signature() -> bytes:
    """A CSR whose last byte was changed."""
    csr = bytearray(make_csr())
    csr[-1] ^= 1
    return bytes(csr)


def of_an_unknown_curve() -> bytes:
    """A CSR whose key says that it lies on a curve that nobody has heard of."""
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030109")
    return make_csr().replace(p256, unknown)


def asking_for_ca() -> bytes:
    """A CSR that asks for cA=TRUE."""
    key = generate(KeyType.ECDSA_P256)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def ask(
    spiffe_id: SPIFFEID = ORDERS, csr: bytes | None = None, dns_names: tuple[str, ...] = (),
    ttl_seconds: float | None = None,
) -> SVIDRequest:  # fmt: skip
    """A request, right but for what is given."""
    return SVIDRequest(csr or make_csr(), spiffe_id, dns_names, ttl_seconds=ttl_seconds)


def other_name() -> bytes:
    """A CSR that names another workload than attestation found."""
    return make_csr(None, x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/mailer"))


REFUSED: list[tuple[str, SVIDRequest]] = [
    ("identity-is-ours", ask(SPIFFEID.workload("evil.internal", "orders"))),
    ("identity-is-a-workload", ask(SPIFFEID(TRUST_DOMAIN))),
    ("identity-fits-a-common-name", ask(SPIFFEID.workload(TRUST_DOMAIN, "a" * 65))),
    ("identity-is-not-revoked", ask(REVOKED)),
    ("dns-names-are-its-own", ask(dns_names=("mailer",))),
    ("dns-names-are-its-own", ask(dns_names=("orders", "shop.example"))),
    ("dns-names-are-its-own", ask(dns_names=("orders", "orders"))),
    ("dns-names-are-its-own", ask(GATEWAY, dns_names=("orders",))),
    ("dns-names-are-its-own", ask(GATEWAY, dns_names=("*.shop.example",))),
    ("dns-names-are-its-own", ask(GATEWAY, dns_names=("Shop.example",))),
    ("dns-names-are-its-own", ask(GATEWAY, dns_names=("shop.example\n",))),
    ("dns-names-are-its-own", ask(GATEWAY, dns_names=tuple(f"a{i}.example" for i in range(17)))),
    ("ttl-is-bounded", ask(ttl_seconds=0)),
    ("ttl-is-bounded", ask(ttl_seconds=-1)),
    ("ttl-is-bounded", ask(ttl_seconds=86_401)),
    ("ttl-is-bounded", ask(ttl_seconds=float("nan"))),
    ("csr-parses", ask(csr=b"hello")),
    ("csr-parses", ask(csr=b"-----BEGIN CERTIFICATE REQUEST-----\nx\n")),
    ("csr-parses", ask(csr=b"\x30" * 20_000)),
    ("key-is-allowed", ask(csr=signed_by(rsa.generate_private_key(65537, 2048)))),
    ("key-is-allowed", ask(csr=signed_by(ec.generate_private_key(ec.SECP256K1())))),
    ("key-is-allowed", ask(csr=of_an_unknown_curve())),
    ("caller-holds-the-key", ask(csr=with_broken_signature())),
    ("csr-asks-for-nothing-else", ask(csr=asking_for_ca())),
    ("csr-asks-for-nothing-else", ask(csr=other_name())),
]


@pytest.mark.parametrize(("validator", "wrong"), REFUSED)
def test_validator_says_no(validator: str, wrong: SVIDRequest) -> None:
    with pytest.raises(IssuanceRefused) as refusal:
        validate(wrong, POLICY)
    assert refusal.value.validator == validator


def test_every_validator_has_a_request_that_it_refuses() -> None:
    shown = {validator for validator, _ in REFUSED} - {"csr-parses"}
    every = {v.name for v in requests.IDENTITY_VALIDATORS}
    every |= {v.name for v in requests.WISH_VALIDATORS} | {v.name for v in requests.CSR_VALIDATORS}
    assert every == shown


@pytest.mark.parametrize(
    "right",
    [
        ask(),
        ask(dns_names=("orders", f"orders.{TRUST_DOMAIN}")),
        ask(GATEWAY, dns_names=("gateway", "shop.example", "localhost")),
        ask(ttl_seconds=86_400),
        ask(csr=make_csr(None, x509.UniformResourceIdentifier(str(ORDERS)))),
    ],
)
def test_right_requests_pass(right: SVIDRequest) -> None:
    assert key_type_of(validate(right, POLICY)) is KeyType.ECDSA_P256


@pytest.mark.parametrize("key_type", KeyType)
def test_each_of_our_key_types_is_allowed_in_der_and_in_pem(key_type: KeyType) -> None:
    der = make_csr(generate(key_type))
    pem = x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)
    for csr in (der, pem):
        assert key_type_of(validate(ask(csr=csr), POLICY)) is key_type


def test_issues_and_refusals_are_recorded_without_secrets(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        leaf, _ = made.issue(request())
        with pytest.raises(IssuanceRefused):
            made.issue(ask(SPIFFEID.workload("evil.internal", "orders")))
        made.issue_jwt_svid(ORDERS, ["mailer"])
        with pytest.raises(IssuanceRefused):
            made.issue_jwt_svid(SPIFFEID(TRUST_DOMAIN), ["mailer"])
    log = tmp_path / "authority" / "audit.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    issued, refused, jwt, jwt_refused = lines[-4:]
    assert issued["event"] == "svid_issued"
    assert issued["serial"] == f"{leaf.serial_number:x}"
    assert issued["spiffe_id"] == str(ORDERS)
    assert refused["event"] == "svid_refused"
    assert "identity-is-ours" in refused["reason"]
    assert (jwt["event"], jwt["audiences"]) == ("jwt_svid_issued", ["mailer"])
    assert "identity-is-a-workload" in jwt_refused["reason"]
    assert all(line["format"] == "watertight.audit/1" for line in lines)
    assert log.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in log.read_text()
    assert "eyJ" not in log.read_text()
