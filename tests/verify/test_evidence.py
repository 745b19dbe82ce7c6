"""Signed evidence: what checks, and every way of tampering that must not."""

import base64
import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.verify.results import ALL_HELD, MIXED
from watertight.identity.authority import Authority
from watertight.identity.keeper import SVIDKeeper, Workload
from watertight.identity.kek import FileKEK
from watertight.identity.svid import X509SVID
from watertight.verify.evidence import (
    VERIFIER_PATH,
    EvidenceRefused,
    check_evidence,
    sign_evidence,
    write_evidence,
)

TRUST_DOMAIN = "shop.internal"
DECLARATION = b"trust_domain: shop.internal\n"
NOW = dt.datetime.now(dt.UTC)
"""Of the whole module, authority included: tests may run long after they were imported."""


async def identity(directory: Path, workload: str) -> tuple[X509SVID, tuple[x509.Certificate, ...]]:
    """A genuine SVID of a new authority, and its roots."""
    kek = FileKEK(directory / "kek")
    with Authority.create(
        directory / "authority", TRUST_DOMAIN, kek=kek, now=lambda: NOW
    ) as authority:
        keeper = SVIDKeeper(authority, [Workload(workload, ())], now=lambda: NOW)
        await keeper.refresh()
        svid = keeper.x509_svid(workload)
        assert svid is not None
        return svid, authority.bundle().authorities


@pytest.fixture
async def verifier(tmp_path: Path) -> tuple[X509SVID, tuple[x509.Certificate, ...]]:
    return await identity(tmp_path / "ours", VERIFIER_PATH)


def signed(svid: X509SVID, now: dt.datetime = NOW) -> bytes:
    return sign_evidence(ALL_HELD, DECLARATION, svid, name="watertight.yaml", now=now)


def test_what_was_signed_checks(verifier: tuple[X509SVID, tuple[x509.Certificate, ...]]) -> None:
    svid, roots = verifier
    checked = check_evidence(
        signed(svid), roots, trust_domain=TRUST_DOMAIN, declaration=DECLARATION, now=NOW
    )
    assert checked.result == ALL_HELD.as_dict()
    assert checked.signer == f"spiffe://{TRUST_DOMAIN}/{VERIFIER_PATH}"
    assert checked.finished_at == NOW


def test_it_checks_long_after_its_signer_has_expired(
    verifier: tuple[X509SVID, tuple[x509.Certificate, ...]],
) -> None:
    svid, roots = verifier
    later = NOW + dt.timedelta(days=2)
    check_evidence(signed(svid), roots, trust_domain=TRUST_DOMAIN, now=later)


def payload(envelope: dict[str, Any], edit: Callable[[dict[str, Any]], object]) -> None:
    statement = json.loads(base64.b64decode(envelope["payload"]))
    edit(statement)
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


def flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


TAMPERINGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a result": lambda e: payload(
        e, lambda s: s["predicate"]["result"]["summary"].update(broken=0, held=9)
    ),
    "the subject": lambda e: payload(e, lambda s: s["subject"][0].update(name="other.yaml")),
    "the time": lambda e: payload(
        e, lambda s: s["predicate"].update(finishedAt="2020-01-01T00:00:00+00:00")
    ),
    "the signature": lambda e: e["signatures"][0].update(sig=flip(e["signatures"][0]["sig"])),
    "no signature": lambda e: e["signatures"].clear(),
    "two signatures": lambda e: e["signatures"].append(e["signatures"][0]),
    "no chain": lambda e: e["signatures"][0].update(intermediates=[]),
    "the payload type": lambda e: e.update(payloadType="text/plain"),
    "the payload's base64": lambda e: e.update(payload="%%%"),
    "no payload": lambda e: e.pop("payload"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_refused(
    verifier: tuple[X509SVID, tuple[x509.Certificate, ...]], name: str
) -> None:
    svid, roots = verifier
    envelope = json.loads(signed(svid))
    TAMPERINGS[name](envelope)
    with pytest.raises(EvidenceRefused):
        check_evidence(json.dumps(envelope).encode(), roots, trust_domain=TRUST_DOMAIN, now=NOW)


@pytest.mark.parametrize("envelope", [b"", b"{}", b"[]", b"\xff", b"null", b"[" * 100_000])
def test_what_is_no_evidence_is_refused(envelope: bytes) -> None:
    with pytest.raises(EvidenceRefused):
        check_evidence(envelope, [], trust_domain=TRUST_DOMAIN, now=NOW)


async def test_another_authority_of_the_same_names_is_refused(
    verifier: tuple[X509SVID, tuple[x509.Certificate, ...]], tmp_path: Path
) -> None:
    _svid, roots = verifier
    impostor, _roots = await identity(tmp_path / "theirs", VERIFIER_PATH)
    with pytest.raises(EvidenceRefused, match="not the verifier"):
        check_evidence(signed(impostor), roots, trust_domain=TRUST_DOMAIN, now=NOW)


async def test_another_workload_of_ours_is_refused(tmp_path: Path) -> None:
    service, roots = await identity(tmp_path, "orders")
    with pytest.raises(EvidenceRefused, match="not the verifier"):
        check_evidence(signed(service), roots, trust_domain=TRUST_DOMAIN, now=NOW)


def test_another_declaration_is_refused(
    verifier: tuple[X509SVID, tuple[x509.Certificate, ...]],
) -> None:
    svid, roots = verifier
    with pytest.raises(EvidenceRefused, match=r"another watertight\.yaml"):
        check_evidence(
            signed(svid), roots, trust_domain=TRUST_DOMAIN, declaration=b"other", now=NOW
        )


@pytest.mark.parametrize("days", [-3, 3])
def test_a_time_at_which_the_signer_was_not_valid_is_refused(
    verifier: tuple[X509SVID, tuple[x509.Certificate, ...]], days: int
) -> None:
    svid, roots = verifier
    when = NOW + dt.timedelta(days=days)
    with pytest.raises(EvidenceRefused):
        check_evidence(signed(svid, when), roots, trust_domain=TRUST_DOMAIN, now=max(when, NOW))


def test_evidence_from_the_future_is_refused(
    verifier: tuple[X509SVID, tuple[x509.Certificate, ...]],
) -> None:
    svid, roots = verifier
    soon = signed(svid, NOW + dt.timedelta(minutes=20))
    with pytest.raises(EvidenceRefused, match="future"):
        check_evidence(soon, roots, trust_domain=TRUST_DOMAIN, now=NOW)


def test_it_is_written_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "evidence"
    path = write_evidence(directory, b"{}", "<p>", now=NOW)
    assert path.read_bytes() == (directory / "latest.json").read_bytes() == b"{}"
    assert (directory / "latest.html").read_text() == "<p>"
    assert {p.stat().st_mode & 0o777 for p in directory.iterdir()} == {0o600}
    assert len(list(directory.iterdir())) == 3
    write_evidence(directory, b"[]", "<b>", now=NOW + dt.timedelta(seconds=1))
    assert (directory / "latest.json").read_bytes() == b"[]"
    assert path.read_bytes() == b"{}"


def test_mixed_evidence_is_signed_as_it_is(
    verifier: tuple[X509SVID, tuple[x509.Certificate, ...]],
) -> None:
    svid, roots = verifier
    envelope = sign_evidence(
        replace(MIXED, seconds=1.0), DECLARATION, svid, name="watertight.yaml", now=NOW
    )
    checked = check_evidence(envelope, roots, trust_domain=TRUST_DOMAIN, now=NOW)
    assert checked.result["summary"]["broken"] == 1
