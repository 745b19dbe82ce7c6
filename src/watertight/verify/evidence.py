"""Signed evidence: an in-toto Statement v1 in a DSSE envelope, signed by our own verifier.

The signer is the SVID ``spiffe://<trust domain>/watertight/verifier``; its chain rides along in
the envelope, so that whoever holds the trust bundle can check evidence long after. The chain is
judged at the time that the statement gives: evidence outlives the leaf that signed it.
Sources: DSSE protocol.md v1.0 (PAE), in-toto attestation v1 (Statement).
"""

import base64
import binascii
import datetime as dt
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from watertight.errors import ExitCode, WatertightError
from watertight.identity.chain import verify_svid
from watertight.identity.errors import IdentityError
from watertight.identity.spiffe import SPIFFEID
from watertight.identity.svid import PEM, X509SVID, TrustBundle
from watertight.verify.results import Evidence

VERIFIER_PATH = "watertight/verifier"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://watertight.dev/evidence/v1"
MAX_ENVELOPE_BYTES = 64 * 1_048_576
MAX_CLOCK_SKEW = dt.timedelta(minutes=5)


class EvidenceRefused(WatertightError):
    """The evidence is not what a verifier of this trust domain signed."""

    exit_code = ExitCode.FOUND_WRONG


@dataclass(frozen=True, slots=True)
class CheckedEvidence:
    """What signed evidence says, once its signature and its signer's chain hold."""

    result: dict[str, Any]
    """The JSON of DESIGN.md section 10."""
    finished_at: dt.datetime
    declaration_sha256: str
    declaration_name: str
    signer: str = ""
    """The SPIFFE ID that signed."""


def sign_evidence(
    evidence: Evidence, declaration: bytes, signer: X509SVID, *, name: str, now: dt.datetime
) -> bytes:
    """The DSSE envelope as JSON. ``declaration`` is the file that was proven, ``name`` its name."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(declaration).hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"finishedAt": now.isoformat(), "result": evidence.as_dict()},
    }
    payload = json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()
    key = serialization.load_der_private_key(signer.private_key_der, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EvidenceRefused(
            "Evidence is signed with an ECDSA key, and the verifier's is not one."
        )
    signature = key.sign(_pae(payload), ec.ECDSA(hashes.SHA256()))
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": signer.leaf.fingerprint(hashes.SHA256()).hex(),
                "sig": base64.b64encode(signature).decode(),
                "certificate": base64.b64encode(signer.leaf.public_bytes(PEM)).decode(),
                "intermediates": [
                    base64.b64encode(c.public_bytes(PEM)).decode() for c in signer.chain[1:]
                ],
            }
        ],
    }
    return json.dumps(envelope, indent=1).encode() + b"\n"


def check_evidence(
    envelope: bytes,
    roots: Sequence[x509.Certificate],
    *,
    trust_domain: str,
    declaration: bytes | None = None,
    now: dt.datetime,
) -> CheckedEvidence:
    """What the evidence says, if a verifier of ``trust_domain`` under ``roots`` signed all of it.

    With ``declaration``, it must also be the file that was proven. Raises
    :class:`EvidenceRefused` at the first thing that is wrong.
    """
    payload, signature, chain = _open(envelope)
    leaf = chain[0]
    public = leaf.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise EvidenceRefused("The signer's key is not an ECDSA key.")
    try:
        public.verify(signature, _pae(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise EvidenceRefused("The signature does not fit the evidence: it was altered.") from None
    checked = _statement(payload)
    if checked.finished_at > now + MAX_CLOCK_SKEW:
        raise EvidenceRefused("The evidence says that it was made in the future.")
    signer = _check_signer(chain, roots, trust_domain, checked.finished_at)
    if declaration is not None:
        actual = hashlib.sha256(declaration).hexdigest()
        if actual != checked.declaration_sha256:
            raise EvidenceRefused(
                f"The evidence proves another {checked.declaration_name} than the one given.",
                remedy="Run watertight verify again for this file.",
            )
    return replace(checked, signer=signer)


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _open(envelope: bytes) -> tuple[bytes, bytes, tuple[x509.Certificate, ...]]:
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise EvidenceRefused("The evidence is larger than any proof that we write.")
    try:
        body = json.loads(envelope)
        if body["payloadType"] != PAYLOAD_TYPE:
            raise EvidenceRefused(f"The envelope's payload type is not {PAYLOAD_TYPE}.")
        if len(body["signatures"]) != 1:
            raise EvidenceRefused("The envelope must carry exactly one signature.")
        signed = body["signatures"][0]
        pems = [signed["certificate"], *signed["intermediates"]]
        chain = tuple(x509.load_pem_x509_certificate(_b64(pem)) for pem in pems)
        return _b64(body["payload"]), _b64(signed["sig"]), chain
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise EvidenceRefused(f"This is not signed evidence ({type(error).__name__}).") from error


def _b64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise EvidenceRefused("The envelope holds broken base64.") from error


def _statement(payload: bytes) -> CheckedEvidence:
    try:
        statement = json.loads(payload)
        subject = statement["subject"][0]
        finished_at = dt.datetime.fromisoformat(statement["predicate"]["finishedAt"])
        if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
            raise EvidenceRefused(f"The statement is not {PREDICATE_TYPE}.")
        if finished_at.tzinfo is None:
            raise EvidenceRefused("The statement's time has no time zone.")
        return CheckedEvidence(
            result=statement["predicate"]["result"],
            finished_at=finished_at,
            declaration_sha256=subject["digest"]["sha256"],
            declaration_name=subject["name"],
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EvidenceRefused(f"The statement is malformed ({type(error).__name__}).") from error


def _check_signer(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    trust_domain: str,
    at: dt.datetime,
) -> str:
    """The SPIFFE ID of the signer, which must be the verifier of ``trust_domain``."""
    verifier = SPIFFEID.workload(trust_domain, VERIFIER_PATH)
    bundle = TrustBundle(trust_domain, tuple(roots))
    try:
        return str(verify_svid(chain, {trust_domain: bundle}, at, expected=verifier))
    except IdentityError as error:
        raise EvidenceRefused(
            f"Its signer is not the verifier of {trust_domain}: {error.message}",
            remedy="Check with the trust bundle of the trust domain that made the evidence.",
        ) from error


def write_evidence(directory: Path, envelope: bytes, page: str, *, now: dt.datetime) -> Path:
    """Writes ``<timestamp>.json``, ``latest.json`` and ``latest.html``, each atomically (0600).

    Returns the path of the first.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{now.astimezone(dt.UTC):%Y%m%dT%H%M%S.%fZ}.json"
    _replace(path, envelope)
    _replace(directory / "latest.json", envelope)
    _replace(directory / "latest.html", page.encode())
    return path


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
