"""Which data path a channel takes: it pays only for what it declares (DESIGN.md section 8)."""

from enum import StrEnum

from watertight.model.system import Channel, Protocol, System


class DataPath(StrEnum):
    """How a channel's bytes travel between the two proxies."""

    TUNNEL = "tunnel"
    """CONNECT streams over one mTLS connection; nothing is parsed."""
    POLICY = "policy"
    """The same tunnel; HTTP is parsed once, at the callee, where grants are enforced."""
    HTTP = "http"
    """HTTP is parsed at the caller too, which may then retry."""
    NATIVE = "native"
    """A resource's own protocol, TLS and roles: its enforcer's matter."""


def data_path(system: System, channel: Channel) -> DataPath:
    """The data path of a declared channel of this system."""
    callee = system.services.get(channel.target)
    if callee is None:
        return DataPath.NATIVE
    if callee.listens is None or callee.listens.protocol is Protocol.TCP:
        return DataPath.TUNNEL
    if channel.retries:
        return DataPath.HTTP
    if channel.grants or channel.timeout_seconds is not None:
        return DataPath.POLICY
    return DataPath.TUNNEL
