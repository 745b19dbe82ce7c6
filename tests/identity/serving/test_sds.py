"""Envoy's secret discovery service: the numbered rules S1 to S4, and a real Envoy that uses it."""

import base64
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

from tests.identity.serving.authority import TRUST_DOMAIN, Clock, Identities
from tests.identity.serving.client import DEADLINE_SECONDS, Client
from tests.identity.serving.polling import eventually
from watertight.identity.sds import SERVICE, TYPE_URL, secrets

ORDERS = f"spiffe://{TRUST_DOMAIN}/orders"
DOMAIN = f"spiffe://{TRUST_DOMAIN}"
Code = grpc.StatusCode


class Subscriber:
    """One StreamSecrets stream, as a client drives it."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def ask(
        self, *names: str, nonce: str = "", error: str = "", type_url: str = TYPE_URL
    ) -> None:
        request = discovery_pb2.DiscoveryRequest(
            type_url=type_url, resource_names=names, response_nonce=nonce
        )
        if error:
            request.error_detail.message = error
        await self.call.write(request)

    async def next(self) -> Any:
        answer = await self.call.read()
        assert answer is not grpc.aio.EOF
        return answer

    async def told(self) -> dict[str, Any]:
        """The secrets of the next answer, by name."""
        return unpack(await self.next())


def unpack(answer: Any) -> dict[str, Any]:
    found = {}
    for resource in answer.resources:
        secret = secret_pb2.Secret()
        assert resource.Unpack(secret)
        found[secret.name] = secret
    return found


def subscribe(client: Client) -> Subscriber:
    method = client.channel.stream_stream(
        f"/{SERVICE}/StreamSecrets",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
    )
    return Subscriber(method(timeout=DEADLINE_SECONDS))


async def fetch(client: Client, *names: str, type_url: str = TYPE_URL) -> Any:
    method = client.channel.unary_unary(
        f"/{SERVICE}/FetchSecrets",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
    )
    request = discovery_pb2.DiscoveryRequest(type_url=type_url, resource_names=names)
    return await method(request, timeout=DEADLINE_SECONDS)


def certificate(secret: Any) -> x509.Certificate:
    return x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)[0]


async def test_s2_the_names_are_those_that_spire_serves(identities: Identities) -> None:
    bodies = secrets(identities, "orders")
    assert set(bodies) == {"default", ORDERS, "ROOTCA", DOMAIN, "ALL"}
    assert all(body["name"] == name for name, body in bodies.items())


async def test_s3_certificate_and_key_are_one_resource(identities: Identities) -> None:
    pair = secrets(identities, "orders")["default"]["tls_certificate"]
    chain = base64.b64decode(pair["certificate_chain"]["inline_bytes"])
    key: Any = serialization.load_pem_private_key(
        base64.b64decode(pair["private_key"]["inline_bytes"]), password=None
    )
    leaf, issuer = x509.load_pem_x509_certificates(chain)
    assert (leaf, issuer) == identities.svids["orders"].chain
    assert key.public_key() == leaf.public_key()


async def test_all_keeps_each_trust_domain_to_its_own_names(identities: Identities) -> None:
    validator = secrets(identities, "orders")["ALL"]["validation_context"]
    (domain,) = validator["custom_validator_config"]["typed_config"]["trust_domains"]
    assert domain["name"] == TRUST_DOMAIN
    assert base64.b64decode(domain["trust_bundle"]["inline_bytes"]) == identities.bundle().pem()


async def test_without_identity_there_are_no_secrets(identities: Identities) -> None:
    assert secrets(identities, "stranger") == {}


async def test_a_stream_answers_and_sends_what_changes(
    orders: Client, identities: Identities
) -> None:
    stream = subscribe(orders)
    await stream.ask("default")
    first = await stream.next()
    assert first.type_url == TYPE_URL
    assert certificate(unpack(first)["default"]) == identities.svids["orders"].leaf
    await stream.ask("default", nonce=first.nonce)
    renewed = identities.rotate_leaf("orders")
    second = await stream.next()
    assert certificate(unpack(second)["default"]) == renewed.leaf
    assert second.nonce != first.nonce
    assert second.version_info != first.version_info


async def test_unknown_names_are_left_out_and_do_not_end_the_stream(orders: Client) -> None:
    stream = subscribe(orders)
    await stream.ask("default", "nobody-knows-this")
    assert set(await stream.told()) == {"default"}


async def test_a_name_that_is_not_there_yet_is_remembered(
    orders: Client, identities: Identities
) -> None:
    """The trust domain moves: the new SPIFFE ID was asked for before it was the workload's."""
    later = "spiffe://later.internal/orders"
    stream = subscribe(orders)
    await stream.ask(later)
    own = identities.svids["orders"]
    identities.svids["orders"] = type(own)(later, own.chain, own.private_key_der)
    identities.touch()
    assert set(await stream.told()) == {later}


