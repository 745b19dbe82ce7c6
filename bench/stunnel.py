"""What a team would put before a database by hand: two stunnel with mutual TLS 1.3 between them.

Client → caller's stunnel → TLS over TCP loopback → callee's stunnel → server, one process each.
Besides the certificates and TLS 1.3 all is stunnel's default; so the caller's may resume sessions.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import tools
from bench.certificates import Certificates
from bench.pairs import running
from tests.ports import free_port


@dataclass(frozen=True)
class Tunnel:
    """The addresses of a pair, as host:port."""

    front: str
    """Where clients connect in the clear."""
    middle: str
    """Where the callee's stunnel expects TLS."""


@contextlib.contextmanager
def pair(directory: Path, certificates: Certificates, upstream: str) -> Iterator[Tunnel]:
    """Both run until the block ends. Raises FileNotFoundError where stunnel is not installed."""
    stunnel = tools.find("stunnel") or "stunnel"
    tunnel = Tunnel(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    own, peer = certificates.caller, certificates.callee
    callee = _write(
        directory,
        "callee",
        f"accept = {tunnel.middle}",
        f"connect = {upstream}",
        f"cert = {peer.combined}",
        f"CAfile = {certificates.authority}",
    )
    caller = _write(
        directory,
        "caller",
        "client = yes",
        f"accept = {tunnel.front}",
        f"connect = {tunnel.middle}",
        f"cert = {own.combined}",
        f"CAfile = {certificates.authority}",
        "checkHost = callee",
    )
    with (
        running([stunnel, str(callee)], directory, tunnel.middle),
        running([stunnel, str(caller)], directory, tunnel.front),
    ):
        yield tunnel


def _write(directory: Path, name: str, *service: str) -> Path:
    """A configuration of one service; the chain of whoever is at the other end is verified."""
    lines = (
        "foreground = yes",
        "pid =",
        "debug = warning",
        f"[{name}]",
        *service,
        "verifyChain = yes",
        "sslVersionMin = TLSv1.3",
    )
    file = directory / f"stunnel-{name}.conf"
    file.write_text("\n".join(lines) + "\n")
    return file
