"""A control process that dies between two effects: ``… -m tests.control.dying FILE NEXT DIES``.

Takes FILE's system up or over, has NEXT's content applied in its place, and is killed before the
effect number DIES of that; 0: once it has answered, after it has printed the number of the first
effect that a user may notice (a configuration that is handed over), and how many there were. An
effect is whatever changes something outside this process: a file below the project or the run
directory, a request to a pod's init or the nursery, a program that is started, a configuration
that is handed to a proxy.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watertight.control.client import ADMIN_SOCKET, AdminClient
from watertight.control.requests import Options
from watertight.control.up import serve
from watertight.dataplane.resources import Resource
from watertight.dataplane.xds import XDSServer
from watertight.errors import WatertightError
from watertight.model.load import load_file
from watertight.runtime.layout import Layout
from watertight.runtime.pod_client import Pod

FILES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.chmod", "os.truncate"}
OTHERS = {"os.posix_spawn", "socket.sendmsg"}


class Effects:
    """Counts them, once it has begun."""

    def __init__(self, dies: int) -> None:
        self._dies = dies
        self._begun = False
        self._noted: tuple[Path, ...] = ()
        self.count = 0
        self.seen_from = 0
        """The first that whoever uses the system may notice: those before make directories."""

    def begin(self, *below: Path) -> None:
        """From now on; of files, only those in these directories."""
        self._noted, self._begun = below, True

    def one(self) -> None:
        """Here is one: or the end."""
        if not self._begun:
            return
        self.count += 1
        if self.count == self._dies:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event (PEP 578)."""
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        of_a_file = writes or event in FILES
        if event in OTHERS or (of_a_file and self._is_noted(arguments[0])):
            self.one()

    def _is_noted(self, path: object) -> bool:
        if not self._begun or not isinstance(path, str | bytes | os.PathLike):
            return False
        named = Path(os.fsdecode(path))
        return named.suffix != ".log" and any(named.is_relative_to(one) for one in self._noted)


def watched(effects: Effects) -> None:
    """Has every effect counted that Python's own audit events do not tell of."""
    ask, hand = Pod.ask, XDSServer.set_resources

    async def asked(self: Pod, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation != "status":
            effects.one()
        return await ask(self, operation, **arguments)

    def handed(self: XDSServer, workload: str, resources: Sequence[Resource]) -> None:
        effects.one()
        effects.seen_from = effects.seen_from or effects.count
        hand(self, workload, resources)

    Pod.ask, XDSServer.set_resources = asked, handed  # type: ignore[method-assign]
    sys.addaudithook(effects.hear)


async def main(file: Path, following: Path, dies: int) -> None:
    """Never returns by itself."""
    effects = Effects(dies)
    watched(effects)

    def apply(layout: Layout) -> None:
        with contextlib.suppress(WatertightError):
            AdminClient(layout.run / ADMIN_SOCKET).post("/apply", {})
        print(effects.seen_from, effects.count, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def sealed(layout: Layout) -> None:
        file.write_bytes(following.read_bytes())
        effects.begin(layout.state, layout.run)
        threading.Thread(target=apply, args=(layout,), daemon=True).start()

    await serve(Options(file, lambda: load_file(file), lambda _words: None), sealed)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
