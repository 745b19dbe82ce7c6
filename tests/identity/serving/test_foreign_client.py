"""Software that nobody here wrote gets its identity from us as from any SPIFFE implementation."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.identity.serving.authority import TRUST_DOMAIN, Identities

ORDERS = f"spiffe://{TRUST_DOMAIN}/orders"


class Foreign:
    """What the foreign process says, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self._process = process
        self._lines = process.stdout

    async def says(self) -> dict[str, Any]:
        """The next thing that it did."""
        async with asyncio.timeout(60):
            line = await self._lines.readline()
        said: dict[str, Any] = json.loads(line or b'{"did": "ended"}')
        return said

    async def exit_status(self) -> int:
        async with asyncio.timeout(60):
            return await self._process.wait()


@asynccontextmanager
async def foreign(door: Path) -> AsyncIterator[Foreign]:
    """py-spiffe in a process of its own; all it is given is the standard's variable (rule W3)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("foreign.py")),
        TRUST_DOMAIN,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"SPIFFE_ENDPOINT_SOCKET": f"unix://{door}"},
    )
    try:
        yield Foreign(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_py_spiffe_uses_every_method_and_sees_a_rotation(
    door: Path, identities: Identities
) -> None:
    first = identities.svids["orders"].leaf.serial_number
    async with foreign(door) as workload:
        assert [await workload.says() for _ in range(6)] == [
            {"did": "x509", "id": ORDERS, "serial": first, "chain": 2},
            {"did": "x509-bundles", "roots": 1},
            {"did": "jwt", "id": ORDERS, "audience": ["billing"]},
            {"did": "validate", "id": ORDERS},
            {"did": "jwt-bundles", "id": ORDERS},
            {"did": "watch", "serial": first},
        ]
        identities.rotate_root()
        second = identities.svids["orders"].leaf.serial_number
        assert await workload.says() == {"did": "update", "serial": second, "roots": 2}
        assert await workload.exit_status() == 0
