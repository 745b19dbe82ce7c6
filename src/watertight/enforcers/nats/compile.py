"""What a NATS server must be: its configuration file, its streams and its consumers. Pure.

Each service is a user whose name is its SPIFFE ID in full; the server maps the URI SAN of the
client's SVID to it (``verify_and_map``) and knows no other way in. The server's own SVID maps to
the operator: the user by whom we provision streams and count sessions. Only the server and we
hold its key.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watertight.enforcers.contract import Placement
from watertight.enforcers.nats.declaration import KIND, Grants, Server, Stream, grants, server
from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    ServerPlan,
    channels_to,
    managed,
)
from watertight.model.system import Resource, System

CONFIGURATION = "nats.conf"
ACCOUNT = "SERVICES"
"""The one account in which all services are."""
VARZ = "$SYS.OPERATOR.VARZ"
"""Tells when the configuration was loaded."""
CONNZ = "$SYS.OPERATOR.CONNZ"
"""Tells the connections that are open, or have ended."""
SYSTEM_ACCOUNT = "SYSTEM"
"""The server's own; it has no user."""
ASKED = {
    VARZ: "$SYS.REQ.SERVER.PING.VARZ",
    CONNZ: "$SYS.REQ.SERVER.PING.CONNZ",
}
"""What the operator may ask the system account, and how it is called there. Not by the names that
every account has without an import: nats-server 2.9 loses those as it reloads."""
REPLY_SECONDS = 60
_NANOSECONDS = 1_000_000_000
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


def compile_plans(system: System, placement: Placement) -> Mapping[str, ServerPlan]:
    """The plan of each managed NATS server, by resource."""
    return {resource.name: _plan(system, resource, placement) for resource in managed(system, KIND)}


def _plan(system: System, resource: Resource, placement: Placement) -> ServerPlan:
    said = server(resource)
    credentials = placement.credentials(resource.name)
    text = "\n".join(
        [
            f"# {resource.name}: compiled from the declaration; changes by hand are undone.",
            f"server_name: {_quoted(resource.name)}",
            f"listen: {_quoted(f'127.0.0.1:{resource.port}')}",
            f"max_payload: {said.max_payload_bytes}",
            *tls(
                said,
                certificate=str(credentials / CERTIFICATE),
                private_key=str(credentials / PRIVATE_KEY),
                bundle=str(credentials / BUNDLE),
            ),
            *jetstream(said, str(placement.server_data(resource.name))),
            *accounts(system, resource, said, operator=resource.name),
            "",
        ]
    )
    return ServerPlan(
        resource=resource.name,
        kind=KIND,
        port=resource.port,
        files={CONFIGURATION: text},
        grants=NATSGrants(
            system.trust_domain,
            said.tls_first,
            {name: stream_configuration(stream) for name, stream in said.streams.items()},
            consumers(system, resource, said),
        ),
        at=resource.at,
    )


def tls(said: Server, *, certificate: str, private_key: str, bundle: str) -> Iterator[str]:
    """TLS with a client certificate that names a user; nothing else is a way in."""
    yield "tls {"
    yield f"  cert_file: {_quoted(certificate)}"
    yield f"  key_file: {_quoted(private_key)}"
    yield f"  ca_file: {_quoted(bundle)}"
    yield "  verify_and_map: true"
    if said.tls_first:
        yield "  handshake_first: true"
        yield '  min_version: "1.3"'
    yield "  timeout: 5"
    yield "}"


def jetstream(said: Server, directory: str) -> Iterator[str]:
    """JetStream on disk, if there are streams; else it is off."""
    if said.streams:
        yield "jetstream {"
        yield f"  store_dir: {_quoted(directory)}"
        yield f"  max_memory_store: {64 * _MIB}"
        yield f"  max_file_store: {said.storage_bytes}"
        yield "}"


