"""Keeps every proxy's secrets equal to the identities that are current (Envoy SDS over ADS)."""

from collections.abc import Mapping
from typing import Any

from watertight.control.certificates import GatewayCertificate
from watertight.dataplane.xds import XDSServer
from watertight.identity.sds import secrets
from watertight.identity.source import IdentitySource
from watertight.model.system import GATEWAY

GATEWAY_SECRET = "gateway-https"  # noqa: S105 - a name
OWN_SVID = "default"


class SecretsPump:
    """Pushes SVIDs and trust bundle to each proxy whenever they change."""

    def __init__(self, identities: IdentitySource, xds: XDSServer) -> None:
        self._identities = identities
        self._xds = xds
        self.certificate: GatewayCertificate | None = None
        """The gateway's, where the declaration names files; else its SVID serves."""
        self.workloads: tuple[str, ...] = ()

    async def run(self) -> None:
        """Runs until cancelled."""
        version = self._identities.version
        while True:
            self.push()
            version = await self._identities.changed(version)

    def push(self) -> None:
        """Hands every proxy what is current now; what a proxy has already is not sent again."""
        for workload in self.workloads:
            self._xds.set_secrets(workload, self._secrets(workload))

    def _secrets(self, workload: str) -> Mapping[str, Mapping[str, Any]]:
        current = secrets(self._identities, workload)
        if workload == GATEWAY and OWN_SVID in current:
            files = self.certificate
            https = files.secret() if files else current[OWN_SVID]
            current[GATEWAY_SECRET] = {**https, "name": GATEWAY_SECRET}
        return current
