"""The SPIFFE Workload API for one identity: every method, streams included.

Which identity that is has been decided before (``listener``): a service object speaks for exactly
one workload, or for nobody. The rules W1 to W14 of the SPIFFE Workload Endpoint and Workload API
standards are listed with their tests in ``tests/identity/serving/test_workload_api.py``.
"""

import json
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from watertight.errors import WatertightError
from watertight.identity.clock import Clock, system_clock
from watertight.identity.entitlement import Entitlement
from watertight.identity.errors import TokenRejected
from watertight.identity.jwt_svid import check_audiences
from watertight.identity.source import IdentitySource
from watertight.identity.svid import X509SVID
from watertight.identity.workload_api import messages
from watertight.identity.workload_api.kept_tokens import KeptTokens
from watertight.identity.workload_api.shares import Share

SECURITY_HEADER = ("workload.spiffe.io", "true")
"""Every request carries it, so that no request forged through another server gets in (W2)."""


class WorkloadAPI:
    """Serves ``/SpiffeWorkloadAPI/…`` to one workload; to nobody, with ``workload=None``.

    Nobody, and who has lost its identity, gets PERMISSION_DENIED from every method, on streams
    that run already too (W6). Methods that the standard may gain are UNIMPLEMENTED.
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
        self._kept = KeptTokens(now)

    def handler(self) -> Any:
        """What ``grpc.aio.Server.add_generic_rpc_handlers`` wants."""
        stream, unary = grpc.unary_stream_rpc_method_handler, grpc.unary_unary_rpc_method_handler
        methods = {
            "FetchX509SVID": (stream, self.fetch_x509_svid, messages.X509SVIDRequest),
            "FetchX509Bundles": (stream, self.fetch_x509_bundles, messages.X509BundlesRequest),
            "FetchJWTSVID": (unary, self.fetch_jwt_svid, messages.JWTSVIDRequest),
            "FetchJWTBundles": (stream, self.fetch_jwt_bundles, messages.JWTBundlesRequest),
            "ValidateJWTSVID": (unary, self.validate_jwt_svid, messages.ValidateJWTSVIDRequest),
        }
        return grpc.method_handlers_generic_handler(
            messages.SERVICE,
            {
                name: kind(
                    method,
                    request_deserializer=request.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (kind, method, request) in methods.items()
            },
        )

    async def fetch_x509_svid(self, _request: Any, context: Any) -> None:
        """The SVID with its key and bundle, now and after each change (W5, W7, W8)."""
        await self._send_states(context, self._x509_svid)

    async def fetch_x509_bundles(self, _request: Any, context: Any) -> None:
        """The bundles that the workload may trust, now and after each change (W5)."""
        await self._send_states(context, self._x509_bundles)

    async def fetch_jwt_bundles(self, _request: Any, context: Any) -> None:
        """The JWK Sets, keyed by trust domain, now and after each change (W10)."""
        await self._send_states(context, self._jwt_bundles)

    async def fetch_jwt_svid(self, request: Any, context: Any) -> Any:
        """A JWT-SVID for these audiences, in the first half of its life (W9)."""
        svid = await self._authorised(context)
        audiences = tuple(request.audience)
        try:
            check_audiences(audiences)
        except TokenRejected as error:
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"audience: {error.reason}")
        if request.spiffe_id not in {"", svid.spiffe_id}:
            await _refuse(
                context, grpc.StatusCode.PERMISSION_DENIED, "spiffe_id: not the caller's identity"
            )
        token = self._kept.get(audiences, self._source.version)
        if token is None:
            token = await self._issue(audiences, context)
        return messages.JWTSVIDResponse(
            svids=[messages.JWTSVID(spiffe_id=svid.spiffe_id, svid=token)]
        )

    async def _issue(self, audiences: tuple[str, ...], context: Any) -> str:
        if not await self._share.issue():
            await _refuse(
                context,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "more lists of audiences than a workload gets tokens for",
            )
        try:
            return self._kept.issue(
                audiences, lambda: self._source.jwt_svid(str(self._workload), audiences)
            )
        except WatertightError as error:
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, str(error))

    async def validate_jwt_svid(self, request: Any, context: Any) -> Any:
        """The SPIFFE ID and the claims of a valid token (W11, W12)."""
        await self._authorised(context)
        for name in ("audience", "svid"):
            if not getattr(request, name):
                await _refuse(
                    context, grpc.StatusCode.INVALID_ARGUMENT, f"{name}: must not be empty"
                )
        try:
            claims = self._source.validate_jwt_svid(request.svid, request.audience)
        except WatertightError as error:
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = messages.ValidateJWTSVIDResponse(spiffe_id=claims["sub"])
        response.claims.update(claims)
        return response

    async def _send_states(self, context: Any, state: Callable[[X509SVID], Any]) -> None:
        """Full state at once, and again whenever it differs from what was sent last (W5)."""
        await self._admit(context)
        async with self._share.stream() as free:
            if not free:
                await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
            await self._follow(context, state)

    async def _follow(self, context: Any, state: Callable[[X509SVID], Any]) -> NoReturn:
        entitlement = Entitlement(self._source, self._workload, self._now)
        last = None
        while True:
            # The version first: a change while we build the message must wake us again.
            version = self._source.version
            svid = entitlement.svid()
            if svid is not None and (message := state(svid)) != last:
                await context.write(message)
                last = message
            elif entitlement.is_lost():
                await _refuse_nobody(context)
            await self._source.changed(version)

    async def _authorised(self, context: Any) -> X509SVID:
        """The caller's current SVID; ends the call where the request may not be answered."""
        await self._admit(context)
        svid = Entitlement(self._source, self._workload, self._now).svid()
        return svid or await _refuse_nobody(context)

    async def _admit(self, context: Any) -> None:
        await _demand_security_header(context)
        if not self._share.calls.take():
            await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")

    def _x509_svid(self, svid: X509SVID) -> Any:
        entry = messages.X509SVID(
            spiffe_id=svid.spiffe_id,
            x509_svid=svid.chain_der(),
            x509_svid_key=svid.private_key_der,
            bundle=self._source.bundle().der(),
        )
        return messages.X509SVIDResponse(svids=[entry])

    def _x509_bundles(self, _svid: X509SVID) -> Any:
        return messages.X509BundlesResponse(
            bundles={self._trust_domain_id: self._source.bundle().der()}
        )

    def _jwt_bundles(self, _svid: X509SVID) -> Any:
        jwks = json.dumps(self._source.jwt_bundle()).encode()
        return messages.JWTBundlesResponse(bundles={self._trust_domain_id: jwks})

    @property
    def _trust_domain_id(self) -> str:
        return f"spiffe://{self._source.trust_domain}"


async def _demand_security_header(context: Any) -> None:
    if SECURITY_HEADER not in {(key, value) for key, value in context.invocation_metadata()}:
        name, value = SECURITY_HEADER
        await _refuse(
            context, grpc.StatusCode.INVALID_ARGUMENT, f"metadata {name}: {value} is missing"
        )


async def _refuse_nobody(context: Any) -> NoReturn:
    await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, "no identity issued")


async def _refuse(context: Any, code: grpc.StatusCode, details: str) -> NoReturn:
    await context.abort(code, details)
    raise AssertionError("abort raises")
