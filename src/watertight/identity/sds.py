"""Identities as Envoy's secrets, under the names that SPIRE serves (Envoy's SDS).

Names: ``default`` and the workload's SPIFFE ID for its certificate; ``ROOTCA`` and
``spiffe://<trust domain>`` for the roots of its own trust domain; ``ALL`` for those of every trust
domain that it trusts. Certificate and key travel in one resource, so that no proxy ever holds a
mixed pair.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any, NoReturn

import grpc
import structlog
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_spiffe_validator_config_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from watertight.identity.clock import Clock, system_clock
from watertight.identity.entitlement import Entitlement
from watertight.identity.source import IdentitySource
from watertight.identity.workload_api.shares import Share

log = structlog.get_logger(__name__)

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
TYPE_URL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
CERTIFICATE = "default"
OWN_ROOTS = "ROOTCA"
ALL_ROOTS = "ALL"

_LONGEST_REASON = 500
_SPIFFE_VALIDATOR = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig.DESCRIPTOR.full_name


def secrets(source: IdentitySource, workload: str) -> dict[str, dict[str, Any]]:
    """Name → Envoy ``Secret`` (proto3 JSON) of all that ``workload`` may be told.

    Empty if it has no identity: then it is told nothing, roots included. The values hold the
    private key; they must never be logged.
    """
    svid = source.x509_svid(workload)
    if svid is None:
        return {}
    certificate = {
        "certificate_chain": _inline(svid.chain_pem()),
        "private_key": _inline(svid.private_key_pem()),
    }
    roots = _inline(source.bundle().pem())
    trust_domain = f"spiffe://{source.trust_domain}"
    bodies: dict[str, dict[str, Any]] = {
        CERTIFICATE: {"tls_certificate": certificate},
        svid.spiffe_id: {"tls_certificate": certificate},
        OWN_ROOTS: {"validation_context": {"trusted_ca": roots}},
        trust_domain: {"validation_context": {"trusted_ca": roots}},
        ALL_ROOTS: {"validation_context": _per_trust_domain({source.trust_domain: roots})},
    }
    return {name: {"name": name, **body} for name, body in bodies.items()}


def _inline(data: bytes) -> dict[str, str]:
    """``envoy.config.core.v3.DataSource``."""
    return {"inline_bytes": base64.b64encode(data).decode()}


def _per_trust_domain(roots: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    """Each trust domain's roots count for names of that domain only.

    Bundles of several domains must never be merged into one list of roots: each could then mint
    the others' names (SPIFFE Federation, section 4.2).
    """
    return {
        "custom_validator_config": {
            "name": "envoy.tls.cert_validator.spiffe",
            "typed_config": {
                "@type": f"type.googleapis.com/{_SPIFFE_VALIDATOR}",
                "trust_domains": [
                    {"name": name, "trust_bundle": bundle} for name, bundle in roots.items()
                ],
            },
        }
    }


class SecretDiscovery:
    """Serves Envoy's ``StreamSecrets`` and ``FetchSecrets`` to one workload, or to nobody.

    ``DeltaSecrets`` is UNIMPLEMENTED, as with SPIRE. A name that is not (or not yet) the
    workload's is left out of the answer and remembered: it comes when it is there, and never ends
    the stream for the names that are.
    """

    def __init__(
        self,
        source: IdentitySource,
        workload: str | None,
        now: Clock = system_clock,
        share: Share | None = None,
    ) -> None:
        self._source = source
        self._workload = workload
        self._now = now
        self._share = share or Share()

    def handler(self) -> Any:
        """What ``grpc.aio.Server.add_generic_rpc_handlers`` wants."""
        coding = {
            "request_deserializer": discovery_pb2.DiscoveryRequest.FromString,
            "response_serializer": discovery_pb2.DiscoveryResponse.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                    self.stream_secrets, **coding
                ),
                "FetchSecrets": grpc.unary_unary_rpc_method_handler(self.fetch_secrets, **coding),
            },
        )

    async def fetch_secrets(self, request: Any, context: Any) -> Any:
        """The secrets of these names, once."""
        subscription = _Subscription(str(self._workload))
        await self._take(subscription, request, context)
        await self._demand_identity(self._entitlement(), context)
        answer = subscription.answer(self._secrets(), self._source.version)
        return answer or discovery_pb2.DiscoveryResponse(type_url=TYPE_URL)

    async def stream_secrets(self, requests: AsyncIterator[Any], context: Any) -> None:
        """The secrets of the names last asked for, now and after each change."""
        async with self._share.stream() as free:
            if not free:
                await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
            await self._follow(requests, context)

    async def _follow(self, requests: AsyncIterator[Any], context: Any) -> None:
        subscription = _Subscription(str(self._workload))
        entitlement = self._entitlement()
        loop = asyncio.get_running_loop()
        reading = loop.create_task(_next(requests))
        try:
            while True:
                # The version first: a change while we answer must wake us again.
                version = self._source.version
                await self._demand_identity(entitlement, context)
                answer = subscription.answer(self._secrets(), version)
                if answer is not None:
                    await context.write(answer)
                await self._change_or(reading, version)
                if reading.done():
                    request = reading.result()
                    if request is None:
                        return
                    await self._take(subscription, request, context)
                    reading = loop.create_task(_next(requests))
        finally:
            reading.cancel()

    async def _change_or(self, reading: asyncio.Task[Any], version: int) -> None:
        """Waits for a change after ``version``, or for the next request."""
        changing = asyncio.get_running_loop().create_task(self._source.changed(version))
        try:
            await asyncio.wait({reading, changing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()

    def _entitlement(self) -> Entitlement:
        return Entitlement(self._source, self._workload, self._now)

    async def _demand_identity(self, entitlement: Entitlement, context: Any) -> None:
        if entitlement.is_lost():
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, "no identity issued")

    def _secrets(self) -> dict[str, dict[str, Any]]:
        return {} if self._workload is None else secrets(self._source, self._workload)

    async def _take(self, subscription: "_Subscription", request: Any, context: Any) -> None:
        if not self._share.calls.take():
            await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")
        if request.type_url not in {"", TYPE_URL}:
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "type_url: not a Secret")
        subscription.take(request)


class _Subscription:
    """One stream of state-of-the-world xDS: what it asks for, and what it has been sent.

    Source: Envoy's xDS protocol, sections ACK/NACK and "How the client specifies what resources
    to return".
    """

    def __init__(self, workload: str) -> None:
        self._workload = workload
        self._names: frozenset[str] = frozenset()
        self._sent: dict[str, dict[str, Any]] = {}
        self._nonce = 0

    def take(self, request: Any) -> None:
        """Reads a request: a first one, a changed list of names, an ACK or a NACK."""
        if request.response_nonce not in {"", str(self._nonce)}:
            return  # About an answer that a later one has replaced: the client will speak again.
        if request.HasField("error_detail"):
            # What it refused it is not sent again; it keeps what it had, until the next change.
            log.error(
                "identity.sds.refused",
                workload=self._workload,
                reason=request.error_detail.message[:_LONGEST_REASON],
            )
        self._names = frozenset(request.resource_names)
        self._sent = {name: body for name, body in self._sent.items() if name in self._names}

    def answer(self, bodies: Mapping[str, dict[str, Any]], version: int) -> Any | None:
        """All that was asked for and is there; None if nothing of it is news."""
        wanted = {name: bodies[name] for name in sorted(self._names) if name in bodies}
        if all(self._sent.get(name) == body for name, body in wanted.items()):
            return None
        self._sent = wanted
        self._nonce += 1
        answer = discovery_pb2.DiscoveryResponse(
            version_info=str(version), type_url=TYPE_URL, nonce=str(self._nonce)
        )
        for body in wanted.values():
            answer.resources.add().Pack(json_format.ParseDict(body, secret_pb2.Secret()))
        return answer


async def _next(requests: AsyncIterator[Any]) -> Any | None:
    """The next request; None once the client has ended its half of the stream."""
    return await anext(requests, None)


async def _refuse(context: Any, code: grpc.StatusCode, details: str) -> NoReturn:
    await context.abort(code, details)
    raise AssertionError("abort raises")
