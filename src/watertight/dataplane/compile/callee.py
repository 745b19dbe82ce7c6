"""What a channel leads to, and whether its target can do what the channel asks for."""

from watertight.dataplane.compile.refusal import NotCompilable
from watertight.model.system import Channel, Listen, Protocol, System


def is_ours(system: System, channel: Channel) -> bool:
    """Whether the channel is between services; those to resources have enforcers of their own."""
    return channel.target not in system.resources


def callee(system: System, channel: Channel) -> Listen:
    """What the channel's target speaks, and where.

    Raises :class:`NotCompilable` if it is no listening service, or if the channel asks of ``tcp``
    what only HTTP has.
    """
    service = system.services.get(channel.target)
    if service is None or service.listens is None:
        raise NotCompilable(
            channel.at,
            f"the channel {channel.name} leads to something that does not listen.",
            remedy=f"Declare `listens` for the service `{channel.target}`.",
        )
    asks = bool(channel.grants or channel.timeout_seconds is not None or channel.retries)
    if asks and service.listens.protocol is Protocol.TCP:
        raise NotCompilable(
            channel.at,
            f"the channel {channel.name} has grants, a timeout or retries, "
            f"but `{channel.target}` listens on tcp, where nothing is parsed.",
            remedy="Declare the service as http or grpc, or leave these out.",
        )
    return service.listens
