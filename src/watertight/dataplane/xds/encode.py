"""From a resource as plain JSON to a resource on the wire: a protobuf ``Any`` and its version.

The version is a hash of the *content* (canonical JSON), not a counter: a control plane that starts
anew gives an unchanged resource the version it had before, so an unchanged proxy is sent nothing.
JSON is hashed rather than the protobuf bytes because those are not stable across processes where a
message holds a map inside an ``Any``.
"""

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

from watertight.dataplane.resources import Resource, ResourceType
from watertight.errors import WatertightError
from watertight.model.system import NOWHERE, Position

TYPE_URL_PREFIX = "type.googleapis.com/"
TYPED_STRUCT = f"{TYPE_URL_PREFIX}xds.type.v3.TypedStruct"
NEWER_FIELDS = frozenset({"max_header_field_size_kb"})
"""What our Envoy knows and the published protos do not yet. What holds one travels as JSON in a
``TypedStruct``, which Envoy reads by its own protos; all the rest of it is checked here first."""
OUR_PACKAGES = ("envoy", "xds", "udpa")
"""The roots of the Python packages that ``xds-protos`` brings; nothing else is imported by name."""


class Unencodable(WatertightError):
    """A resource is not what its type allows: a bug of the compiler, or of whoever sabotages it."""

    def __init__(self, resource_type: ResourceType, name: str, at: Position, detail: str) -> None:
        kind = resource_type.rpartition(".")[2]
        super().__init__(
            f"{at}: The {kind} {name!r} cannot be encoded: {detail}",
            remedy="Nothing was sent; what was in force stays in force.",
        )
        self.at = at


@dataclass(frozen=True, slots=True)
class Encoded:
    """One resource, ready to send. Equal versions mean equal content."""

    type: ResourceType
    name: str
    version: str
    """The first 128 bits of SHA-256 over the canonical JSON, in hex."""
    body: any_pb2.Any = field(repr=False, compare=False)
    at: Position = field(default=NOWHERE, compare=False)


def content_version(content: object) -> str:
    """The version of any JSON content: 32 hex digits that only depend on the content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def collective_version(versions: Mapping[str, str]) -> str:
    """One version for a set of resources (name → version)."""
    return content_version(dict(versions))


def encode(resource: Resource) -> Encoded:
    """One resource as an ``Any``.

    Raises :class:`Unencodable` for an unknown field or type, a wrong value, or a body whose name
    is not the resource's (Envoy would warm for ever on the name that it asked for).
    """
    version = content_version(resource.body)
    key = "cluster_name" if resource.type is ResourceType.ENDPOINT else "name"
    if resource.body.get(key) != resource.name:
        raise Unencodable(
            resource.type, resource.name, resource.at, f"its {key} is {resource.body.get(key)!r}"
        )
    message = _parse(resource)
    return Encoded(
        resource.type,
        resource.name,
        version,
        any_pb2.Any(
            type_url=resource.type.value, value=message.SerializeToString(deterministic=True)
        ),
        resource.at,
    )


def encode_all(
    resources: Iterable[Resource], previous: Mapping[tuple[ResourceType, str], Encoded]
) -> dict[tuple[ResourceType, str], Encoded]:
    """All resources of one proxy; what has not changed since ``previous`` is not built again.

    Building is the dear part (about 1.2 ms a sidecar), hashing the cheap one. Reuse is from the
    same proxy's last state only, so that no private key outlives its secret in a cache.
    Raises :class:`Unencodable`, also where a name appears twice (xDS rule D9).
    """
    encoded: dict[tuple[ResourceType, str], Encoded] = {}
    for resource in resources:
        key = (resource.type, resource.name)
        if key in encoded:
            raise Unencodable(resource.type, resource.name, resource.at, "the name appears twice")
        known = previous.get(key)
        if known is not None and known.version == content_version(resource.body):
            encoded[key] = replace(known, at=resource.at)
        else:
            encoded[key] = encode(resource)
    return encoded


def _parse(resource: Resource) -> Message:
    try:
        for type_url in (resource.type.value, TYPED_STRUCT, *_type_urls(resource.body)):
            _load_package(type_url)
        name = resource.type.value.removeprefix(TYPE_URL_PREFIX)
        message_class = message_factory.GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(name)
        )
        body = dict(resource.body)
        if _has_newer(body):
            json_format.ParseDict(_without_newer(body), message_class())
            body = _as_json(body)
        return json_format.ParseDict(body, message_class())
    except (json_format.ParseError, ImportError, TypeError, ValueError) as error:
        if resource.type is ResourceType.SECRET:
            # The parser quotes values; a secret's must not reach a log.
            detail = "its fields are not those of a Secret"
            raise Unencodable(resource.type, resource.name, resource.at, detail) from None
        detail = str(error).partition("\n")[0]
        raise Unencodable(resource.type, resource.name, resource.at, detail) from error


def _has_newer(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(key in NEWER_FIELDS or _has_newer(inner) for key, inner in value.items())
    return isinstance(value, list | tuple) and any(map(_has_newer, value))


def _without_newer(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: inner for key, inner in value.items() if key not in NEWER_FIELDS}
        return {key: _without_newer(inner) for key, inner in kept.items()}
    return list(map(_without_newer, value)) if isinstance(value, list | tuple) else value


def _as_json(value: Any) -> Any:
    """With a ``TypedStruct`` for each outermost ``Any`` that holds a newer field."""
    if isinstance(value, list | tuple):
        return list(map(_as_json, value))
    if not isinstance(value, Mapping):
        return value
    if "@type" not in value:
        return {key: _as_json(inner) for key, inner in value.items()}
    if not _has_newer(value):
        return dict(value)
    fields = {key: inner for key, inner in value.items() if key != "@type"}
    return {"@type": TYPED_STRUCT, "type_url": value["@type"], "value": fields}


def _type_urls(value: object) -> Iterator[str]:
    """Every ``@type`` anywhere inside."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "@type" and isinstance(inner, str):
                yield inner
            else:
                yield from _type_urls(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _type_urls(inner)


def _load_package(type_url: str) -> None:
    """Registers the messages of that type's protobuf package.

    A protobuf package is a Python package of the same name, so no list of types has to be kept.
    """
    name = type_url.removeprefix(TYPE_URL_PREFIX)
    if name.startswith(tuple(f"{root}." for root in OUR_PACKAGES)):
        _import_modules(name.rpartition(".")[0])


@cache
def _import_modules(package: str) -> None:
    paths: Any = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(paths, prefix=f"{package}."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)
