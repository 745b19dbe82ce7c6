"""Which data path a channel takes: what its callee speaks decides (DESIGN.md section 8)."""

from enum import StrEnum

from watertight.model.system import Channel, Protocol, System


class DataPath(StrEnum):
    """How a channel's bytes travel between the two proxies."""

    HTTP = "http"
    """HTTP/1 over pooled mTLS connections, parsed at both ends; policy at the callee."""
    GRPC = "grpc"
    """The same over HTTP/2."""
    TCP = "tcp"
    """One mTLS connection for each of the client's; nothing is parsed."""
    NATIVE = "native"
    """A resource's own protocol, TLS and roles: its enforcer's matter."""


_BY_PROTOCOL = {
    Protocol.HTTP: DataPath.HTTP,
    Protocol.GRPC: DataPath.GRPC,
    Protocol.TCP: DataPath.TCP,
}


def data_path(system: System, channel: Channel) -> DataPath:
    """The data path of a declared channel of this system; grants and retries do not matter."""
    callee = system.services.get(channel.target)
    if callee is None:
        return DataPath.NATIVE
    return DataPath.TCP if callee.listens is None else _BY_PROTOCOL[callee.listens.protocol]
