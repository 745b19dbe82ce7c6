"""Whether a channel grants one use of a broker: what ``watertight explain`` answers."""

from watertight.model.system import Channel
from watertight.servers.kafka.declaration import grants, own_name

USES = ("publish TOPIC", "consume TOPIC", "group GROUP", "transaction ID")
"""How one use is asked for."""


def grant_for(channel: Channel, action: str, thing: str) -> str | None:
    """The grant that lets the service do it; None: no grant does.

    Raises ``ValueError`` for an action that there is not.
    """
    wanted, verb = grants(channel), action.lower()
    mine = own_name(channel.source, thing)
    if verb == "publish":
        return f"publish {thing}" if thing in wanted.publish else None
    if verb == "consume":
        return f"consume {thing}" if thing in wanted.consume else None
    if verb == "group":
        return f"consume {' '.join(wanted.consume)}" if wanted.consume and mine else None
    if verb == "transaction":
        return "transactions" if wanted.transactions and mine else None
    raise ValueError(action)
