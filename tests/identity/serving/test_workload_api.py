"""The rules of the SPIFFE Workload Endpoint (WE) and Workload API (WA) standards, one by one.

W1  gRPC over a Unix socket; neither TLS nor a client credential is demanded (WE 3, 4).
W2  A request without the metadata ``workload.spiffe.io: true`` is an InvalidArgument (WE 4.1).
W3  SPIFFE_ENDPOINT_SOCKET is ``unix:///absolute/path`` (WE 4): see ``test_foreign_client``.
W4  X.509 and JWT profiles; no package in the path; nothing is added to the service (WA 4).
W5  A stream's first message comes at once; every message is the full state (WA 5.1, 6.1).
W6  No identity: PermissionDenied. Empty field: InvalidArgument. Unknown RPC: Unimplemented (WA 7).
W7  DER, leaf first; the key is unencrypted PKCS#8; a bundle is concatenated DER (WA 5.2).
W8  The first SVID is the default identity; a hint is unique in its message (WA 5.3).
W9  FetchJWTSVID wants an audience; another's SPIFFE ID is a PermissionDenied (WA 6.2).
W10 FetchJWTBundles: JWK Sets of jwt-svid keys, by the trust domain's SPIFFE ID (WA 6.2).
W11 ValidateJWTSVID answers with the SPIFFE ID and the claims (WA 6.2).
W12 Which key verifies is decided by the presented trust domain; no bundle: untrusted (WA 6).
W13 Who calls is found out of band; the caller takes no part (WE 4): see ``test_door``.
W14 Server reflection should be offered: it is not, since no client needs it and it tells more.
"""

import json
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.identity.serving.authority import TRUST_DOMAIN, Clock, Identities
from tests.identity.serving.client import Client
from tests.identity.serving.polling import eventually
from watertight.identity.workload_api import messages

ORDERS = f"spiffe://{TRUST_DOMAIN}/orders"
STREAMS = ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles")
Code = grpc.StatusCode


