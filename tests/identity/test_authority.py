"""The authority issues SVIDs of our profile, keeps its promises across restarts, and says no."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.identity.world import (
    ORDERS,
    START,
    TRUST_DOMAIN,
    FakeClock,
    authority,
    make_csr,
    request,
)
from watertight.identity.profiles import Role
from watertight.identity.requests import SVIDRequest
from watertight.identity.spiffe import SPIFFEID

HOUR = dt.timedelta(hours=1)


def test_issues_the_profile_of_the_design(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        leaf, issuer = made.issue(request("orders"))
        (root,) = made.bundle().authorities
    assert leaf.subject.rfc4514_string() == f"CN=orders,OU=services,O={TRUST_DOMAIN}"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(str(ORDERS)), x509.DNSName("orders")]
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca is False
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.key_agreement
    extended = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert extended == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.not_valid_after_utc == START + HOUR
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)


def test_a_leaf_starts_a_minute_early_so_that_lagging_clocks_accept_it(tmp_path: Path) -> None:
    now = FakeClock(START)
    with authority(tmp_path, now) as made:
        now.advance(1000)
        leaf, _ = made.issue(request())
    assert leaf.not_valid_before_utc == now() - dt.timedelta(seconds=60)


def test_servers_of_resources_get_their_own_unit(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        database = SPIFFEID.workload(TRUST_DOMAIN, "orders-db")
        wanted = SVIDRequest(make_csr(), database, ("orders-db",), role=Role.SERVERS)
        leaf, _ = made.issue(wanted)
    assert leaf.subject.rfc4514_string() == f"CN=orders-db,OU=servers,O={TRUST_DOMAIN}"
