"""Whether a channel grants one use of a broker: what ``watertight explain`` answers."""

from collections.abc import Sequence

from watertight.model.system import Channel
from watertight.servers.rabbitmq.declaration import grants

USES = ("publish EXCHANGE/KEY", "send QUEUE", "consume QUEUE")
"""How one use is asked for."""


def grant_for(channel: Channel, action: str, thing: str) -> str | None:
    """The grant that lets the service do it; None: no grant does.

    Raises ``ValueError`` for an action that there is not.
    """
    wanted, verb = grants(channel), action.lower()
    if verb in {"send", "consume"}:
        listed = wanted.send if verb == "send" else wanted.consume
        return f"{verb} {thing}" if thing in listed else None
    if verb != "publish":
        raise ValueError(action)
    exchange, slash, key = thing.partition("/")
    patterns = wanted.publish.get(exchange)
    if patterns is None:
        return None
    if not patterns or not slash:
        return f"publish {exchange} {' '.join(patterns) or 'any'}"
    fitting = next((pattern for pattern in patterns if matches(pattern, key)), None)
    return f"publish {exchange} {fitting}" if fitting else None


def matches(pattern: str, key: str) -> bool:
    """Whether a pattern of routing keys covers a plain one (AMQP 0-9-1, section 3.1.3.3)."""
    return _fits(pattern.split("."), key.split("."))


def _fits(pattern: Sequence[str], words: Sequence[str]) -> bool:
    if pattern[-1] == "#":
        head = pattern[:-1]
        return len(words) >= len(head) and _fits_exactly(head, words[: len(head)])
    return _fits_exactly(pattern, words)


def _fits_exactly(pattern: Sequence[str], words: Sequence[str]) -> bool:
    return len(pattern) == len(words) and all(
        p in ("*", w) for p, w in zip(pattern, words, strict=True)
    )
