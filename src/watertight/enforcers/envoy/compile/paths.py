"""Which data path a channel takes: it pays only for what it declares (DESIGN.md section 8)."""

from enum import StrEnum

from watertight.enforcers.envoy.compile.refusal import NotCompilable
from watertight.model.system import Channel, Listen, Protocol, System


class DataPath(StrEnum):
    """How the bytes of one channel travel between the two Envoys."""

    TUNNEL = "tunnel"
    """HTTP/2 CONNECT over pooled mTLS; nothing is parsed."""
    POLICY = "policy"
    """The same tunnel; the callee's Envoy parses HTTP where it enforces the grants."""
    HTTP = "http"
    """HTTP is parsed at both ends: the caller's Envoy retries."""


def callee(system: System, channel: Channel) -> Listen:
    """What the channel's target speaks, and where. Raises if it is no listening service."""
    service = system.services.get(channel.target)
    if service is None or service.listens is None:
        raise NotCompilable(
            channel.at,
            f"the channel {channel.name} leads to something that does not listen.",
            remedy=f"Declare `listens` for the service `{channel.target}`.",
        )
    return service.listens


def is_ours(system: System, channel: Channel) -> bool:
    """Whether the channel is between services; those to resources have enforcers of their own."""
    return channel.target not in system.resources


def data_path(system: System, channel: Channel) -> DataPath:
    """The data path of one channel between services.

    Raises :class:`NotCompilable` where the declaration asks of ``tcp`` what only HTTP has.
    """
    listens = callee(system, channel)
    asks = bool(channel.grants or channel.timeout_seconds is not None or channel.retries)
    if listens.protocol is Protocol.TCP:
        if asks:
            raise NotCompilable(
                channel.at,
                f"the channel {channel.name} has grants, a timeout or retries, "
                f"but `{channel.target}` listens on tcp, where nothing is parsed.",
                remedy="Declare the service as http or grpc, or leave these out.",
            )
        return DataPath.TUNNEL
    if channel.retries:
        return DataPath.HTTP
    return DataPath.POLICY if asks else DataPath.TUNNEL