def accounts(
    system: System, resource: Resource, said: Server, *, operator: str | None
) -> Iterator[str]:
    """One account with a user for each channel, and a system account that nobody is in.

    ``operator``: the resource whose own SVID provisions; None where somebody else does.
    """
    yield "accounts {"
    asked = ASKED.items() if operator else ()
    exports = [f"{{ service: {_quoted(name)}, accounts: [{ACCOUNT}] }}" for _, name in asked]
    yield f"  {SYSTEM_ACCOUNT} {{ users: [], exports: [{', '.join(exports)}] }}"
    yield f"  {ACCOUNT} {{"
    if said.streams:
        yield "    jetstream: enabled"
    if operator:
        yield "    imports: ["
        for ours, name in asked:
            source = f"{{ account: {SYSTEM_ACCOUNT}, subject: {_quoted(name)} }}"
            yield f"      {{ service: {source}, to: {_quoted(ours)} }}"
        yield "    ]"
    yield "    users: ["
    if operator:
        asks = [*ASKED, *(["$JS.API.>"] if said.streams else [])]
        yield from user(system.spiffe_id(operator), asks, [f"{inbox(operator)}.>"])
    for _, channel in sorted(channels_to(system, resource.name), key=lambda c: c[1].source):
        granted = grants(channel)
        yield from user(
            system.spiffe_id(channel.source),
            [*granted.publish, *api_subjects(channel.source, granted)],
            [*granted.subscribe, f"{inbox(channel.source)}.>"],
            reply=granted.reply,
        )
    yield "    ]"
    yield "  }"
    yield "}"
    yield f"system_account: {SYSTEM_ACCOUNT}"


def user(
    name: str, publish: Sequence[str], subscribe: Sequence[str], *, reply: bool = False
) -> Iterator[str]:
    """One user and all it may do.

    An empty ``allow`` means everything (verified on 2.9 and 2.15), so nothing is said as
    ``deny``.
    """
    yield f"      {{ user: {_quoted(name)}, permissions: {{"
    allowed = f"allow: [{_list(publish)}]" if publish else 'deny: [">"]'
    yield f"        publish: {{ {allowed} }}"
    yield f"        subscribe: {{ allow: [{_list(subscribe)}] }}"
    if reply:
        yield f'        allow_responses: {{ max: 1, expires: "{REPLY_SECONDS}s" }}'
    yield "      } }"


def inbox(service: str) -> str:
    """The prefix of the inboxes of one service; no other may subscribe below it."""
    return f"_INBOX.{service}"


def api_subjects(service: str, granted: Grants) -> Iterator[str]:
    """What a bound pull consumer needs: fetch, look at itself, acknowledge. No stream, no other."""
    for stream in granted.consume:
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{service}"
        yield f"$JS.API.CONSUMER.INFO.{stream}.{service}"
        yield f"$JS.ACK.{stream}.{service}.>"


def consumers(system: System, resource: Resource, said: Server) -> Mapping[str, tuple[str, ...]]:
    """Who reads which stream."""
    readers: dict[str, list[str]] = {name: [] for name in said.streams}
    for _, channel in channels_to(system, resource.name):
        for stream in grants(channel).consume:
            readers[stream].append(channel.source)
    return {name: tuple(sorted(services)) for name, services in readers.items()}


def stream_configuration(stream: Stream) -> Mapping[str, Any]:
    """As ``$JS.API.STREAM.CREATE`` takes it. Limits that are not set are -1 there."""
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_bytes": stream.max_bytes,
        "max_age": (stream.max_age_seconds or 0) * _NANOSECONDS,
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": -1,
        "num_replicas": 1,
    }


def consumer_configuration(service: str) -> Mapping[str, Any]:
    """A durable pull consumer: what is not acknowledged within 30 s is delivered again."""
    return {
        "durable_name": service,
        "ack_policy": "explicit",
        "ack_wait": 30 * _NANOSECONDS,
        "deliver_policy": "all",
        "replay_policy": "instant",
        "max_deliver": -1,
        "max_ack_pending": 1000,
        "max_waiting": 512,
        "num_replicas": 0,
    }


def _list(subjects: Sequence[str]) -> str:
    return ", ".join(_quoted(subject) for subject in subjects)


def _quoted(text: str) -> str:
    return json.dumps(text)
