"""JWT-SVIDs that were issued to one workload, kept for half of their life.

A client that asks for a token with each of its requests is served from here: only a new list of
audiences, or a new half-life, costs a signature and a line of the audit log.
"""

import base64
import json
from collections.abc import Callable

from watertight.identity.clock import Clock

MOST = 64
"""Lists of audiences; 8 KiB each at most."""


class KeptTokens:
    """One workload's."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._version = -1
        self._tokens: dict[tuple[str, ...], tuple[float, str]] = {}

    def get(self, audiences: tuple[str, ...], version: int) -> str | None:
        """A token that is not half-way through its life, issued since ``version`` began.

        The version of the source changes with each SVID and authority: what a distrusted authority
        has signed is never handed out again.
        """
        if version != self._version:
            self._tokens.clear()
            self._version = version
        until, token = self._tokens.get(audiences, (0.0, ""))
        return token if self._now().timestamp() < until else None

    def issue(self, audiences: tuple[str, ...], sign: Callable[[], str]) -> str:
        """What ``sign`` gives, kept; raises what it raises."""
        token = sign()
        if len(self._tokens) >= MOST:
            self._tokens.pop(next(iter(self._tokens)))
        self._tokens[audiences] = (_half_life(token), token)
        return token


def _half_life(token: str) -> float:
    """Seconds since the epoch. The token is our own: it is read, not validated."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return (float(claims["iat"]) + float(claims["exp"])) / 2
