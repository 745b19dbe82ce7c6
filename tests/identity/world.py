"""What the identity tests share: a clock that is turned by hand, and an authority in a temp dir."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from watertight.identity.authority import Authority
from watertight.identity.kek import FileKEK
from watertight.identity.keys import KeyType, PrivateKey, generate, signing_hash
from watertight.identity.requests import SVIDRequest
from watertight.identity.settings import AuthoritySettings
from watertight.identity.spiffe import SPIFFEID

TRUST_DOMAIN = "shop.internal"
START = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
ORDERS = SPIFFEID.workload(TRUST_DOMAIN, "orders")
DEFAULTS = AuthoritySettings()


class FakeClock:
    """A clock that stands still until it is turned."""

    def __init__(self, start: dt.datetime = START) -> None:
        self.time = start

    def __call__(self) -> dt.datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        """Turns the clock; negative: back."""
        self.time += dt.timedelta(seconds=seconds)


def make_csr(key: PrivateKey | None = None, *sans: x509.GeneralName) -> bytes:
    """A PKCS#10 request (DER), signed by its key."""
    key = key or generate(KeyType.ECDSA_P256)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key, signing_hash(key)).public_bytes(serialization.Encoding.DER)


def request(name: str = "orders", ttl_seconds: float | None = None) -> SVIDRequest:
    """A good request for an SVID of a service."""
    identity = SPIFFEID.workload(TRUST_DOMAIN, name)
    return SVIDRequest(make_csr(), identity, (name,), ttl_seconds=ttl_seconds)


def kek(directory: Path) -> FileKEK:
    """The key-encryption key of the authority in this directory."""
    return FileKEK(directory / "kek")


@contextmanager
def authority(
    directory: Path, now: FakeClock, settings: AuthoritySettings = DEFAULTS
) -> Iterator[Authority]:
    """An authority that lives in ``directory``, opened or founded; closed afterwards."""
    made = Authority.open_or_create(
        directory / "authority", TRUST_DOMAIN, kek=kek(directory), settings=settings, now=now
    )
    with made:
        yield made
