"""Whether a channel grants one use of a NATS server: what ``watertight explain`` answers."""

from watertight.enforcers.resource import keys
from watertight.model.system import Channel
from watertight.servers.nats.declaration import ChannelKeys
from watertight.servers.nats.subjects import covers

USES = ("publish SUBJECT", "subscribe SUBJECT", "consume STREAM", "read BUCKET", "write BUCKET")
"""How one use is asked for."""


def grant_for(channel: Channel, action: str, thing: str) -> str | None:
    """The grant that lets the service do it; None: no grant does.

    Raises ``ValueError`` for an action that there is not.
    """
    wanted, _ = keys(ChannelKeys, (), channel.options)
    verb = action.lower()
    if wanted is None or verb not in {use.split()[0] for use in USES}:
        raise ValueError(action)
    if verb == "consume":
        return f"{verb} {thing}" if thing in wanted.consume else None
    if verb in {"publish", "subscribe"}:
        listed = wanted.publish if verb == "publish" else wanted.subscribe
        wide = next((subject for subject in listed if covers(subject, thing)), None)
        return f"{verb} {wide}" if wide else None
    for what, whole in (("buckets", wanted.buckets), ("object_stores", wanted.object_stores)):
        if verb in whole.get(thing, ()):
            return f"{what} {thing} {verb}"
    return None
