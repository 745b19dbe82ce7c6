"""Whether a channel grants one use of its database or broker, asked of that kind's enforcer."""

from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import Explains
from watertight.model.decide import Decision, decide
from watertight.model.document import quoted
from watertight.model.nearest import one_of
from watertight.model.pieces import pieces
from watertight.model.system import System

MOST_USES = 30


def decide_use(
    system: System, source: str, target: str, method: str | None = None, path: str | None = None
) -> Decision:
    """As :func:`watertight.model.decide.decide`, and also what a channel to a resource grants.

    There, ``method`` is what is done (``select``, ``publish``) and ``path`` to what.
    """
    resource = system.resources.get(target)
    if resource is None:
        return decide(system, source, target, method, path)
    decision = decide(system, source, target)
    channel = decision.channel
    if channel is None:
        return decision
    listed = ", ".join(quoted(piece) for piece in pieces(channel.options)) or "nothing"
    enforcer: object = resource_enforcers().get(resource.kind)
    if not isinstance(enforcer, Explains) or method is None or path is None:
        # Of a use that is half said nothing can be said but what there is.
        reason = f"The channel {quoted(channel.name)} grants {listed}."
        return Decision(True, reason, channel.at, channel)
    try:
        grant = enforcer.granted(channel, method, path)
    except ValueError:
        uses = one_of(enforcer.uses, MOST_USES)
        reason = (
            f"{quoted(method)} is no use of a resource of kind {quoted(resource.kind)}: {uses}."
        )
        return Decision(False, reason, channel.at)
    if grant is None:
        use = quoted(f"{method} {path}")
        reason = f"The channel {quoted(channel.name)} does not grant {use}, but {listed}."
        return Decision(False, reason, channel.at, channel)
    reason = f"The channel {quoted(channel.name)} grants {quoted(grant)}."
    return Decision(True, reason, channel.at, channel)
