"""One server's place on this host, as its enforcer may use it."""

import asyncio
import signal
import socket
from collections.abc import Mapping, Sequence

from watertight.enforcers.resource import Completed, ServerPlan, ServerProcess
from watertight.errors import WatertightError
from watertight.model.placement import Placement
from watertight.runtime.files import hold_exactly
from watertight.runtime.layout import Layout, operator_user, server_user
from watertight.runtime.pod_client import PodError
from watertight.runtime.pod_spec import SERVER
from watertight.runtime.supervisor import Supervisor
from watertight.runtime.taken import LOOPBACK, obstacle

_LOG_BYTES = 4_000
_STOP_GRACE_SECONDS = 20.0
"""A database writes down what it holds in memory."""
_WITH_STATUS = '"$@" 2>&1; printf "\\n%d" "$?"'
"""The streams of a program inside a pod tell its output, not how it ended."""


class PodHost:
    """Implements ``enforcers.resource.ServerHost`` with the server's pod."""

    def __init__(
        self,
        supervisor: Supervisor,
        layout: Layout,
        plan: ServerPlan,
        process: ServerProcess,
        *,
        anew: bool = False,
    ) -> None:
        self.resource = plan.resource
        self.placement: Placement = layout.placement
        self.user = server_user(layout)
        self.operator = operator_user(layout)
        self.process = process
        self.anew = anew
        self._port, self._at = plan.port, plan.at
        self._supervisor = supervisor
        self._layout = layout

    async def write(self, files: Mapping[str, str]) -> tuple[str, ...]:
        """See ``ServerHost``."""
        directory = self.placement.server_directory(self.resource)
        return await asyncio.to_thread(hold_exactly, directory, files)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> Completed:
        """See ``ServerHost``. Raises PodError, also if it takes longer; it is ended then."""
        more = [f"{key}={value}" for key, value in (environment or {}).items()]
        command = ["/bin/sh", "-c", _WITH_STATUS, "sh", "/usr/bin/env", *more, *argv]
        reader, writer = await self._supervisor.run_inside(self.resource, command)
        try:
            async with asyncio.timeout(timeout_seconds):
                writer.write(stdin)
                writer.write_eof()
                said = (await reader.read()).decode(errors="replace")
        except TimeoutError as error:
            raise PodError(
                f"{self.resource}: {argv[0]} does not end within {timeout_seconds:g} s.",
                remedy=f"Read {self._layout.log(self.resource, SERVER)}.",
            ) from error
        finally:
            writer.close()
        output, _, status = said.rpartition("\n")
        return Completed(int(status) if status.isdigit() else 127, output)

    async def running(self) -> bool:
        """See ``ServerHost``."""
        for pod in await self._supervisor.status():
            if pod.name == self.resource:
                return any(p.name == SERVER and p.state == "running" for p in pod.processes)
        return False

    async def outlived(self) -> bool:
        """Whether it runs, and otherwise than it would be started now."""
        return bool(await self._supervisor.outlived(self.resource, SERVER))

    async def start(self) -> None:
        """See ``ServerHost``."""
        if self._layout.capabilities.shared_network:
            self._refuse_a_taken_port()
        await self._supervisor.start_process(self.resource, SERVER)
        await self._supervisor.wait_ready(
            self.resource, SERVER, deadline_seconds=self.process.start_seconds
        )

    def _refuse_a_taken_port(self) -> None:
        """The server would say so too, after as long as it may take to start."""
        found = obstacle(LOOPBACK, self._port)
        if found is not None:
            raise WatertightError(
                f"{self._at}: The port {self._port} of {self.resource} {found.why}. Services and "
                "servers share this host's loopback.",
                remedy=found.remedy,
            )

    async def stop(self) -> None:
        """See ``ServerHost``."""
        await self._supervisor.stop_process(
            self.resource, SERVER, grace_seconds=_STOP_GRACE_SECONDS
        )

    async def signal(self, number: signal.Signals) -> None:
        """See ``ServerHost``."""
        await self._supervisor.signal_process(self.resource, SERVER, number)

    async def connect(self, port: int) -> socket.socket:
        """See ``ServerHost``."""
        pod = self._supervisor.pods.get(self.resource)
        if pod is None:
            raise ConnectionRefusedError(f"{self.resource} does not run")
        made = await pod.tcp_socket()
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        except BaseException:
            made.close()
            raise
        return made

    def log(self) -> str:
        """See ``ServerHost``."""
        try:
            with self._layout.log(self.resource, SERVER).open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - _LOG_BYTES))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-20:])
        except OSError:
            return ""
