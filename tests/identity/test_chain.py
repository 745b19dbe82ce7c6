"""Chains of peers: the right ones prove an identity, each wrong one is refused for its reason."""

import datetime as dt
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.identity.forging import (
    CA,
    URI,
    Draft,
    Hierarchy,
    ca_draft,
    make_ca,
    make_hierarchy,
)
from tests.identity.world import ORDERS, START, TRUST_DOMAIN, FakeClock, authority, request
from watertight.identity import recheck
from watertight.identity.chain import verify_client_path, verify_server_path, verify_svid
from watertight.identity.errors import CredentialRejected, UntrustedChain
from watertight.identity.keys import KeyType
from watertight.identity.settings import AuthoritySettings
from watertight.identity.spiffe import SPIFFEID
from watertight.identity.svid import TrustBundle

DAY = dt.timedelta(days=1)
VECTORS = Path(__file__).parents[1] / "vectors" / "x509-limbo.json.gz"


@pytest.fixture(scope="module")
def ours() -> Hierarchy:
    return make_hierarchy()


def bundles(*hierarchies: Hierarchy, trust_domain: str = TRUST_DOMAIN) -> dict[str, TrustBundle]:
    """A bundle of these roots."""
    roots = tuple(h.root.certificate for h in hierarchies)
    return {trust_domain: TrustBundle(trust_domain, roots)}


def chain(draft: Draft, issuer: CA) -> tuple[x509.Certificate, ...]:
    """What a peer presents."""
    return draft.signed(issuer), issuer.certificate


def test_our_own_svids_verify_with_each_key_type_that_envoy_takes(tmp_path: Path) -> None:
    for key_type in (KeyType.ECDSA_P256, KeyType.ECDSA_P384):
        now = FakeClock()
        settings = AuthoritySettings(key_type=key_type)
        with authority(tmp_path / key_type, now, settings) as made:
            issued = made.issue(request())
            trusted = {TRUST_DOMAIN: made.bundle()}
            assert verify_svid(issued, trusted, now(), expected=ORDERS) == ORDERS


def test_ed25519_authorities_issue_but_the_library_verifies_no_such_path(tmp_path: Path) -> None:
    now, settings = FakeClock(), AuthoritySettings(key_type=KeyType.ED25519)
    with authority(tmp_path, now, settings) as made:
        leaf, issuer = made.issue(request())
        leaf.verify_directly_issued_by(issuer)
        with pytest.raises(UntrustedChain, match="public key algorithm"):
            verify_svid((leaf, issuer), {TRUST_DOMAIN: made.bundle()}, now())


def test_w12_the_peers_own_trust_domain_chooses_the_bundle(ours: Hierarchy) -> None:
    foreign = make_hierarchy("evil.internal")
    both = bundles(ours) | bundles(foreign, trust_domain="evil.internal")
    assert verify_svid(chain(Draft(), ours.issuer), both, START) == ORDERS
    with pytest.raises(UntrustedChain, match="No valid path"):
        verify_svid(chain(Draft(), foreign.issuer), both, START)
    with pytest.raises(UntrustedChain, match="not trusted here"):
        verify_svid(chain(Draft(), ours.issuer), {}, START)
    empty = {TRUST_DOMAIN: TrustBundle(TRUST_DOMAIN, ())}
    with pytest.raises(UntrustedChain, match="not trusted here"):
        verify_svid(chain(Draft(), ours.issuer), empty, START)


def test_the_peer_must_be_the_expected_one(ours: Hierarchy) -> None:
    mailer = SPIFFEID.workload(TRUST_DOMAIN, "mailer")
    with pytest.raises(UntrustedChain, match="/orders, not spiffe:"):
        verify_svid(chain(Draft(), ours.issuer), bundles(ours), START, expected=mailer)


def _other_root_of_the_same_names(_: Hierarchy) -> tuple[x509.Certificate, ...]:
    return chain(Draft(), make_hierarchy().issuer)


def _issuer_left_out(ours: Hierarchy) -> tuple[x509.Certificate, ...]:
    return (Draft().signed(ours.issuer),)


def _self_signed(_: Hierarchy) -> tuple[x509.Certificate, ...]:
    return (Draft().signed(),)


def _expired(ours: Hierarchy) -> tuple[x509.Certificate, ...]:
    return chain(Draft(start=START - 2 * DAY, end=START - DAY), ours.issuer)


