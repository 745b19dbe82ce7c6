"""Tells a workload that has lost its identity from one that is between two SVIDs.

A source has no SVID for a revoked or unknown workload, nor for one whose last SVID ended before
the next came: the machine slept, the clock jumped, the authority was away. The first must be cut
off at once; the second will be served again without anybody's help, so nothing of it is torn
down meanwhile.
"""

from watertight.identity.clock import Clock
from watertight.identity.source import IdentitySource
from watertight.identity.svid import X509SVID


class Entitlement:
    """One workload's identity, as one stream or delivery has followed it so far."""

    def __init__(self, source: IdentitySource, workload: str | None, now: Clock) -> None:
        self._source = source
        self._workload = workload
        self._now = now
        self._last: X509SVID | None = None

    def svid(self) -> X509SVID | None:
        """The current SVID, if there is one."""
        svid = None if self._workload is None else self._source.x509_svid(self._workload)
        self._last = svid or self._last
        return svid

    @property
    def has_been_met(self) -> bool:
        """Whether there was an SVID at any time that we asked."""
        return self._last is not None

    def is_lost(self) -> bool:
        """Whether there is no SVID although the last one is within its dates: it was revoked.

        Also true as long as none has been met.
        """
        if self.svid() is not None:
            return False
        return self._last is None or self._last.is_valid_at(self._now())
