"""Where the things of one system lie on a host."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Placement:
    """Where things run on this host: the only facts of the machine that a compile may know."""

    run_directory: Path
    """Short (a Unix socket's path has 107 bytes)."""
    project_directory: Path
    """Where the declaration stands; relative paths in it start here."""
    shared_network: bool = False
    """True where the kernel allows no namespaces: every service on the host's own loopback."""
    svid_ttl_seconds: int = 3600
    open_files: int = 65_536
    """How many a proxy may have."""

    def proxy_directory(self, workload: str) -> Path:
        """Private to one proxy: its bootstrap, its admin socket."""
        return self.run_directory / "proxies" / workload

    def admin_socket(self, workload: str) -> Path:
        """Envoy's admin interface of one proxy."""
        return self.proxy_directory(workload) / "admin.sock"

    def xds_socket(self, workload: str) -> Path:
        """Where the control plane serves exactly one proxy."""
        return self.run_directory / "xds" / workload / "ads.sock"

    def door_directory(self, callee: str) -> Path:
        """Where one callee's proxy makes its doors; other proxies may pass through."""
        return self.run_directory / "mesh" / callee

    def door(self, callee: str, caller: str) -> Path:
        """A channel is a socket: where ``callee``'s proxy awaits exactly ``caller``."""
        return self.door_directory(callee) / f"{caller}.sock"

    def credentials(self, workload: str) -> Path:
        """The current SVID and trust bundle of a workload that reads files (identity.delivery)."""
        return self.run_directory / "credentials" / workload / "current"

    def server_directory(self, resource: str) -> Path:
        """The configuration of one server: we write it, the server reads it."""
        return self.run_directory / "servers" / resource

    def roots_taken(self, resource: str) -> Path:
        """Which roots a server was started with, where only a start reads them."""
        return self.run_directory / "servers" / f"{resource}.roots"

    def server_sockets(self, resource: str) -> Path:
        """Where one server makes its Unix sockets: the server and the operator pass."""
        return self.run_directory / "sockets" / resource

    def server_data(self, resource: str) -> Path:
        """Where one server keeps what it stores; it survives."""
        return self.project_directory / ".watertight" / "data" / resource

    def channels_file(self, service: str) -> Path:
        """Where one service reads how to reach its resources (``enforcers.resource.Client``)."""
        return self.run_directory / "workload" / service / "channels.json"

    def workload_api_socket(self, service: str) -> Path:
        """The SPIFFE Workload API, as one service sees it."""
        return self.run_directory / "workload" / service / "api.sock"
