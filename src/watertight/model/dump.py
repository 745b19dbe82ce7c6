"""A :class:`System` → the text of a declaration; what loads from it equals it but for positions."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from watertight.model import declaration
from watertight.model.claims import nested
from watertight.model.kinds import usual_port
from watertight.model.system import (
    PAGES_READ,
    PAGES_REMEMBER_SECONDS,
    PAGES_SEND,
    RESOURCE_LIMITS,
    SERVICE_LIMITS,
    Channel,
    Cors,
    Gateway,
    Limits,
    Requirement,
    Resource,
    Route,
    Service,
    System,
)
from watertight.model.units import duration_text, rate_text, size_text


def dump(system: System) -> str:
    """The declaration of a system as YAML. Comments and spelling of an original are not kept."""
    document: dict[str, Any] = {"trust_domain": system.trust_domain}
    if system.services:
        document["services"] = {name: dict(_service(s)) for name, s in system.services.items()}
    if system.resources:
        document["resources"] = {name: _resource(r) for name, r in system.resources.items()}
    if system.channels:
        document["channels"] = [dict(_channel(channel)) for channel in system.channels]
    if system.gateway:
        document["gateway"] = dict(_gateway(system.gateway))
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, default_flow_style=None)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Collections of plain values stand on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        """Equal parts are written out: an anchor would only puzzle the reader."""
        del data
        return True


def _service(service: Service) -> Iterator[tuple[str, Any]]:
    if service.run:
        yield "run", list(service.run)
    if service.directory != ".":
        yield "directory", service.directory
    if service.environment:
        yield "environment", dict(service.environment)
    if service.image is not None:
        yield "image", service.image
    if service.listens:
        yield "listens", {service.listens.protocol.value: service.listens.port}
    if service.private_ports:
        yield "private_ports", list(service.private_ports)
    if service.ready is not None:
        yield "ready", service.ready
    if service.contract is not None:
        yield "contract", service.contract
    yield from _limits(service.limits, SERVICE_LIMITS)


def _limits(limits: Limits, usual: Limits) -> Iterator[tuple[str, Any]]:
    """What is not as usual."""
    written = {
        "memory": (size_text(limits.memory_bytes), size_text(usual.memory_bytes)),
        "processes": (limits.processes, usual.processes),
        "temp": (size_text(limits.temp_bytes), size_text(usual.temp_bytes)),
        "files": (limits.files, usual.files),
    }
    if unusual := {key: now for key, (now, before) in written.items() if now != before}:
        yield "limits", unusual


def _resource(resource: Resource) -> dict[str, Any]:
    port = {} if resource.port in (0, usual_port(resource.kind)) else {"port": resource.port}
    external = {"external": resource.address} if resource.address is not None else {}
    limits = dict(_limits(resource.limits, RESOURCE_LIMITS))
    return {"kind": resource.kind, **port, **external, **limits, **_plain(resource.options)}


def _channel(channel: Channel) -> Iterator[tuple[str, Any]]:
    yield "from", channel.source
    yield "to", channel.target
    if channel.grants:
        yield "allow", [str(grant) for grant in channel.grants]
    if channel.timeout_seconds is not None:
        yield "timeout", duration_text(channel.timeout_seconds)
    if channel.retries:
        yield "retries", channel.retries
    if channel.originate:
        yield "originate", True
    yield from _plain(channel.options).items()


def _gateway(gateway: Gateway) -> Iterator[tuple[str, Any]]:
    yield "hostname", gateway.hostname
    yield "listen", gateway.endpoint
    if gateway.certificate is not None:
        yield "certificate", gateway.certificate
    if gateway.private_key is not None:
        yield "private_key", gateway.private_key
    if gateway.max_request_bytes != declaration.DEFAULT_REQUEST_BYTES:
        yield "max_request_size", size_text(gateway.max_request_bytes)
    if gateway.max_header_bytes != declaration.DEFAULT_HEADER_BYTES:
        yield "max_header_size", size_text(gateway.max_header_bytes)
    if gateway.max_headers != declaration.DEFAULT_HEADERS:
        yield "max_headers", gateway.max_headers
    if gateway.issuers:
        yield (
            "issuers",
            {
                name: {"issuer": i.issuer, "audiences": list(i.audiences), "jwks": i.jwks}
                for name, i in gateway.issuers.items()
            },
        )
    if gateway.routes:
        yield "routes", [dict(_route(route)) for route in gateway.routes]


def _route(route: Route) -> Iterator[tuple[str, Any]]:
    yield "path", route.path
    yield "methods", list(route.methods)
    yield "to", route.target
    if route.rewrite is not None:
        yield "rewrite", route.rewrite
    if route.require is None:
        yield "require", "anyone"
    else:
        yield "require", dict(_requirement(route.require))
    if route.limit:
        yield "limit", {"per": route.limit.per.value, "rate": rate_text(route.limit)}
    if route.timeout_seconds is not None:
        yield "timeout", duration_text(route.timeout_seconds)
    if not route.keeps_host:
        yield "host", "service"
    if route.escaped_slashes:
        yield "escaped_slashes", True
    if route.double_slashes:
        yield "double_slashes", True
    if route.cors:
        yield "cors", dict(_cors(route.cors))


def _cors(cors: Cors) -> Iterator[tuple[str, Any]]:
    yield "origins", list(cors.origins)
    if cors.headers != PAGES_SEND:
        yield "headers", list(cors.headers)
    if cors.expose != PAGES_READ:
        yield "expose", list(cors.expose)
    if cors.credentials:
        yield "credentials", True
    if cors.max_age_seconds != PAGES_REMEMBER_SECONDS:
        yield "max_age", duration_text(cors.max_age_seconds)


def _requirement(require: Requirement) -> Iterator[tuple[str, Any]]:
    yield "issuer", require.issuer
    if require.scopes:
        yield "scopes", list(require.scopes)
    if require.claims:
        yield "claims", nested(require.claims)
    if require.any_claims:
        yield "any_claims", [nested(group) for group in require.any_claims]


def _plain(value: Any) -> Any:
    """Without mapping and tuple types that YAML has no plain form for."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
