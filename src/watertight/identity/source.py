"""What every way (SDS, Workload API, files) needs to know of identities, and nothing more."""

from collections.abc import Sequence
from typing import Any, Protocol

from watertight.identity.svid import X509SVID, TrustBundle


class IdentitySource(Protocol):
    """Current SVIDs and bundle of one trust domain, and a way to wait for the next change."""

    trust_domain: str

    @property
    def version(self) -> int:
        """Grows by at least one with each change of any SVID or of the bundle."""
        ...

    async def changed(self, since: int) -> int:
        """Waits until ``version`` is greater than ``since`` and returns it."""
        ...

    def x509_svid(self, workload: str) -> X509SVID | None:
        """The current SVID of a workload; None if it has no identity (unknown or revoked)."""
        ...

    def bundle(self) -> TrustBundle:
        """The roots that are trusted now (prepared, active and not yet retired old ones)."""
        ...

    def jwt_svid(self, workload: str, audiences: Sequence[str]) -> str:
        """A fresh JWT-SVID (SPIFFE JWT-SVID, rules J1-J10), compact serialisation."""
        ...

    def jwt_bundle(self) -> dict[str, Any]:
        """The JWK Set of the JWT authorities (``use`` = ``jwt-svid``, ``kid`` set)."""
        ...

    def validate_jwt_svid(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a valid JWT-SVID; raises ``WatertightError`` otherwise."""
        ...
