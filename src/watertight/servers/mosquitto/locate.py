"""Finds Mosquitto on this machine, and says how a private broker is started with it."""

import os
import shutil
from pathlib import Path

from watertight.enforcers.resource import ServerMissing, ServerPlan, ServerProcess
from watertight.model.placement import Placement
from watertight.servers.mosquitto.compile import CONFIGURATION, OPENSSL, PLUGIN

SERVER = "mosquitto"
SYSTEM = "/usr/sbin:/usr/local/sbin"
"""Where Debian puts it, which is on no service's path."""


def locate_broker(plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
    """The broker and its environment. Raises :class:`ServerMissing`."""
    program = shutil.which(SERVER, path=os.pathsep.join((search_path, SYSTEM)))
    plugin = next((p for lib in ("lib", "local/lib") for p in _plugins(lib)), None)
    if program is None or plugin is None:
        raise ServerMissing(
            f"{plan.at}: {plan.resource} needs {SERVER} 2.0 with its dynamic security plugin, "
            "which are not installed.",
            remedy="Install them: apt-get install mosquitto.",
        )
    own = placement.server_directory(plan.resource)
    return ServerProcess(
        argv=(program, "-c", str(own / CONFIGURATION)),
        environment={"OPENSSL_CONF": str(own / OPENSSL), "LD_LIBRARY_PATH": str(plugin.parent)},
        programs=(Path(program), plugin),
    )


def _plugins(lib: str) -> list[Path]:
    root = Path("/usr") / lib
    return sorted([*root.glob(PLUGIN), *root.glob(f"*/{PLUGIN}")])
