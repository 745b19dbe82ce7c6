"""A small but real source of identities: real certificates, keys and tokens, rotated at will."""

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from watertight.errors import WatertightError
from watertight.identity.svid import X509SVID, TrustBundle

Extension: TypeAlias = tuple[x509.ExtensionType, bool]

TRUST_DOMAIN = "shop.internal"
HOUR = dt.timedelta(hours=1)


def key_usage(*, ca: bool) -> Extension:
    others = (
        *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        **dict.fromkeys(others, False),
    ), True


@dataclass(frozen=True)
class Signer:
    """A CA certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def sign(
    name: str,
    uri: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Signer | None,
    *,
    ca: bool,
    ttl: dt.timedelta = HOUR,
) -> x509.Certificate:
    """A certificate for ``key`` by ``issuer`` (None: by itself)."""
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuing_key = issuer.key if issuer else key
    extensions: list[Extension] = [
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), False),
        (x509.BasicConstraints(ca=ca, path_length=None), True),
        key_usage(ca=ca),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key.public_key()), False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + ttl)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuing_key, hashes.SHA256())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_root(name: str = "root") -> Signer:
    key = new_key()
    return Signer(sign(name, f"spiffe://{TRUST_DOMAIN}", key, None, ca=True), key)


def new_issuer(root: Signer) -> Signer:
    key = new_key()
    return Signer(sign("issuer", f"spiffe://{TRUST_DOMAIN}", key, root, ca=True), key)


def new_svid(issuer: Signer, workload: str) -> X509SVID:
    key = new_key()
    spiffe_id = f"spiffe://{TRUST_DOMAIN}/{workload}"
    leaf = sign(workload, spiffe_id, key, issuer, ca=False)
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return X509SVID(spiffe_id, (leaf, issuer.certificate), der)


class Clock:
    """The real time, moved on by what the test says."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()

    def __call__(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.ahead


class Identities:
    """An ``IdentitySource`` whose every change the test decides."""

    trust_domain = TRUST_DOMAIN

    def __init__(self, *workloads: str) -> None:
        self.waiting = 0
        """How many wait for the next change."""
        self.waits = 0
        """How often anybody has waited so far."""
        self._version = 1
        self._event = asyncio.Event()
        self._roots = [new_root()]
        self._issuer = new_issuer(self._roots[0])
        self._jwt_keys = [self._new_jwt_key("first")]
        self.svids = {name: new_svid(self._issuer, name) for name in workloads}

    @staticmethod
    def _new_jwt_key(kid: str) -> ECKey:
        return ECKey.generate_key("P-256", {"kid": kid, "alg": "ES256"})

    @property
    def version(self) -> int:
        return self._version

    async def changed(self, since: int) -> int:
        self.waiting += 1
        self.waits += 1
        try:
            while self._version <= since:
                await self._event.wait()
        finally:
            self.waiting -= 1
        return self._version

    def x509_svid(self, workload: str) -> X509SVID | None:
        return self.svids.get(workload)

    def bundle(self) -> TrustBundle:
        roots = tuple(root.certificate for root in self._roots)
        return TrustBundle(TRUST_DOMAIN, roots, self._version)

    def jwt_svid(self, workload: str, audiences: Sequence[str]) -> str:
        now = int(dt.datetime.now(dt.UTC).timestamp())
        claims = {
            "sub": f"spiffe://{TRUST_DOMAIN}/{workload}",
            "aud": list(audiences),
            "exp": now + 300,
            "iat": now,
        }
        key = self._jwt_keys[-1]
        header = {"alg": "ES256", "kid": str(key.kid), "typ": "JWT"}
        return jwt.encode(header, claims, key, algorithms=["ES256"])

    def jwt_bundle(self) -> dict[str, Any]:
        public = [key.as_dict(private=False) for key in self._jwt_keys]
        return {"keys": [key | {"use": "jwt-svid"} for key in public]}

    def validate_jwt_svid(self, token: str, audience: str) -> dict[str, Any]:
        registry = jwt.JWTClaimsRegistry(
            aud={"essential": True, "value": audience}, exp={"essential": True}
        )
        try:
            decoded = jwt.decode(token, KeySet(list(self._jwt_keys)), algorithms=["ES256"])
            registry.validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise WatertightError("The JWT-SVID is not valid.") from error
        return decoded.claims

    def rotate_leaf(self, workload: str) -> X509SVID:
        """A new SVID by the same issuer."""
        self.svids[workload] = new_svid(self._issuer, workload)
        self.touch()
        return self.svids[workload]

    def rotate_root(self) -> None:
        """A further root; new SVIDs for all, below it."""
        self._roots.append(new_root("root 2"))
        self._issuer = new_issuer(self._roots[-1])
        self._jwt_keys.append(self._new_jwt_key("second"))
        self.svids = {name: new_svid(self._issuer, name) for name in self.svids}
        self.touch()

    def lapse(self, workload: str, clock: Clock) -> None:
        """The workload's SVID ends before there is another: the machine slept for two hours."""
        clock.ahead += 2 * HOUR
        self.revoke(workload)

    def revoke(self, workload: str) -> None:
        """The workload has no identity any more."""
        del self.svids[workload]
        self.touch()

    def touch(self) -> None:
        """Says that something changed."""
        self._version += 1
        event, self._event = self._event, asyncio.Event()
        event.set()
