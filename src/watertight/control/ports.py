"""Whether this host lets a system listen where its declaration says."""

from collections.abc import Iterator
from pathlib import Path

from watertight.control.store import Store
from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.rules import Flaw
from watertight.model.system import GATEWAY, System
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.pod_client import Pod
from watertight.runtime.taken import Folder, obstacle


def taken(system: System, project: Path, run_directory: Path) -> Iterator[Flaw]:
    """Addresses of this host that ``up`` or ``apply`` could not listen on.

    What the system that runs listens on already is its own.
    """
    gateway = system.gateway
    if gateway is None:
        return
    if gateway.port == _port_in_force(project, run_directory):
        return  # also at another address: ours may stand on all of them
    found = obstacle(gateway.address, gateway.port, Folder(project, run_directory))
    if found is not None:
        yield Flaw(
            codes.PORT_TAKEN,
            ("gateway", "listen"),
            f"The gateway's {quoted(gateway.endpoint)} {found.why}.",
            found.remedy,
        )


def _port_in_force(project: Path, run_directory: Path) -> int | None:
    """On which port the gateway listens that runs for this declaration now."""
    pod = Pod.recorded(GATEWAY, run_directory / "pods" / GATEWAY)
    if pod is None:
        return None
    pod.forget()
    in_force = Store(project / STATE_DIRECTORY).current()
    gateway = in_force.gateway if in_force else None
    return gateway.port if gateway else None
