"""Whether a channel grants one use of its database or broker, asked of that kind's enforcer."""

from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import Explains
from watertight.errors import ExitCode, WatertightError
from watertight.model.decide import Decision, decide
from watertight.model.document import quoted
from watertight.model.nearest import one_of
from watertight.model.pieces import pieces
from watertight.model.system import System

MOST_USES = 30


class HalfAsked(WatertightError):
    """A use of a resource without what it is done to."""

    exit_code = ExitCode.MISUSE


def decide_use(
    system: System, source: str, target: str, method: str | None = None, path: str | None = None
) -> Decision:
    """As :func:`watertight.model.decide.decide`, and also what a channel to a resource grants.

    There, ``method`` is what is done (``select``, ``publish``) and ``path`` to what. Raises
    :class:`HalfAsked` if only the first is given, and the channel does not grant that as it stands.
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
    if method is None:
        reason = f"The channel {quoted(channel.name)} grants {listed}."
        return Decision(True, reason, channel.at, channel)
    if path is None and channel.options.get(method) is True:
        reason = f"The channel {quoted(channel.name)} grants {quoted(method)}."
        return Decision(True, reason, channel.at, channel)
    if not isinstance(enforcer, Explains):
        raise HalfAsked(
            f"A resource of kind {quoted(resource.kind)} does not tell one use from another.",
            remedy=f"Ask `watertight explain {source} {target}`: it lists what is granted.",
        )
    try:
        grant = enforcer.granted(channel, method, path or "")
    except ValueError:
        uses = one_of(enforcer.uses, MOST_USES)
        reason = (
            f"{quoted(method)} is no use of a resource of kind {quoted(resource.kind)}: {uses}."
        )
        return Decision(False, reason, channel.at, answered=False)
    if path is None:
        raise HalfAsked(
            f"{quoted(method)} what? The channel {quoted(channel.name)} grants {listed}.",
            remedy=f"Say it: `watertight explain {source} {target} {_fitting(enforcer, method)}`.",
        )
    if grant is None:
        use = quoted(f"{method} {path}")
        reason = f"The channel {quoted(channel.name)} does not grant {use}, but {listed}."
        return Decision(False, reason, channel.at, channel)
    reason = f"The channel {quoted(channel.name)} grants {quoted(grant)}."
    return Decision(True, reason, channel.at, channel)


def _fitting(enforcer: Explains, action: str) -> str:
    """How that use is asked for: ``select TABLE``."""
    uses = [use for use in enforcer.uses if use.split()[0] == action.lower()]
    return uses[0] if uses else action
