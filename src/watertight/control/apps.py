"""Starts the programs of services, each once what it calls is ready, and waits for all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

from watertight.control.order import Starting, callees
from watertight.errors import WatertightError
from watertight.model.system import Service, System
from watertight.runtime.pod_spec import APP
from watertight.runtime.starting import Patience
from watertight.runtime.supervisor import Supervisor
from watertight.runtime.taken import LOOPBACK, obstacle

READY_SECONDS = 60.0
STEADY_SECONDS = 0.5
"""A program that listens nowhere counts as running once it has run for so long."""


class Apps:
    """The programs of one system's services; their pods run, and know how to start them."""

    def __init__(
        self,
        supervisor: Supervisor,
        say: Callable[[str], None],
        paused: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> None:
        """``paused``: keeps new requests from a service's program that is about to end."""
        self._supervisor = supervisor
        self._say = say
        self._paused = paused

    async def converge(self, declared: System, servers: Mapping[str, asyncio.Event]) -> None:
        """Starts what does not run, and anew what would be started otherwise than it was.

        ``servers``: those that may be starting, by resource, each with what says that it is ready.
        Raises WatertightError, at the line of the first service that does not come up.
        """
        running = {
            (pod.name, process.name)
            for pod in await self._supervisor.status()
            for process in pod.processes
            if process.state != "stopped"
        }
        starting = Starting(declared)
        callers: list[Service] = []
        ready = {name: asyncio.Event() for name in declared.services}
        before_it = callees(declared)

        async def converge(service: Service) -> None:
            if not service.run:
                return
            if (service.name, APP) not in running:
                self._refuse_a_taken_port(service)
                await _at(service, self._supervisor.start_process(service.name, APP))
            elif await self._supervisor.outlived(service.name, APP):
                await self._start_again(service)
            else:
                return
            if service.listens is None:  # nobody waits for it: it is looked at below
                callers.append(service)
                return
            with starting.waits(service.name):
                await self._wait(service, starting)
            self._say(f"{service.name} is ready.")

        async def converge_in_turn(service: Service) -> None:
            for callee in before_it[service.name]:
                await ready[callee].wait()
            for channel in declared.outgoing(service.name):
                if channel.target in servers:
                    await servers[channel.target].wait()
            await converge(service)
            ready[service.name].set()

        await all_at_once(converge_in_turn(service) for service in declared.services.values())
        await all_at_once(self._wait(service, starting) for service in callers)
        for service in callers:
            self._say(f"{service.name} runs.")

    async def restart(self, declared: System, service: Service) -> None:
        """Ends one program and starts it. Raises WatertightError, at its line."""
        await self._start_again(service)
        await self._wait(service, Starting(declared))

    async def _start_again(self, service: Service) -> None:
        async with self._paused(service.name):
            await _at(service, self._supervisor.restart_process(service.name, APP))

    def _refuse_a_taken_port(self, service: Service) -> None:
        """On a shared loopback; the program itself would say so in words of its own, or hang."""
        if service.listens is None or not self._supervisor.layout.capabilities.shared_network:
            return
        port = service.listens.port
        if (found := obstacle(LOOPBACK, port)) is not None:
            raise WatertightError(
                f"{service.at}: The port {port} of {service.name} {found.why}. Without network "
                "namespaces, all services share this host's loopback.",
                remedy=found.remedy,
            )

    async def _wait(self, service: Service, starting: Starting) -> None:
        patience = Patience(
            steady_seconds=STEADY_SECONDS,
            private_ports=service.private_ports,
            tell=self._say,
            excused=lambda ended: starting.excuses(service.name, ended),
        )
        ready = self._supervisor.wait_ready(
            service.name, APP, deadline_seconds=READY_SECONDS, patience=patience
        )
        await _at(service, ready)


async def _at(service: Service, step: Awaitable[None]) -> None:
    """A step, whose failure names the line of the service."""
    try:
        await step
    except WatertightError as error:
        raise WatertightError(f"{service.at}: {error.message}", remedy=error.remedy) from error


async def all_at_once(steps: Iterable[Coroutine[None, None, None]]) -> None:
    """The first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
