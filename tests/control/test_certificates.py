"""The gateway's own certificate is checked as a pair before a proxy sees it."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from watertight.control.certificates import CertificateRefused, GatewayCertificate
from watertight.model.system import Gateway

GATEWAY = Gateway("shop.example", (), certificate="chain.pem", private_key="key.pem")


def write_pair(
    directory: Path, *names: str, days: int = 1, other_key: bool = False, sans: bool = True
) -> None:
    """A self-signed pair for ``names``."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=3))
        .not_valid_after(now + dt.timedelta(days=days))
    )
    if sans:
        san = x509.SubjectAlternativeName([x509.DNSName(n) for n in names])
        builder = builder.add_extension(san, critical=False)
    chain = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    written = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    pem = written.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "chain.pem").write_bytes(chain)
    (directory / "key.pem").write_bytes(pem)


@pytest.mark.parametrize("name", ["shop.example", "*.example"])
def test_a_good_pair_is_served(tmp_path: Path, name: str) -> None:
    write_pair(tmp_path, name)
    certificate = GatewayCertificate.declared(GATEWAY, tmp_path)
    assert certificate is not None
    assert certificate.secret()["tls_certificate"]["private_key"]["inline_bytes"]


def test_without_files_our_authority_issues() -> None:
    assert GatewayCertificate.declared(Gateway("shop.example", ()), Path()) is None
    assert GatewayCertificate.declared(None, Path()) is None


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "shop.example", other_key=True)
    with pytest.raises(CertificateRefused, match="not the certificate's"):
        GatewayCertificate.declared(GATEWAY, tmp_path)


def test_an_ended_certificate_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "shop.example", days=-1)
    with pytest.raises(CertificateRefused, match="it ended at"):
        GatewayCertificate.declared(GATEWAY, tmp_path)


@pytest.mark.parametrize("name", ["other.example", "*.shop.example", "*.com"])
def test_a_certificate_of_another_host_is_refused(tmp_path: Path, name: str) -> None:
    write_pair(tmp_path, name)
    with pytest.raises(CertificateRefused, match=r"does not name shop\.example"):
        GatewayCertificate.declared(GATEWAY, tmp_path)


def test_a_name_only_in_the_subject_does_not_count(tmp_path: Path) -> None:
    """RFC 9525 section 2: the common name is no place for a host name."""
    write_pair(tmp_path, "shop.example", sans=False)
    with pytest.raises(CertificateRefused, match="does not name"):
        GatewayCertificate.declared(GATEWAY, tmp_path)


@pytest.mark.parametrize("file", ["chain.pem", "key.pem"])
def test_what_is_not_pem_or_not_there_is_refused(tmp_path: Path, file: str) -> None:
    write_pair(tmp_path, "shop.example")
    (tmp_path / file).write_text("not PEM")
    with pytest.raises(CertificateRefused, match="not an unencrypted PEM pair"):
        GatewayCertificate.declared(GATEWAY, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CertificateRefused, match="cannot be read"):
        GatewayCertificate.declared(GATEWAY, tmp_path)


def test_a_new_pair_is_taken_and_a_bad_one_is_not(tmp_path: Path) -> None:
    write_pair(tmp_path, "shop.example")
    certificate = GatewayCertificate.declared(GATEWAY, tmp_path)
    assert certificate is not None
    first = certificate.secret()
    assert certificate.reload() is False
    write_pair(tmp_path, "shop.example")
    assert certificate.reload() is True
    second = certificate.secret()
    assert second != first
    (tmp_path / "key.pem").write_text("half written")
    with pytest.raises(CertificateRefused):
        certificate.reload()
    assert certificate.secret() == second
