"""For a server that somebody else runs: what its administrator must make so. Pure."""

import json
import shlex
from collections.abc import Iterator, Mapping

from watertight.model.system import Resource, System
from watertight.servers.nats.accounts import accounts
from watertight.servers.nats.compile import bounds, tls
from watertight.servers.nats.declaration import Server, server
from watertight.servers.nats.storage import consumer_configuration, consumers, streams


def render(system: System, resource: Resource) -> Mapping[str, str]:
    """``nats.conf``, the part that concerns us; ``streams.sh``, if there are streams.

    Paths below ``/etc/nats`` stand for where the administrator keeps the server's SVID.
    """
    wanted = server(resource)
    configuration = [
        f"# {resource.name}: what {system.trust_domain} declares of this server.",
        f"# The server's SVID is that of {system.spiffe_id(resource.name)}; reload once renewed.",
        "# Close or secure every other port: http, cluster, gateway, leafnodes, websocket, mqtt.",
        f"port: {resource.port}",
        *bounds(resource, wanted),
        *tls(
            wanted,
            certificate="/etc/nats/certificate.pem",
            private_key="/etc/nats/private_key.pem",
            bundle="/etc/nats/bundle.pem",
        ),
        *(["# JetStream must be on: jetstream { store_dir: … }"] if wanted.streams else []),
        *accounts(system, resource, wanted, operator=None),
        "",
    ]
    files = {"nats.conf": "\n".join(configuration)}
    if wanted.streams:
        files["streams.sh"] = "\n".join(_streams(system, resource, wanted))
    return files


def _streams(system: System, resource: Resource, wanted: Server) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# The streams and consumers of {resource.name}, made with the command `nats` as a user"
    yield "# of the services' account who may publish to $JS.API.>. Each line prints an answer:"
    yield '# look for "error" in it.'
    yield "set -eu"
    readers = consumers(system, resource, wanted)
    for name, stream in streams(system, resource, wanted).items():
        yield _request(f"$JS.API.STREAM.CREATE.{name}", stream)
        for service in readers[name]:
            yield _request(
                f"$JS.API.CONSUMER.DURABLE.CREATE.{name}.{service}",
                {"stream_name": name, "config": consumer_configuration(service)},
            )
    yield ""


def _request(subject: str, body: Mapping[str, object]) -> str:
    return f"nats request {shlex.quote(subject)} {shlex.quote(json.dumps(body))}"