def _not_yet_valid(ours: Hierarchy) -> tuple[x509.Certificate, ...]:
    return chain(Draft(start=START + DAY / 2, end=START + DAY), ours.issuer)


def _signed_by_a_leaf(ours: Hierarchy) -> tuple[x509.Certificate, ...]:
    draft = Draft()
    middle = CA(draft.signed(ours.issuer), draft.key)
    return (*chain(Draft(), middle), ours.issuer.certificate)


def _too_long_a_path(ours: Hierarchy) -> tuple[x509.Certificate, ...]:
    below = make_ca(ca_draft("second", 0), ours.issuer)
    return (*chain(Draft(), below), ours.issuer.certificate)


def _too_many(ours: Hierarchy) -> tuple[x509.Certificate, ...]:
    return (Draft().signed(ours.issuer), *[ours.issuer.certificate] * 40)


def _expired_issuer(ours: Hierarchy) -> tuple[x509.Certificate, ...]:
    old = ca_draft("issuer", 0).but(start=START - 2 * DAY, end=START - DAY)
    return chain(Draft(), make_ca(old, ours.root))


def _nothing(_: Hierarchy) -> tuple[x509.Certificate, ...]:
    return ()


@pytest.mark.parametrize(
    "peer",
    [
        _other_root_of_the_same_names, _issuer_left_out, _self_signed, _expired, _not_yet_valid,
        _signed_by_a_leaf, _too_long_a_path, _too_many, _expired_issuer, _nothing,
    ],
)  # fmt: skip
def test_x9_no_path_to_a_root(
    ours: Hierarchy, peer: Callable[[Hierarchy], tuple[x509.Certificate, ...]]
) -> None:
    with pytest.raises(UntrustedChain):
        verify_svid(peer(ours), bundles(ours), START)


def test_x8_a_ca_certificate_is_no_peer(ours: Hierarchy) -> None:
    with pytest.raises(CredentialRejected):
        verify_svid((ours.issuer.certificate,), bundles(ours), START)


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("key-usage-is-critical", {"usage_critical": False}),
        ("names-its-trust-domain", {"sans": (URI(f"spiffe://{TRUST_DOMAIN}/ca"),)}),
        ("is-of-the-same-domain", {"sans": (URI("spiffe://evil.internal"),)}),
    ],
)
def test_x7_every_ca_of_the_path_is_looked_at(
    ours: Hierarchy, check: str, change: dict[str, object]
) -> None:
    issuer = make_ca(ca_draft("issuer", 0).but(**change), ours.root)
    with pytest.raises(CredentialRejected) as refusal:
        verify_svid(chain(Draft(), issuer), bundles(ours), START)
    assert refusal.value.check == check


def test_x7_a_ca_without_a_spiffe_id_is_another_implementations(ours: Hierarchy) -> None:
    issuer = make_ca(ca_draft("issuer", 0).but(sans=None), ours.root)
    assert verify_svid(chain(Draft(), issuer), bundles(ours), START) == ORDERS


def test_path_rules_bite_where_the_library_does_not(ours: Hierarchy) -> None:
    bare = make_ca(ca_draft("issuer", 0).but(subject_key_identifier=False), ours.root)
    with pytest.raises(UntrustedChain, match="ca-has-a-key-identifier"):
        verify_client_path(Draft().signed(bare), [bare.certificate], [ours.root.certificate], START)


def test_x9_version_1_has_no_extensions() -> None:
    cases = json.loads(gzip.decompress(VECTORS.read_bytes()))["testcases"]
    (case,) = [c for c in cases if c["id"] == "webpki::v1-cert"]
    certificate = x509.load_pem_x509_certificate(case["peer_certificate"].encode())
    (check,) = [c for c in recheck.LEAF_CHECKS if c.name == "version-is-3"]
    with pytest.raises(recheck._Broken, match="only version 3"):
        check.run(recheck.Reading(certificate))


def test_a_server_is_verified_by_its_dns_name(ours: Hierarchy) -> None:
    leaf, issuer = chain(Draft(), ours.issuer)
    roots = [ours.root.certificate]
    assert verify_server_path(leaf, [issuer], roots, START, x509.DNSName("orders"))[-1] == roots[0]
    with pytest.raises(UntrustedChain):
        verify_server_path(leaf, [issuer], roots, START, x509.DNSName("mailer"))
    with pytest.raises(UntrustedChain, match="no root"):
        verify_server_path(leaf, [issuer], [], START, x509.DNSName("orders"))