async def refused(call: Any) -> grpc.StatusCode:
    """The status with which a call is refused; fails if it is answered."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code()


async def refusals(client: Client, metadata: Any) -> dict[str, grpc.StatusCode]:
    """The status of each of the five RPCs."""
    answers = {name: await refused(client.stream(name, metadata).next()) for name in STREAMS}
    answers["FetchJWTSVID"] = await refused(client.fetch_jwt("a", metadata=metadata))
    answers["ValidateJWTSVID"] = await refused(client.validate_jwt("a", "b", metadata=metadata))
    return answers


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        (("workload.spiffe.io", "True"),),
        (("workload.spiffe.io", ""),),
        (("workload.spiffe.io", "true "),),
        (("x-workload.spiffe.io", "true"),),
    ],
)
async def test_w2_every_request_carries_the_security_header(orders: Client, metadata: Any) -> None:
    assert set((await refusals(orders, metadata)).values()) == {Code.INVALID_ARGUMENT}


async def test_w2_nobody_is_asked_for_it_too(nobody: Client) -> None:
    assert set((await refusals(nobody, None)).values()) == {Code.INVALID_ARGUMENT}


@pytest.mark.parametrize("method", ["FetchWITSVID", "FetchAnything", "fetchX509SVID"])
async def test_w4_w6_an_unknown_method_is_unimplemented(orders: Client, method: str) -> None:
    call = orders.call("unary_unary", method, messages.X509SVIDRequest())
    assert await refused(call) is Code.UNIMPLEMENTED


async def test_w4_a_package_is_not_part_of_the_path(orders: Client) -> None:
    call = orders.channel.unary_unary(
        "/spiffe.workload.SpiffeWorkloadAPI/ValidateJWTSVID",
        request_serializer=lambda message: message.SerializeToString(),
    )(messages.ValidateJWTSVIDRequest())
    assert await refused(call) is Code.UNIMPLEMENTED


@pytest.mark.parametrize("method", STREAMS)
async def test_w5_a_stream_sends_its_state_at_once_and_again_after_a_change(
    orders: Client, identities: Identities, method: str
) -> None:
    stream = orders.stream(method)
    first = await stream.next()
    identities.rotate_root()
    second = await stream.next()
    assert first != second
    assert await orders.stream(method).next() == second


async def test_w5_a_change_of_others_is_not_sent(orders: Client, identities: Identities) -> None:
    stream = orders.stream("FetchX509SVID")
    await stream.next()
    await eventually(lambda: identities.waits == 1)
    identities.rotate_leaf("payments")
    await eventually(lambda: identities.waits == 2)
    renewed = identities.rotate_leaf("orders")
    assert (await stream.next()).svids[0].x509_svid == renewed.chain_der()


async def test_w6_nobody_is_denied_everything(nobody: Client) -> None:
    answers = await refusals(nobody, (("workload.spiffe.io", "true"),))
    assert set(answers.values()) == {Code.PERMISSION_DENIED}


async def test_w6_a_workload_without_svid_is_denied_everything(
    orders: Client, identities: Identities
) -> None:
    identities.revoke("orders")
    answers = await refusals(orders, (("workload.spiffe.io", "true"),))
    assert set(answers.values()) == {Code.PERMISSION_DENIED}


@pytest.mark.parametrize("method", STREAMS)
async def test_w6_losing_the_identity_ends_a_running_stream(
    orders: Client, identities: Identities, method: str
) -> None:
    stream = orders.stream(method)
    await stream.next()
    identities.revoke("orders")
    assert await refused(stream.next()) is Code.PERMISSION_DENIED


@pytest.mark.parametrize("method", STREAMS)
async def test_an_svid_that_ended_before_the_next_came_ends_no_stream(
    orders: Client, identities: Identities, clock: Clock, method: str
) -> None:
    """After the machine slept for longer than an SVID lives, streams heal by themselves."""
    stream = orders.stream(method)
    before = await stream.next()
    identities.lapse("orders", clock)
    assert await refused(orders.stream(method).next()) is Code.PERMISSION_DENIED
    identities.rotate_leaf("orders")
    identities.rotate_root()
    assert await stream.next() != before


async def test_w7_encodings(orders: Client, identities: Identities) -> None:
    (svid,) = (await orders.stream("FetchX509SVID").next()).svids
    wanted = identities.svids["orders"]
    leaf, issuer = wanted.chain
    der = [c.public_bytes(serialization.Encoding.DER) for c in (leaf, issuer)]
    assert svid.x509_svid == b"".join(der)
    key: Any = serialization.load_der_private_key(svid.x509_svid_key, password=None)
    assert svid.x509_svid_key.startswith(b"\x30")
    assert key.public_key() == leaf.public_key()
    assert x509.load_der_x509_certificate(svid.bundle) == identities.bundle().authorities[0]


async def test_w7_a_bundle_of_two_roots_is_concatenated(
    orders: Client, identities: Identities
) -> None:
    identities.rotate_root()
    bundles = (await orders.stream("FetchX509Bundles").next()).bundles
    assert dict(bundles) == {f"spiffe://{TRUST_DOMAIN}": identities.bundle().der()}
    assert len(identities.bundle().authorities) == 2


async def test_w8_there_is_one_svid_the_default(orders: Client) -> None:
    answer = await orders.stream("FetchX509SVID").next()
    assert [(svid.spiffe_id, svid.hint) for svid in answer.svids] == [(ORDERS, "")]
    assert not answer.federated_bundles


@pytest.mark.parametrize("audiences", [(), ("",), ("a", ""), ("a",) * 17])
async def test_w9_an_audience_is_mandatory(orders: Client, audiences: tuple[str, ...]) -> None:
    assert await refused(orders.fetch_jwt(*audiences)) is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("other", ["payments", "Orders", "orders/x"])
async def test_w9_another_identity_is_denied(orders: Client, other: str) -> None:
    call = orders.fetch_jwt("a", spiffe_id=f"spiffe://{TRUST_DOMAIN}/{other}")
    assert await refused(call) is Code.PERMISSION_DENIED


@pytest.mark.parametrize("spiffe_id", ["", ORDERS])
async def test_w9_one_token_for_the_one_identity(orders: Client, spiffe_id: str) -> None:
    (svid,) = (await orders.fetch_jwt("a", "b", spiffe_id=spiffe_id)).svids
    assert svid.spiffe_id == ORDERS
    assert (await orders.validate_jwt("b", svid.svid)).spiffe_id == ORDERS


async def test_w10_jwt_bundles(orders: Client, identities: Identities) -> None:
    ((trust_domain, jwks),) = (await orders.stream("FetchJWTBundles").next()).bundles.items()
    assert trust_domain == f"spiffe://{TRUST_DOMAIN}"
    keys = json.loads(jwks)["keys"]
    assert keys == identities.jwt_bundle()["keys"]
    assert all(key["use"] == "jwt-svid" and key["kid"] and "d" not in key for key in keys)


async def test_w11_validation_answers_with_the_claims(orders: Client) -> None:
    (svid,) = (await orders.fetch_jwt("a")).svids
    answer = await orders.validate_jwt("a", svid.svid)
    assert answer.spiffe_id == ORDERS
    assert answer.claims["sub"] == ORDERS
    assert list(answer.claims["aud"]) == ["a"]


async def test_w11_an_invalid_token_is_refused(orders: Client) -> None:
    (svid,) = (await orders.fetch_jwt("a")).svids
    head, body, signature = svid.svid.split(".")
    flipped = ("B" if signature.startswith("A") else "A") + signature[1:]
    for audience, token in (("other", svid.svid), ("a", f"{head}.{body}.{flipped}"), ("a", "x")):
        assert await refused(orders.validate_jwt(audience, token)) is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(("field", "other"), [("audience", "svid"), ("svid", "audience")])
async def test_w6_empty_fields_are_invalid(orders: Client, field: str, other: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=f"{field}: must not be empty") as error:
        await orders.validate_jwt(**{field: "", other: "x"})
    assert error.value.code() is Code.INVALID_ARGUMENT


async def test_w12_a_token_of_an_unknown_trust_domain_is_untrusted(orders: Client) -> None:
    foreign = Identities("orders").jwt_svid("orders", ["a"])
    assert await refused(orders.validate_jwt("a", foreign)) is Code.INVALID_ARGUMENT


async def test_a_cancelled_stream_leaves_no_task_behind(
    orders: Client, identities: Identities
) -> None:
    stream = orders.stream("FetchX509SVID")
    await stream.next()
    assert identities.waiting == 1
    stream.call.cancel()
    await eventually(lambda: not identities.waiting)
