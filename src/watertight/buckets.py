"""A token bucket: so much at once, so much a second. For whoever bounds what others may ask."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class TokenBucket:
    """Full at first. Times are seconds of ``now``, which must never go back."""

    __slots__ = ("_at", "_burst", "_left", "_now", "_per_second")

    def __init__(self, burst: float, per_second: float, now: Clock = time.monotonic) -> None:
        self._burst, self._per_second, self._now = burst, per_second, now
        self._left, self._at = burst, now()

    def left(self) -> float:
        """How many tokens there are."""
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        return self._left

    @property
    def full(self) -> bool:
        """Whether nobody took from it for long."""
        return self.left() >= self._burst

    def take(self) -> bool:
        """Takes a token, if there is one."""
        if self.left() < 1:
            return False
        self._left -= 1
        return True

    def wait_seconds(self) -> float:
        """Until there is a token; 0 if there is one."""
        return max(0.0, (1 - self.left()) / self._per_second)
