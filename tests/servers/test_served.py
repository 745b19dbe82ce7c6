"""Whoever comes with a server's own identity has its certificate and its key of one moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.gateway.certified import certified
from watertight.servers.served import own_identity

TIMES = 500


def made(directory: Path) -> Path:
    """The files of an identity, in a directory of their own."""
    certificate, key, ca = certified("store")
    directory.mkdir()
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "bundle.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "private_key.pem").write_bytes(private)
    return directory


@contextmanager
def swapped(link: Path, sets: tuple[Path, ...]) -> Iterator[None]:
    """The link leads to one after the other, as fast as can be."""
    link.symlink_to(sets[0])
    over, new = threading.Event(), link.with_name("new")

    def swap() -> None:
        while not over.is_set():
            for one in sets:
                new.symlink_to(one)
                new.replace(link)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_rotation_in_between_mixes_no_two_identities(tmp_path: Path) -> None:
    current = tmp_path / "current"
    with swapped(current, (made(tmp_path / "one"), made(tmp_path / "two"))):
        for _ in range(TIMES):
            own_identity(current)
