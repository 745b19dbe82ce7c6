"""Starts, watches, adopts and ends the pods of one system, from the control process.

Pods do not need it: each has an init that keeps its processes running. So a control process may
die at any moment; the next one adopts what runs, or sweeps it away.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence

from watertight.attack.arena import Listening
from watertight.errors import WatertightError
from watertight.identity.attestation import Process
from watertight.runtime.capabilities import Isolation
from watertight.runtime.lastwords import mark
from watertight.runtime.launch import (
    Nursery,
    launch,
    make_budgets,
    make_guest_budget,
    process_wire,
    remove_budgets,
    write_hosts,
)
from watertight.runtime.layout import Layout
from watertight.runtime.leftovers import end_marked
from watertight.runtime.listeners import listening_in
from watertight.runtime.pod_client import Pod, PodError
from watertight.runtime.pod_spec import APP, PROXY, SERVER, PodSpec
from watertight.runtime.proc import family
from watertight.runtime.runs import LINK
from watertight.runtime.settled import changed, comparable
from watertight.runtime.starting import USUAL, Patience, Start
from watertight.runtime.states import PodStatus, ProcessState

STOP_GRACE_SECONDS = 5.0
_KILL_SECONDS = 10.0


class NoSuchPodError(WatertightError):
    """A pod that does not run."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} does not run.", remedy="`watertight status` lists what does.")


