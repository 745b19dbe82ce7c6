"""Whether a channel grants one use of a broker: what ``watertight explain`` answers."""

from watertight.model.system import Channel
from watertight.servers.rabbitmq.declaration import grants, matches

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
