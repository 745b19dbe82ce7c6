"""The messages of the SPIFFE Workload API, from a table instead of generated code.

Source: ``workloadapi.proto`` of the SPIFFE Workload API standard, sections 5 and 6. The file has no
package, so that the service's path is ``/SpiffeWorkloadAPI/…``, and it must not be extended
(section 4.4): a field or method that the standard does not name has no place here.

The descriptors live in a pool of their own: SPIFFE libraries register the same names in the
default one, and both must fit into one process.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.message import Message

SERVICE = "SpiffeWorkloadAPI"

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _FIELD.TYPE_STRING, "bytes": _FIELD.TYPE_BYTES}

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "X509SVIDRequest": (),
    "X509SVIDResponse": (
        "repeated X509SVID svids = 1",
        "repeated bytes crl = 2",
        "map<string, bytes> federated_bundles = 3",
    ),
    "X509SVID": (
        "string spiffe_id = 1",
        "bytes x509_svid = 2",
        "bytes x509_svid_key = 3",
        "bytes bundle = 4",
        "string hint = 5",
    ),
    "X509BundlesRequest": (),
    "X509BundlesResponse": (
        "repeated bytes crl = 1",
        "map<string, bytes> bundles = 2",
    ),
    "JWTSVIDRequest": (
        "repeated string audience = 1",
        "string spiffe_id = 2",
    ),
    "JWTSVIDResponse": ("repeated JWTSVID svids = 1",),
    "JWTSVID": (
        "string spiffe_id = 1",
        "string svid = 2",
        "string hint = 3",
    ),
    "JWTBundlesRequest": (),
    "JWTBundlesResponse": ("map<string, bytes> bundles = 1",),
    "ValidateJWTSVIDRequest": (
        "string audience = 1",
        "string svid = 2",
    ),
    "ValidateJWTSVIDResponse": (
        "string spiffe_id = 1",
        "google.protobuf.Struct claims = 2",
    ),
}
"""Message → its fields, in the notation of the proto file."""


def _add_map(message: descriptor_pb2.DescriptorProto, name: str) -> str:
    """Adds the entry message that ``map<string, bytes>`` stands for; returns its name."""
    entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    optional = _FIELD.LABEL_OPTIONAL
    entry.field.add(name="key", number=1, label=optional, type=_FIELD.TYPE_STRING)
    entry.field.add(name="value", number=2, label=optional, type=_FIELD.TYPE_BYTES)
    return f".{message.name}.{entry.name}"


def _add_field(message: descriptor_pb2.DescriptorProto, line: str) -> None:
    declared, _, number = line.rpartition(" = ")
    kind, _, name = declared.rpartition(" ")
    repeated = kind.startswith(("repeated ", "map<"))
    field = message.field.add(name=name, number=int(number))
    field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    kind = kind.removeprefix("repeated ")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return
    field.type = _FIELD.TYPE_MESSAGE
    field.type_name = _add_map(message, name) if kind.startswith("map<") else f".{kind}"


def _classes() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="workload.proto", syntax="proto3", dependency=[struct_pb2.DESCRIPTOR.name]
    )
    for name, lines in _FIELDS.items():
        message = file.message_type.add(name=name)
        for line in lines:
            _add_field(message, line)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in _FIELDS
    }


MESSAGES: Mapping[str, type[Message]] = _classes()
"""Every message class of the Workload API, by its name in the standard."""

# The fields of such classes are known at run time only: hence Any.
X509SVIDRequest: Any = MESSAGES["X509SVIDRequest"]
X509SVIDResponse: Any = MESSAGES["X509SVIDResponse"]
X509SVID: Any = MESSAGES["X509SVID"]
X509BundlesRequest: Any = MESSAGES["X509BundlesRequest"]
X509BundlesResponse: Any = MESSAGES["X509BundlesResponse"]
JWTSVIDRequest: Any = MESSAGES["JWTSVIDRequest"]
JWTSVIDResponse: Any = MESSAGES["JWTSVIDResponse"]
JWTSVID: Any = MESSAGES["JWTSVID"]
JWTBundlesRequest: Any = MESSAGES["JWTBundlesRequest"]
JWTBundlesResponse: Any = MESSAGES["JWTBundlesResponse"]
ValidateJWTSVIDRequest: Any = MESSAGES["ValidateJWTSVIDRequest"]
ValidateJWTSVIDResponse: Any = MESSAGES["ValidateJWTSVIDResponse"]