class Supervisor:
    """One a system and control process. Not safe for two at once: hold the layout's lock."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._pods: dict[str, Pod] = {}
        self._specs: dict[str, PodSpec] = {}
        self._nursery = Nursery(layout.run)
        self._started: dict[tuple[str, str], Mapping[str, str]] = {}
        """What each start of ours settled, for inits that do not tell."""
        self._log_begins: dict[tuple[str, str], int] = {}
        """Where the log of each process was when it was started."""

    @property
    def pods(self) -> Mapping[str, Pod]:
        """What runs, by name."""
        return self._pods

    def lost(self) -> tuple[str, ...]:
        """Pods whose init has ended though nobody asked; all that was in them has ended too."""
        return tuple(name for name, pod in self._pods.items() if not pod.running())

    def prepare(self) -> None:
        """Pods will be started soon."""
        self._nursery.prepare()

    async def start_pod(self, spec: PodSpec) -> None:
        """Makes the pod, with nothing started in it; anew if it was lost. Raises PodError."""
        if spec.name in self.lost():
            self._let_go(spec.name)
            self._clear(spec.name)
        if spec.name in self._pods:
            raise PodError(f"The pod of {spec.name} runs already.")
        self._pods[spec.name] = await launch(spec, self.layout, self._nursery)
        self._specs[spec.name] = spec

    async def configure(self, spec: PodSpec) -> None:
        """Gives a running pod a new specification; a process takes it at its next start."""
        pod = self._pod(spec.name)
        wires = [process_wire(spec, p, self.layout) for p in spec.processes]
        await pod.ask("configure", processes=wires)
        self._specs[spec.name] = spec
        self.update_hosts(spec.name, spec.hosts)

    async def start_process(self, pod: str, process: str) -> None:
        """Starts it and returns once its program runs. Raises :class:`PodError` if it cannot."""
        make_budgets(self._spec(pod), self.layout)  # as they may have changed since
        self._log_begins[pod, process] = mark(self.layout.log(pod, process))
        await self._pod(pod).ask("start", process=process)
        self._started[pod, process] = self._spec(pod).process(process).settled

    async def stop_process(
        self, pod: str, process: str, *, grace_seconds: float = STOP_GRACE_SECONDS
    ) -> None:
        """TERM, then KILL after the grace; returns when it has ended."""
        await self._pod(pod).ask("stop", process=process, grace_seconds=grace_seconds)

    async def restart_process(self, pod: str, process: str) -> None:
        """Stops it and starts it."""
        await self.stop_process(pod, process)
        await self.start_process(pod, process)

    async def outlived(self, pod: str, process: str) -> tuple[str, ...]:
        """The parts of what a start settles in which what runs is not what is specified.

        () also if it shall not run. See :mod:`watertight.runtime.settled`.
        """
        wanted = self._spec(pod).process(process).settled
        for found in (await self._status(pod)).processes:
            if found.name == process and found.state != "stopped":
                ran = found.settled
                if not comparable(ran, wanted):
                    ran = self._started.get((pod, process), {})
                return changed(ran, wanted)
        return ()

    async def signal_process(self, pod: str, process: str, number: signal.Signals) -> None:
        """Sends it a signal; SIGKILL ends it and all that it started."""
        await self._pod(pod).ask("signal", process=process, signal=int(number))

    async def wait_ready(
        self, pod: str, process: str, *, deadline_seconds: float, patience: Patience = USUAL
    ) -> None:
        """Returns once the process is ready as its specification says.

        Raises :class:`NotReadyError`, which says what was seen last, as soon as it is clear.
        """
        running, begins = self._pod(pod), self._log_begins.get((pod, process), 0)
        spec = self._spec(pod).process(process)
        start = Start(running, spec, self.layout, lambda: self._status(pod), begins)
        await start.until_ready(deadline_seconds, patience)

    async def stop_pod(self, name: str, *, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """Ends the pod and all in it: TERM, KILL after the grace, and the init in any case."""
        pod = self._pod(name)
        with contextlib.suppress(PodError):
            await pod.ask("shutdown", grace_seconds=grace_seconds)
        if not await pod.gone(grace_seconds + _KILL_SECONDS):
            pod.kill()
            await pod.gone(_KILL_SECONDS)
        self._let_go(name)
        self._clear(name)

    async def stop_all(self, *, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """Ends every pod, all at once."""
        async with asyncio.TaskGroup() as group:
            for name in list(self._pods):
                group.create_task(self.stop_pod(name, grace_seconds=grace_seconds))
        self._nursery.close()

    async def adopt(self, specs: Mapping[str, PodSpec]) -> Sequence[str]:
        """Takes over the pods of ``specs`` that a dead control process left running."""
        adopted = []
        for name, spec in specs.items():
            if name in self._pods:
                continue
            pod = Pod.recorded(name, self.layout.pod(name))
            if pod is None:
                continue
            try:
                await pod.ask("status")
            except PodError:
                pod.forget()
                continue
            self._pods[name], self._specs[name] = pod, spec
            self._started |= {(name, process.name): process.settled for process in spec.processes}
            adopted.append(name)
        return adopted

    async def end_halves(self, *, grace_seconds: float) -> Sequence[str]:
        """Ends what was taken over on its way up or down; returns the names.

        That is a pod whose proxy was never started, or in which something is being ended.
        """
        found = []
        for pod in await self.status():
            states = {process.name: process.state for process in pod.processes}
            if states.get(PROXY) == "stopped" or "stopping" in states.values():
                found.append(pod.name)
        for name in found:
            await self.stop_pod(name, grace_seconds=grace_seconds)
        return found

    async def adopt_all(self) -> Sequence[str]:
        """Takes over every pod that answers, only to end it: how it was started is not known."""
        for directory in sorted(self.layout.pods.iterdir()):
            pod = Pod.recorded(directory.name, directory)
            if pod is None:
                continue
            try:
                await pod.ask("status")
            except PodError:
                pod.forget()
                continue
            self._pods[directory.name] = pod
        return tuple(self._pods)

    async def sweep(self) -> Sequence[str]:
        """Ends the pods that were left and not adopted, and removes what they left."""
        swept = []
        for directory in sorted(self.layout.pods.iterdir()):
            name = directory.name
            if name in self._pods:
                continue
            pod = Pod.recorded(name, directory)
            if pod is not None:
                pod.kill()
                await pod.gone(_KILL_SECONDS)
                pod.forget()
                swept.append(name)
            self._clear(name)
        return swept

    def leave(self) -> None:
        """Lets everything run on, for another control process to adopt."""
        for name in list(self._pods):
            self._pods.pop(name).forget()
        self._nursery.close()

    def remove_run_directory(self) -> None:
        """Removes the run directory, once nothing runs."""
        if self._pods:
            raise PodError(f"{', '.join(sorted(self._pods))} still run.")
        self.layout.cgroups.remove_all()
        shutil.rmtree(self.layout.run)
        (self.layout.state / LINK).unlink(missing_ok=True)

    async def status(self) -> tuple[PodStatus, ...]:
        """What every pod says of its processes."""
        return tuple([await self._status(name) for name in sorted(self._pods)])

    async def listening(self) -> list[Listening]:
        """Every socket that a process of any pod listens on now; see :mod:`.listeners`."""
        statuses = await self.status()

        def look() -> list[Listening]:
            children = family()
            return [found for status in statuses for found in listening_in(status, children)]

        return await asyncio.to_thread(look)

    async def run_inside(
        self, service: str, argv: Sequence[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Runs a program in the pod, with the rights and the view of its app or its server.

        The streams are its stdout and stdin; closing them does not end it, its reading EOF does.
        """
        pod = self._pod(service)
        names = {process.name for process in (await self._status(service)).processes}
        process = SERVER if SERVER in names else APP
        # Who has only adopted the pod, to prove it, does not know how a server in it is started.
        known = {spec.name: spec.limits for spec in self._spec(service).processes}
        limits = known.get(process)
        groups = make_guest_budget(service, limits, self.layout)
        return await pod.execute(process, list(argv), groups)

    async def packet_socket(self, service: str) -> socket.socket | None:
        """An unbound packet socket where the service's app listens; None where none can be had."""
        try:
            if not self.layout.capabilities.shared_network:
                return await self._pod(service).packet_socket()
            return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except (PermissionError, NoSuchPodError, PodError):
            return None

    def workload_process(self, service: str) -> tuple[Process, frozenset[int]]:
        """For attestation: the root of the service's process tree, and the uids of its app."""
        pod = self._pod(service)
        owner = self.layout.owner_of_app(service)
        uid = owner[0] if owner else os.geteuid()
        return Process(pod.pid, pod.start_time), frozenset({uid})

    def update_hosts(self, pod: str, hosts: Mapping[str, str]) -> None:
        """Changes the names that resolve inside a pod, at once."""
        write_hosts(self.layout.pod(pod) / "hosts", hosts)

    async def _status(self, name: str) -> PodStatus:
        pod = self._pods[name]
        try:
            answer = await pod.ask("status")
        except PodError:
            return PodStatus(name, pod.pid, ())
        processes = tuple(
            ProcessState(
                p["name"],
                p["pid"],
                p["state"],
                p["restarts"],
                p["up_seconds"],
                p["last_exit"],
                tuple(p.get("outdated", ())),  # an init of an earlier version does not say it
                p.get("settled", {}),  # … nor this
            )
            for p in answer["processes"]
        )
        return PodStatus(name, pod.pid, processes)

    def _pod(self, name: str) -> Pod:
        try:
            return self._pods[name]
        except KeyError:
            raise NoSuchPodError(name) from None

    def _spec(self, name: str) -> PodSpec:
        self._pod(name)
        return self._specs[name]

    def _let_go(self, name: str) -> None:
        self._pods.pop(name).forget()

    def _clear(self, name: str) -> None:
        """Removes what a pod that has ended left in the run directory."""
        if self.layout.capabilities.isolation is Isolation.NONE:
            end_marked(self.layout.pod(name))
        remove_budgets(name, self.layout)
        for file in ("pod.json", "pod.sock", "spec.json"):
            (self.layout.pod(name) / file).unlink(missing_ok=True)
        placement = self.layout.placement
        for directory in (placement.door_directory(name), placement.proxy_directory(name)):
            for door in directory.glob("*.sock"):
                door.unlink(missing_ok=True)
