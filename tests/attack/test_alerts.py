"""A quick look at a door: it counts alerts alone, and ends at the first thing that is none."""

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.identity.serving.authority import TRUST_DOMAIN, new_root
from watertight.attack.arena import Credential
from watertight.attack.tls import Hello, alerts
from watertight.identity.svid import PEM
from watertight.verify.forge import Forger, Signer

SILENT = "silent"
RUDE = "closes without a word"


@contextlib.contextmanager
def authority() -> Iterator[tuple[Forger, bytes]]:
    """Who signs for it, and its root."""
    root = new_root()
    made = Forger(Signer(root.certificate, root.key, ()))
    try:
        yield made, root.certificate.public_bytes(PEM)
    finally:
        made.close()


@contextlib.contextmanager
def door(server: Credential, roots: Path, manners: str = "") -> Iterator[Path]:
    """A door of TLS that asks for a certificate, or one that has other manners."""
    assert server.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate)
    context.load_verify_locations(roots)
    context.verify_mode = ssl.CERT_REQUIRED
    held: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                if manners == RUDE:
                    connection.close()
                elif manners == SILENT:
                    held.append(connection)
                else:
                    with contextlib.suppress(OSError):
                        context.wrap_socket(connection, server_side=True).sendall(b"come in")

    with tempfile.TemporaryDirectory(prefix="wt-") as name:
        path = Path(name) / "door.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            serving = threading.Thread(target=serve, args=(listener,))
            serving.start()
            yield path
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
    for connection in held:
        connection.close()


@pytest.mark.parametrize("manners", ["", SILENT, RUDE])
def test_strangers_are_counted_up_to_the_first_that_gets_no_alert(
    tmp_path: Path, manners: str
) -> None:
    with authority() as (ours, root), authority() as (others, _):
        roots = tmp_path / "roots.pem"
        roots.write_bytes(root)
        own = ours.svid(f"spiffe://{TRUST_DOMAIN}/orders", "orders")
        stranger = Hello(others.svid(f"spiffe://{TRUST_DOMAIN}/orders", "orders"))
        with door(own, roots, manners) as path:
            hellos = [stranger, Hello(), stranger, Hello(own), stranger]
            seen = alerts(path, hellos, timeout_seconds=0.2)
    if manners:
        assert seen == []
    else:
        assert [word.partition(" ")[0] for word in seen] == ["alert"] * 3


def test_where_nobody_listens_nobody_is_refused(tmp_path: Path) -> None:
    assert alerts(tmp_path / "nothing.sock", [Hello()], timeout_seconds=0.2) == []
