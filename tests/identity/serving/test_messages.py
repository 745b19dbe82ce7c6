"""Our table of the Workload API's messages says what the standard's proto file says."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from spiffe._proto import workload_pb2

from watertight.identity.workload_api import messages


def _fields(file: Any, message: str) -> list[tuple[str, int, int, int, str]]:
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    (found,) = (m for m in proto.message_type if m.name == message)
    return sorted((f.name, f.number, f.type, f.label, f.type_name) for f in found.field)


def test_every_message_of_the_standard_is_there_and_none_else() -> None:
    assert set(messages.MESSAGES) == set(workload_pb2.DESCRIPTOR.message_types_by_name)


@pytest.mark.parametrize("name", sorted(messages.MESSAGES))
def test_fields_are_those_of_an_independent_implementation(name: str) -> None:
    ours = messages.MESSAGES[name].DESCRIPTOR.file
    assert _fields(ours, name) == _fields(workload_pb2.DESCRIPTOR, name)


def test_bytes_are_read_by_an_independent_implementation() -> None:
    ours = messages.X509SVIDResponse(
        svids=[messages.X509SVID(spiffe_id="spiffe://a/b", x509_svid=b"\x30", hint="h")],
        federated_bundles={"spiffe://c": b"\x31"},
    )
    theirs = workload_pb2.X509SVIDResponse.FromString(ours.SerializeToString())
    assert theirs.svids[0].spiffe_id == "spiffe://a/b"
    assert theirs.federated_bundles["spiffe://c"] == b"\x31"


def test_claims_are_a_struct() -> None:
    ours = messages.ValidateJWTSVIDResponse(spiffe_id="spiffe://a/b")
    ours.claims.update({"aud": ["x"], "n": 1, "nested": {"ok": True}})
    theirs = workload_pb2.ValidateJWTSVIDResponse.FromString(ours.SerializeToString())
    nested: Any = theirs.claims["nested"]
    assert dict(nested) == {"ok": True}
