"""A set of credential files is whole, matching and private, or it is not put in place."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.identity.serving import processes
from tests.identity.serving.authority import Identities
from watertight.identity.credential_files import CredentialFiles, DeliveryError, Owner
from watertight.identity.svid import TrustBundle

NAMES = {"combined.pem", "certificate.pem", "private_key.pem", "bundle.pem", "private_key.der"}
STORES = {"keystore.p12", "truststore.p12"}


def read(directory: Path) -> dict[str, bytes]:
    """All but the stores, which are tested by who reads them (``test_keystores``)."""
    found = {path.name: path.read_bytes() for path in (directory / "current").iterdir()}
    assert found.keys() >= STORES
    return {name: data for name, data in found.items() if name not in STORES}


@pytest.fixture
def files(tmp_path: Path) -> CredentialFiles:
    return CredentialFiles(tmp_path / "tls")


async def test_the_files_hold_the_svid(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    svid = identities.svids["orders"]
    assert files.put(svid, identities.bundle())
    assert read(tmp_path / "tls") == {
        "combined.pem": svid.private_key_pem() + svid.chain_pem(),
        "certificate.pem": svid.chain_pem(),
        "private_key.pem": svid.private_key_pem(),
        "bundle.pem": identities.bundle().pem(),
        "private_key.der": svid.private_key_der,
    }


async def test_files_are_private(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    files.put(identities.svids["orders"], identities.bundle())
    for path in (tmp_path / "tls").rglob("*"):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


@pytest.mark.root
@pytest.mark.skipif(not processes.is_root(), reason="only root may give files away")
async def test_files_are_their_readers(identities: Identities, short: Path) -> None:
    """The reader reads its files by name, but cannot change what stands in the directory."""
    directory = short / "tls"
    files = CredentialFiles(directory, Owner(12345, 12345))
    files.put(identities.svids["orders"], identities.bundle())
    for name in NAMES | STORES:
        found = (directory / "current" / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 12345, 0o600)
    attempt = (
        "import os, pathlib, sys\n"
        "os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "(here / 'current' / 'combined.pem').read_bytes()\n"
        "for place in (here, here / 'current', here / 'sets'):\n"
        "    try:\n"
        "        (place / 'planted').touch()\n"
        "    except PermissionError:\n"
        "        continue\n"
        "    raise SystemExit('wrote to ' + str(place))\n"
    )
    with processes.process(attempt, str(directory), "12345") as reader:
        assert reader.wait(30) == 0
    with processes.process(attempt, str(directory), "54321") as stranger:
        assert stranger.wait(30) != 0


async def test_the_same_again_changes_nothing(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    assert files.put(identities.svids["orders"], identities.bundle())
    before = (tmp_path / "tls" / "current").readlink()
    assert not files.put(identities.svids["orders"], identities.bundle())
    assert (tmp_path / "tls" / "current").readlink() == before


async def test_the_old_set_outlives_one_change_for_who_is_reading_it(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    files.put(identities.svids["orders"], identities.bundle())
    first = (tmp_path / "tls" / "current").resolve()
    assert files.put(identities.rotate_leaf("orders"), identities.bundle())
    assert (first / "combined.pem").is_file()
    assert files.put(identities.rotate_leaf("orders"), identities.bundle())
    assert not first.exists()
    assert len(list((tmp_path / "tls" / "sets").iterdir())) == 2


async def test_a_reader_never_sees_half_a_change(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    """A reader opens the one file over and over while it is swapped forty times."""
    files.put(identities.svids["orders"], identities.bundle())
    combined = tmp_path / "tls" / "current" / "combined.pem"
    done, reads = threading.Event(), 0

    def read_over_and_over() -> None:
        nonlocal reads
        while not done.is_set():
            data = combined.read_bytes()
            key: Any = serialization.load_pem_private_key(data, password=None)
            leaf = x509.load_pem_x509_certificate(data[data.index(b"-----BEGIN CERT") :])
            assert key.public_key() == leaf.public_key()
            reads += 1

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_over_and_over)
        try:
            for _ in range(40):
                files.put(identities.rotate_leaf("orders"), identities.bundle())
        finally:
            done.set()
        reading.result()
    assert reads > 1


async def test_a_key_that_is_not_the_certificates_is_refused(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    good = identities.svids["orders"]
    files.put(good, identities.bundle())
    mixed = replace(good, private_key_der=identities.svids["payments"].private_key_der)
    with pytest.raises(DeliveryError, match="KEY_VALUES_MISMATCH"):
        files.put(mixed, identities.bundle())
    assert read(tmp_path / "tls")["combined.pem"] == good.private_key_pem() + good.chain_pem()
    assert len(list((tmp_path / "tls" / "sets").iterdir())) == 1


async def test_a_chain_without_its_intermediate_is_refused(
    files: CredentialFiles, identities: Identities
) -> None:
    svid = identities.svids["orders"]
    with pytest.raises(DeliveryError, match="does not lead to a root"):
        files.put(replace(svid, chain=svid.chain[:1]), identities.bundle())


async def test_a_chain_in_the_wrong_order_is_refused(
    files: CredentialFiles, identities: Identities
) -> None:
    svid = identities.svids["orders"]
    other = identities.rotate_leaf("payments").chain[0]
    with pytest.raises(DeliveryError, match="does not lead to a root"):
        files.put(replace(svid, chain=(svid.leaf, other, svid.chain[1])), identities.bundle())


async def test_another_authoritys_bundle_is_refused(
    files: CredentialFiles, identities: Identities
) -> None:
    with pytest.raises(DeliveryError, match="does not lead to a root"):
        files.put(identities.svids["orders"], Identities().bundle())


async def test_an_empty_bundle_is_refused(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    empty = TrustBundle(identities.trust_domain, ())
    with pytest.raises(DeliveryError):
        files.put(identities.svids["orders"], empty)
    assert not (tmp_path / "tls" / "current").exists()


async def test_what_a_crash_left_is_no_obstacle_and_goes(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    files.put(identities.svids["orders"], identities.bundle())
    (tmp_path / "tls" / ".current.new").symlink_to("sets/half")
    (tmp_path / "tls" / "sets" / "half").mkdir()
    files.put(identities.rotate_leaf("orders"), identities.bundle())
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {"current", "sets"}
    assert not (tmp_path / "tls" / "sets" / "half").exists()


@pytest.mark.parametrize("planted", ["link", "file"])
async def test_a_directory_that_is_not_ours_is_refused(
    identities: Identities, tmp_path: Path, planted: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if planted == "link":
        (tmp_path / "tls").symlink_to(elsewhere)
    else:
        (tmp_path / "tls").touch()
    with pytest.raises(DeliveryError):
        CredentialFiles(tmp_path / "tls").put(identities.svids["orders"], identities.bundle())
    assert not list(elsewhere.iterdir())


@pytest.mark.root
@pytest.mark.skipif(not processes.is_root(), reason="only root may give directories away")
async def test_a_directory_of_another_uid_is_refused(
    identities: Identities, tmp_path: Path
) -> None:
    (tmp_path / "tls").mkdir()
    os.chown(tmp_path / "tls", 12345, 12345)
    with pytest.raises(DeliveryError, match="is not a directory of ours"):
        CredentialFiles(tmp_path / "tls").put(identities.svids["orders"], identities.bundle())


async def test_removing_leaves_no_key(
    files: CredentialFiles, identities: Identities, tmp_path: Path
) -> None:
    files.remove()
    files.put(identities.svids["orders"], identities.bundle())
    files.remove()
    files.remove()
    assert not list((tmp_path / "tls").iterdir())
