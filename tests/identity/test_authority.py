"""The authority issues SVIDs of our profile, keeps its promises across restarts, and says no."""

import dataclasses
import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.identity.world import (
    DEFAULTS,
    ORDERS,
    START,
    TRUST_DOMAIN,
    FakeClock,
    authority,
    kek,
    make_csr,
    request,
)
from watertight.identity import profiles
from watertight.identity.authority import Authority
from watertight.identity.errors import (
    AuthorityBusy,
    CredentialRejected,
    DamagedState,
    IdentityError,
    IssuanceRefused,
    KeyUnavailable,
    MalformedSPIFFEID,
)
from watertight.identity.kek import FileKEK
from watertight.identity.keys import KeyType
from watertight.identity.profiles import Role
from watertight.identity.requests import SVIDRequest
from watertight.identity.settings import AuthoritySettings
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


def test_opens_with_the_same_keys_and_bundle(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        before = made.bundle()
        _, issuer = made.issue(request())
    with authority(tmp_path, FakeClock()) as again:
        assert again.bundle() == before
        assert again.issue(request())[1] == issuer


def test_a_leaf_never_outlives_its_ca(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        _, issuer = made.issue(request())
        now.time = issuer.not_valid_after_utc - HOUR / 2
        leaf, same = made.issue(request())
        assert same == issuer
        assert leaf.not_valid_after_utc == issuer.not_valid_after_utc


@pytest.mark.parametrize("key_type", KeyType)
def test_issues_with_each_key_type(tmp_path: Path, key_type: KeyType) -> None:
    with authority(tmp_path, FakeClock(), AuthoritySettings(key_type=key_type)) as made:
        leaf, issuer = made.issue(request())
        leaf.verify_directly_issued_by(issuer)
        assert made.issue_jwt_svid(ORDERS, ["mailer"])


def test_the_chain_holds_no_root_and_the_bundle_only_roots(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        made.prepare_issuer()
        chain, bundle = made.issue(request()), made.bundle()
    assert len(chain) == 2
    assert not set(chain) & set(bundle.authorities)
    for root in bundle.authorities:
        root.verify_directly_issued_by(root)
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (constraints.ca, constraints.path_length) == (True, 1)
    below = chain[1].extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (below.ca, below.path_length) == (True, 0)


def test_serials_are_random_and_never_repeat(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        serials = {made.issue(request())[0].serial_number for _ in range(50)}
    assert len(serials) == 50
    assert min(serials).bit_length() > 64


def test_only_one_process_holds_it(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        with pytest.raises(AuthorityBusy), authority(tmp_path, FakeClock()):
            pass
        assert made.issue(request())
    with authority(tmp_path, FakeClock()) as made:
        assert made.issue(request())


def test_refuses_to_found_twice_or_under_another_name(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    with authority(tmp_path, FakeClock()):
        pass
    with pytest.raises(IdentityError, match="already is"):
        Authority.create(directory, TRUST_DOMAIN, kek=kek(tmp_path))
    with pytest.raises(IdentityError, match=r"shop\.internal, not of other\.internal"):
        Authority.open_or_create(directory, "other.internal", kek=kek(tmp_path))
    with authority(tmp_path, FakeClock()) as made:  # the refusals let go of the lock
        assert made.trust_domain == TRUST_DOMAIN


def test_an_authority_of_another_name_is_left_as_it_is(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now):
        pass
    now.advance(10 * 365 * 86_400)
    before = (tmp_path / "authority" / "state.json").read_bytes()
    with pytest.raises(IdentityError, match="not of other"):
        Authority.open_or_create(tmp_path / "authority", "other", kek=kek(tmp_path), now=now)
    assert (tmp_path / "authority" / "state.json").read_bytes() == before


def test_refuses_trust_domains_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(MalformedSPIFFEID):
        Authority.create(tmp_path / "a", "Shop Internal", kek=kek(tmp_path))
    with pytest.raises(IdentityError, match="64"):
        Authority.create(tmp_path / "a", "a" * 65, kek=kek(tmp_path))
    assert not (tmp_path / "a").exists()


def test_opening_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedState):
        Authority.open(tmp_path / "nothing", kek=kek(tmp_path))


def test_a_wrong_kek_is_found_out_on_opening(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()):
        pass
    other = FileKEK(tmp_path / "other")
    other.seal(b"", context="x")
    with pytest.raises(KeyUnavailable):
        Authority.open(tmp_path / "authority", kek=other, now=FakeClock())


def test_a_wrong_kek_seals_nothing_new_even_if_all_keys_have_run_out(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now):
        pass
    now.advance(10 * 365 * 86_400)
    other = FileKEK(tmp_path / "other")
    other.seal(b"", context="x")
    before = (tmp_path / "authority" / "state.json").read_bytes()
    with pytest.raises(KeyUnavailable):
        Authority.open(tmp_path / "authority", kek=other, now=now)
    assert (tmp_path / "authority" / "state.json").read_bytes() == before


def test_a_directory_that_cannot_be_used_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="cannot be used: Not a directory"):
        Authority.open(tmp_path / "file" / "authority", kek=kek(tmp_path))


def test_only_directories_of_our_own_making_are_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with authority(tmp_path, FakeClock()):
        pass
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "authority").stat().st_mode & 0o777 == 0o700


def test_revocation_is_for_workloads_of_ours(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        for wrong in (SPIFFEID(TRUST_DOMAIN), SPIFFEID("evil.internal", "/orders")):
            with pytest.raises(IdentityError, match="no workload"):
                made.revoke(wrong)
        made.revoke(ORDERS)
        assert made.revoked == {ORDERS}
        with pytest.raises(IssuanceRefused, match="identity-is-not-revoked"):
            made.issue(request("orders"))
        assert made.issue(request("mailer"))
        made.restore(ORDERS)
        assert made.issue(request("orders"))


def test_nothing_is_issued_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with authority(tmp_path, FakeClock()) as made:
        monkeypatch.setattr("watertight.identity.audit.os.write", lambda *_: 0)
        with pytest.raises(IdentityError, match="No space left"):
            made.issue(request())


def test_what_breaks_a_rule_when_signed_never_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage of the profile: the recheck must bite, and the audit log must say so."""
    real = profiles.svid

    def weakened(template: profiles.LeafTemplate, issuer: x509.Certificate) -> object:
        mallory = SPIFFEID.workload(TRUST_DOMAIN, "mallory")
        return real(dataclasses.replace(template, spiffe_id=mallory), issuer)

    with authority(tmp_path, FakeClock()) as made:
        monkeypatch.setattr(profiles, "svid", weakened)
        with pytest.raises(CredentialRejected, match="is-the-attested-id"):
            made.issue(request())
    last = (tmp_path / "authority" / "audit.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["event"] == "svid_refused"


def test_settings_that_contradict_one_another_are_refused() -> None:
    for wrong in (
        {"svid_ttl_seconds": 0}, {"svid_ttl_seconds": 90_000}, {"issuer_ttl_seconds": 3600},
        {"root_ttl_seconds": 3600}, {"jwt_svid_ttl_seconds": -1},
    ):  # fmt: skip
        with pytest.raises(IdentityError):
            AuthoritySettings(**wrong)  # type: ignore[arg-type]
    assert DEFAULTS.svid_ttl_seconds == 3600