async def test_another_workloads_certificate_is_never_sent(orders: Client) -> None:
    stream = subscribe(orders)
    await stream.ask(f"{DOMAIN}/payments", "ROOTCA")
    assert set(await stream.told()) == {"ROOTCA"}


async def test_a_name_that_is_added_is_answered(orders: Client) -> None:
    stream = subscribe(orders)
    await stream.ask("default")
    first = await stream.next()
    await stream.ask("default", "ROOTCA", nonce=first.nonce)
    assert set(await stream.told()) == {"default", "ROOTCA"}


async def test_an_ack_and_fewer_names_are_not_answered(orders: Client) -> None:
    """D10: what is unchanged is not sent again. The next answer is the one for ``ALL``."""
    stream = subscribe(orders)
    await stream.ask("default", "ROOTCA")
    first = await stream.next()
    await stream.ask("default", "ROOTCA", nonce=first.nonce)
    await stream.ask("ROOTCA", nonce=first.nonce)
    await stream.ask("ROOTCA", "ALL", nonce=first.nonce)
    assert set(await stream.told()) == {"ROOTCA", "ALL"}


async def test_a_stale_nonce_is_not_answered(orders: Client) -> None:
    """D3: it speaks of an answer that a later one has replaced."""
    stream = subscribe(orders)
    await stream.ask("default")
    first = await stream.next()
    await stream.ask("default", "ROOTCA", nonce=first.nonce)
    second = await stream.next()
    await stream.ask("default", "ROOTCA", "ALL", nonce=first.nonce)
    await stream.ask("ROOTCA", DOMAIN, nonce=second.nonce)
    assert set(await stream.told()) == {"ROOTCA", DOMAIN}


async def test_a_refused_answer_is_sent_again_only_once_it_changed(
    orders: Client, identities: Identities, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = subscribe(orders)
    await stream.ask("default")
    first = await stream.next()
    await stream.ask("default", nonce=first.nonce, error="no such curve")
    await eventually(lambda: "no such curve" in capsys.readouterr().out)
    renewed = identities.rotate_leaf("orders")
    assert certificate((await stream.told())["default"]) == renewed.leaf


async def test_revocation_ends_the_stream(orders: Client, identities: Identities) -> None:
    stream = subscribe(orders)
    await stream.ask("default")
    await stream.next()
    identities.revoke("orders")
    await refused_with(stream, Code.PERMISSION_DENIED)


async def test_an_svid_that_ended_before_the_next_came_ends_no_stream(
    orders: Client, identities: Identities, clock: Clock
) -> None:
    stream = subscribe(orders)
    await stream.ask("default")
    await stream.next()
    identities.lapse("orders", clock)
    await refused_with(subscribe(orders), Code.PERMISSION_DENIED)
    renewed = identities.rotate_leaf("orders")
    assert certificate((await stream.told())["default"]) == renewed.leaf


async def refused_with(stream: Subscriber, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stream.next()
    assert error.value.code() is code


async def test_nobody_is_denied(nobody: Client) -> None:
    await refused_with(subscribe(nobody), Code.PERMISSION_DENIED)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await fetch(nobody, "default")
    assert error.value.code() is Code.PERMISSION_DENIED


async def test_s1_another_type_is_invalid(orders: Client) -> None:
    stream = subscribe(orders)
    await stream.ask("default", type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
    await refused_with(stream, Code.INVALID_ARGUMENT)


async def test_fetch_answers_once(orders: Client) -> None:
    assert set(unpack(await fetch(orders, "default", "unknown"))) == {"default"}
    assert unpack(await fetch(orders, "unknown")) == {}


async def test_delta_is_unimplemented(orders: Client) -> None:
    """As with SPIRE: clients fall back to StreamSecrets."""
    method = orders.channel.stream_stream(f"/{SERVICE}/DeltaSecrets")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await method(timeout=DEADLINE_SECONDS).read()
    assert error.value.code() is Code.UNIMPLEMENTED


async def test_a_stream_that_the_client_ends_leaves_nothing_behind(
    orders: Client, identities: Identities
) -> None:
    stream = subscribe(orders)
    await stream.ask("default")
    await stream.next()
    await stream.call.done_writing()
    assert await stream.call.read() is grpc.aio.EOF
    await eventually(lambda: not identities.waiting)
