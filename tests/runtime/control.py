"""A control process that a test kills: ``python -m tests.runtime.control HOME``.

Brings up one pod, whose app writes its pid to its data directory, says ``up`` and waits.
"""

import asyncio
import sys
from pathlib import Path

from tests.runtime.conftest import prepare
from tests.runtime.programs import server, system_of
from watertight.model.system import System
from watertight.runtime.capabilities import HostCapabilities, Isolation, detect

PORT = 8071


def the_system(port: int = PORT) -> System:
    """What it runs."""
    return system_of(server("orders", port))


async def main(home: Path, isolation: str, port: int) -> None:
    """Never returns by itself."""
    capabilities = detect()
    if isolation == Isolation.NONE:
        capabilities = HostCapabilities(Isolation.NONE, "a test says so.")
    host = prepare(home, the_system(port), capabilities)
    await host.up("orders", "app")
    print("up", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
