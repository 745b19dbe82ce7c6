"""What a NATS server must be: its configuration file, its streams and its consumers. Pure.

Each service is a user whose name is its SPIFFE ID in full, alone in an account of its own
(``accounts``); the server maps the URI SAN of the client's SVID to it (``verify_and_map``) and
knows no other way in. The server's own SVID maps to the operator: the user by whom we provision
streams and count sessions. Only the server and we hold its key.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watertight.enforcers.resource import BUNDLE, CERTIFICATE, PRIVATE_KEY
from watertight.model.placement import Placement
from watertight.model.system import Resource, System
from watertight.servers.nats.accounts import WayBack, accounts, quoted, ways_back
from watertight.servers.nats.bounds import MAX_LINE_BYTES
from watertight.servers.nats.declaration import Server, max_pending_bytes, server
from watertight.servers.nats.storage import consumers, streams
from watertight.servers.nats.subjects import MAX_TOKENS

CONFIGURATION = "nats.conf"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class NATSGrants:
    """What is not in the configuration file: what the operator provisions, and as whom."""

    trust_domain: str
    tls_first: bool
    streams: Mapping[str, Mapping[str, Any]]
    """Name → configuration, as JetStream's API takes and returns it."""
    consumers: Mapping[str, tuple[str, ...]]
    """Stream → the services that read it, each by a durable consumer of its own name."""
    memory_bytes: int
    """What the server may have."""
    ways_back: Sequence[WayBack]
    """By which services can have it remember requests, where a guard counts them."""


def files(system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
    """The configuration of a server that we run."""
    wanted = server(resource)
    credentials = placement.credentials(resource.name)
    text = [
        f"# {resource.name}: compiled from the declaration; changes by hand are undone.",
        f"server_name: {quoted(resource.name)}",
        f"listen: {quoted(f'127.0.0.1:{resource.port}')}",
        *bounds(resource, wanted),
        *tls(
            wanted,
            certificate=str(credentials / CERTIFICATE),
            private_key=str(credentials / PRIVATE_KEY),
            bundle=str(credentials / BUNDLE),
        ),
        *jetstream(wanted, str(placement.server_data(resource.name))),
        *accounts(system, resource, wanted, operator=resource.name),
        "",
    ]
    return {CONFIGURATION: "\n".join(text)}


def grants_of(system: System, resource: Resource) -> NATSGrants:
    """What is besides its configuration."""
    wanted = server(resource)
    return NATSGrants(
        system.trust_domain,
        wanted.tls_first,
        streams(system, resource, wanted),
        consumers(system, resource, wanted),
        resource.limits.memory_bytes,
        ways_back(system, resource, wanted) if wanted.tls_first else (),
    )


def bounds(resource: Resource, wanted: Server) -> Iterator[str]:
    """What one client may say at once, and what may wait for it."""
    yield f"max_control_line: {MAX_LINE_BYTES}"
    yield f"max_subscription_tokens: {MAX_TOKENS}"
    yield f"max_payload: {wanted.max_payload_bytes}"
    yield f"max_pending: {max_pending_bytes(resource, wanted)}"


def tls(wanted: Server, *, certificate: str, private_key: str, bundle: str) -> Iterator[str]:
    """TLS with a client certificate that names a user; nothing else is a way in."""
    yield "tls {"
    yield f"  cert_file: {quoted(certificate)}"
    yield f"  key_file: {quoted(private_key)}"
    yield f"  ca_file: {quoted(bundle)}"
    yield "  verify_and_map: true"
    if wanted.tls_first:
        yield "  handshake_first: true"
        yield '  min_version: "1.3"'
    yield "  timeout: 5"
    yield "}"


def jetstream(wanted: Server, directory: str) -> Iterator[str]:
    """JetStream on disk, if there are streams; else it is off."""
    if wanted.streams:
        yield "jetstream {"
        yield f"  store_dir: {quoted(directory)}"
        yield f"  max_memory_store: {64 * _MIB}"
        yield f"  max_file_store: {wanted.storage_bytes}"
        yield "}"
