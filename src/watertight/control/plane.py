"""The control plane of one running system: makes what runs equal to what is declared.

It may die at any moment: proxies, apps and what is enforced go on without it, and the next one
takes them over. The order of :meth:`ControlPlane.apply` is the main flow of the product: everything
that can be refused by looking is refused before anything is touched.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from watertight.control import modes
from watertight.control.apps import Apps, all_at_once
from watertight.control.certificates import GatewayCertificate
from watertight.control.changing import Changing
from watertight.control.ending import SERVER_STOP_SECONDS, stop_in_order
from watertight.control.going_back import gone_back, not_even_back
from watertight.control.issuers import left_out, require_keys, withdrawals
from watertight.control.pausing import paused
from watertight.control.secrets import SecretsPump
from watertight.control.servers import Servers, ServersWanted, want
from watertight.dataplane.apply import ACK_DEADLINE_SECONDS, Deployment
from watertight.dataplane.compile import compile_envoy
from watertight.dataplane.resources import EnvoyPlan
from watertight.dataplane.xds import XDSServer
from watertight.enforcers.contract import Applied
from watertight.errors import ExitCode, WatertightError
from watertight.gateway import fetching
from watertight.identity.attestation import ProcessTreeAttestor
from watertight.identity.keeper import SVIDKeeper, Workload
from watertight.identity.profiles import Role
from watertight.identity.workload_api.endpoint import IdentityEndpoint
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, System
from watertight.model.units import counted
from watertight.runtime.files import write_atomically
from watertight.runtime.layout import Layout, look, prepare
from watertight.runtime.pod_spec import PROXY, PodSpec
from watertight.runtime.pods import Machine, pod_specs
from watertight.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

PROXY_READY_SECONDS = 30.0
STARTS_AT_ONCE = 8
"""Pods that start at the same time: more would only make each slower."""
WORKLOAD_API_MODE = 0o666
"""Anyone who sees the socket may knock; attestation decides. Only the service's app sees it."""


class NoSuchWorkload(WatertightError):
    """A name that the declaration in force does not have."""

    exit_code = ExitCode.MISUSE


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Everything that follows from a declaration, before anything is touched."""

    declared: System
    effective: System
    """Without the channels of revoked identities."""
    layout: Layout
    specs: Mapping[str, PodSpec]
    plan: EnvoyPlan
    servers: ServersWanted
    key_sets: fetching.KeySets
    certificate: GatewayCertificate | None
    anew: bool
    """See ``ServerHost``."""


class ControlPlane:
    """Lives in one event loop. Changes are made one at a time."""

    def __init__(
        self,
        layout: Layout,
        keeper: SVIDKeeper,
        machine: Machine,
        *,
        svid_ttl_seconds: int,
        say: Callable[[str], None],
    ) -> None:
        self.layout = layout
        self.keeper = keeper
        self.xds = XDSServer()
        self.deployment = Deployment(self.xds)
        self.supervisor = Supervisor(layout)
        self.secrets = SecretsPump(keeper, self.xds)
        self.servers = Servers(self.supervisor, keeper)
        self.attestor = ProcessTreeAttestor()
        self.endpoint = IdentityEndpoint(keeper, self.attestor, layout.run / "identities")
        self.declared = System(keeper.trust_domain)
        self.effective = self.declared
        self.adopted: tuple[str, ...] = ()
        self.changing = Changing()
        self.server_changes: dict[str, int] = {}
        """By resource: how much the last apply has changed at its server, if anything."""
        self._machine = machine
        self._svid_ttl_seconds = svid_ttl_seconds
        self.say = say
        self._specs: dict[str, PodSpec] = {}
        self._configured: set[str] = set()
        """Whose xDS socket we serve; it outlives the pod, so that a lost one comes back to it."""
        self.key_sets = fetching.NONE
        self._half_done = False
        """Whether what runs may be something else than what is in force: a change was not ended."""
        self._last: _Wanted | None = None
        """What is in force, if we put it there; not what was taken over."""
        self._compiled = EnvoyPlan({})
        """The newest plan, in force or not: the next one takes from it what is the same."""

    @property
    def placement(self) -> Placement:
        """Where things lie, as the compilers need to know it."""
        return self._placement(self.layout)

    def _placement(self, layout: Layout) -> Placement:
        return replace(layout.placement, svid_ttl_seconds=self._svid_ttl_seconds)

    @property
    def revoked(self) -> frozenset[str]:
        """The names of the workloads that are distrusted."""
        return frozenset(spiffe_id.name for spiffe_id in self.keeper.authority.revoked)

    def apps(self) -> Apps:
        """The programs of what runs."""
        return Apps(
            self.supervisor, self.say, lambda name: paused(self.deployment, self.placement, name)
        )

    def require(self, workload: str) -> None:
        """Raises :class:`NoSuchWorkload` unless it is a workload of what is in force."""
        names = self.declared.workloads()
        if workload not in names:
            raise NoSuchWorkload(
                f"There is no workload `{workload}` in the system.",
                remedy=f"There are: {', '.join(names)}.",
            )

    async def adopt(self, previous: System) -> tuple[str, ...]:
        """Takes over what a control plane that died left running; sweeps away the rest.

        ``previous`` is the system that it had in force; maybe it died while it put another in its
        place, so that some of what runs is of that one.
        """
        effective = previous.without_identities(self.revoked)
        in_pods = want(effective, self.placement).in_pods
        specs = pod_specs(previous, self.layout, self._machine, in_pods)
        adopted = await self.supervisor.adopt(specs)
        halves = await self.supervisor.end_halves(grace_seconds=SERVER_STOP_SECONDS)
        self.adopted = tuple(name for name in adopted if name not in halves)
        await self.supervisor.sweep()
        self._specs = {name: specs[name] for name in self.adopted}
        if self.adopted:
            self._half_done = True
            # What ends by itself starts again as what is in force.
            await all_at_once(self.supervisor.configure(spec) for spec in self._specs.values())
            self.declared, self.effective = previous, effective
            self.key_sets = fetching.unknown(previous)
        for name in self.adopted:
            await self._listen_for(name)
        return self.adopted

    async def apply(self, declared: System, *, anew: bool = True) -> Applied:
        """Makes ``declared`` so; returns when every proxy has ACKed and every app is ready.

        ``anew``: see ``ServerHost``. Raises WatertightError. If the declaration cannot be compiled,
        a proxy refuses it or a program does not come up in it, what was in force before is in force
        again: also where a control process has died that was putting something else in its place.
        """
        await asyncio.to_thread(modes.mend, self.layout)
        async with self.changing.by("apply"):
            self.server_changes.clear()
            before = self.declared if self._specs and declared != self.declared else None
            try:
                wanted = await self._examine(declared, anew=anew)
            except WatertightError:
                if before is not None and self._half_done:
                    await self._take_up_again(before)
                raise
            try:
                return await self._change_to(wanted)
            except WatertightError as error:
                if before is None or (self.declared == before and not self._half_done):
                    raise
                raise await self._gone_back(before, declared, error) from error

    async def _change_to(self, wanted: _Wanted) -> Applied:
        """Puts it in force, waits for its programs, and ends what is not in it."""
        applied, apps = await self._put_in_force(wanted)
        self.declared, self.effective = wanted.declared, wanted.effective
        self._last = replace(wanted, anew=False)
        self._half_done = True
        await apps
        await self._dismiss([name for name in self._specs if name not in wanted.specs])
        self._half_done = False
        return applied

    async def _take_up_again(self, before: System) -> None:
        """Ends what a control process that died had begun, for nothing comes in its place."""
        try:
            await self._change_to(await self._examine(before, anew=False))
        except WatertightError as error:
            self.say(f"What was in force before is so again only in part: {error}")

    async def _gone_back(
        self, before: System, refused: System, failure: WatertightError
    ) -> WatertightError:
        """Puts ``before`` in force again, with its programs; returns what to tell a person."""
        self.say("That failed; going back to the declaration before.")
        try:
            await self._change_to(await self._examine(before, anew=False))
        except WatertightError as again:
            return not_even_back(failure, again)
        return gone_back(failure, before, refused)

    async def mend(self) -> tuple[str, ...]:
        """Makes anew the pods that are gone though nobody asked; returns their names."""
        gone = {name for name in self.declared.workloads() if name not in self._specs}
        gone |= set(self.supervisor.lost())
        if gone:
            await self.apply(self.declared, anew=False)
        return tuple(sorted(gone))

    async def enforce(self) -> Applied:
        """Compiles what is declared again and applies it: after a revocation, or with new keys.

        Call it with ``changing`` held. It does no I/O but to the proxies.
        """
        effective = self.declared.without_identities(self.revoked)
        plan = self._compiled = compile_envoy(
            effective, self.placement, self.key_sets.keys, before=self._compiled
        )
        applied = await self.deployment.apply(plan)
        self.effective = effective
        if self._last is not None:
            self._last = replace(self._last, effective=effective, plan=plan)
        return applied

    async def enforce_at_servers(self) -> None:
        """The same at databases and brokers, which takes longer. Call with ``changing`` held."""
        servers = want(self.effective, self.placement)
        await self.servers.apply(servers)
        if self._last is not None:
            self._last = replace(self._last, servers=servers)

    async def drift_of_servers(self) -> Mapping[str, tuple[str, ...]]:
        """What differs at each server from what is declared and not revoked."""
        return await self.servers.drift(want(self.effective, self.placement).servers)

    async def refresh_keys(self) -> None:
        """Fetches the issuers' key sets again; a withdrawn key stops being accepted at once."""
        declared = self.declared
        fetched = await self._fetch_keys(declared)
        async with self.changing.by("new keys of an issuer"):
            if self.declared is not declared:
                return  # whoever changed it has fetched them, too
            changed = fetched.keys != self.key_sets.keys
            self.key_sets = fetched
            if changed:
                await self.enforce()

    async def _fetch_keys(self, declared: System) -> fetching.KeySets:
        """Every issuer's key set, the last good one for a day where it cannot be had now."""
        fetched = await fetching.fetch_all(declared, self.layout.project, self.key_sets)
        for refusal in fetched.refusals.values():
            log.warning("key_set_refused", reason=str(refusal))
        said = set(left_out(self.key_sets))
        for line in left_out(fetched):
            if line not in said:
                self.say(line)
        for line in withdrawals(self.key_sets, fetched):
            log.error("issuer_keys_changed", reason=line)
            self.say(line)
        return fetched

    async def secrets_in_force(self) -> None:
        """Returns once every proxy has ACKed the identities and roots that are current."""
        self.secrets.push()
        await asyncio.gather(
            *(
                self.xds.wait_in_force(name, deadline_seconds=ACK_DEADLINE_SECONDS)
                for name in self.secrets.workloads
            )
        )
        await self.servers.settle()

    async def stop(self) -> None:
        """Ends everything, callers before their callees; nothing is left running."""
        await stop_in_order(self.supervisor, self.declared)
        await self.close()
        self.supervisor.remove_run_directory()

    async def close(self) -> None:
        """Closes our own sockets, and nothing else."""
        await self.endpoint.close()
        await self.xds.stop()

    # The steps of apply

    async def _examine(self, declared: System, *, anew: bool) -> _Wanted:
        """Finds out by looking whether it can be done. Nothing that runs is touched."""
        if not self._specs:
            self.supervisor.prepare()
        key_sets = await self._fetch_keys(declared)
        require_keys(declared, key_sets)
        layout = look(self.layout.declaration, declared, self.layout.capabilities)
        placement = self._placement(layout)
        effective = declared.without_identities(self.revoked)
        servers = want(effective, placement)
        self._compiled = compile_envoy(effective, placement, key_sets.keys, before=self._compiled)
        return _Wanted(
            declared,
            effective,
            layout,
            pod_specs(declared, layout, self._machine, servers.in_pods),
            self._compiled,
            servers,
            key_sets,
            GatewayCertificate.declared(declared.gateway, layout.project),
            anew,
        )

    async def _put_in_force(self, wanted: _Wanted) -> tuple[Applied, asyncio.Future[None]]:
        """Starts what is new and applies the plan; if that fails, all is as it was.

        The apps may still be starting then: whether they do is no matter of what is in force.
        """
        prepare(wanted.layout, wanted.declared)
        self.layout = self.supervisor.layout = wanted.layout
        lost = self.supervisor.lost()
        added = [name for name in wanted.specs if name not in self._specs or name in lost]
        certificate, self.secrets.certificate = self.secrets.certificate, wanted.certificate
        await self._admit(wanted.declared)
        try:
            applied, apps = await self._converge(added, wanted)
        except BaseException:
            await self._take_back(added, certificate)
            raise
        self.key_sets = wanted.key_sets
        return applied, apps

    async def _converge(
        self, added: list[str], wanted: _Wanted
    ) -> tuple[Applied, asyncio.Future[None]]:
        """Proxies come before servers, for what they refuse no server may grant, and servers
        before apps. Where nothing runs yet, all start side by side and wait for what they use."""
        ready = {name: asyncio.Event() for name in wanted.servers.servers}
        started: list[tuple[Applied, asyncio.Future[None]]] = []
        alone = len(added) == len(wanted.specs)

        async def channels_and_apps() -> None:
            await self._start_proxies(added, wanted.specs, wanted.plan)
            applied = await self.deployment.apply(wanted.plan)
            if not alone:
                await self._converge_servers(wanted, ready)
            apps = self._converge_apps(wanted, ready)
            started.append((applied, asyncio.ensure_future(apps)))

        try:
            if alone:
                servers = [wanted.specs[name] for name in wanted.servers.servers]
                await all_at_once(self._start_pod(spec) for spec in servers)
                await all_at_once((channels_and_apps(), self._converge_servers(wanted, ready)))
            else:
                await channels_and_apps()
        except BaseException:
            for _, apps in started:
                apps.cancel()
                await asyncio.gather(apps, return_exceptions=True)
            raise
        return started[0]

    async def _converge_apps(self, wanted: _Wanted, ready: Mapping[str, asyncio.Event]) -> None:
        await self._configure(wanted.specs)
        await self.apps().converge(wanted.declared, ready)

    async def _start_pod(self, spec: PodSpec) -> None:
        await self.supervisor.start_pod(spec)
        self._specs[spec.name] = spec

    async def _converge_servers(self, wanted: _Wanted, ready: Mapping[str, asyncio.Event]) -> None:
        """Databases and brokers come before whoever uses them."""
        for name in wanted.servers.servers:
            if (spec := wanted.specs[name]) != self._specs[name]:
                await self.supervisor.configure(spec)
                self._specs[name] = spec

        def tell(name: str, its: Applied) -> None:
            if its.changed:
                self.server_changes[name] = len(its.changed)
                self.say(f"{name} is ready: {counted(len(its.changed), 'change')}.")
            ready[name].set()

        await self.servers.apply(wanted.servers, tell, anew=wanted.anew)
        for waited_for in ready.values():  # also for what is revoked, which nobody reaches
            waited_for.set()

    async def _take_back(self, added: list[str], certificate: GatewayCertificate | None) -> None:
        """What was in force before is again, as far as it can be."""
        await self._dismiss(added)
        self.secrets.certificate = certificate
        await self._admit(self.declared)
        if (last := self._last) is not None:
            with contextlib.suppress(WatertightError):  # what was refused is the news, not this
                await self.deployment.apply(last.plan)
                ready = {name: asyncio.Event() for name in last.servers.servers}
                await self._converge_servers(last, ready)

    async def _admit(self, declared: System) -> None:
        """Gives every declared workload an identity; withdraws those of others."""
        self.keeper.set_workloads(_workloads(declared))
        await self.keeper.refresh()
        self.secrets.workloads = declared.callers()
        self.secrets.push()

    async def _start_proxies(
        self, names: list[str], specs: Mapping[str, PodSpec], plan: EnvoyPlan
    ) -> None:
        gate = asyncio.Semaphore(STARTS_AT_ONCE)

        async def start(name: str) -> None:
            async with gate:
                if name not in self.supervisor.pods or name in self.supervisor.lost():
                    await self._start_pod(specs[name])
                await self._listen_for(name)
                self._write_bootstrap(name, plan.proxies[name].bootstrap)
                await self.supervisor.start_process(name, PROXY)
                await self.supervisor.wait_ready(name, PROXY, deadline_seconds=PROXY_READY_SECONDS)

        self.deployment.offer(EnvoyPlan({name: plan.proxies[name] for name in names}))
        await all_at_once(start(name) for name in names)
        if names:
            self.say(f"{counted(len(names), 'proxy', 'proxies')} ready.")

    async def _listen_for(self, name: str) -> None:
        """The proxy's xDS socket, and the Workload API of the service."""
        placement = self.placement
        if name not in self._configured:
            await self.xds.listen(
                name, placement.xds_socket(name), owner=self.layout.owner_of_proxy(name)
            )
            self._configured.add(name)
        if not placement.workload_api_socket(name).parent.is_dir():
            return  # only services have one
        root, uids = self.supervisor.workload_process(name)
        self.attestor.admit(name, root, uids)
        await self.endpoint.open(placement.workload_api_socket(name), mode=WORKLOAD_API_MODE)

    def _write_bootstrap(self, name: str, bootstrap: Mapping[str, object]) -> None:
        """Holds no secret; the proxy must be able to read it."""
        write_atomically(self.layout.bootstrap(name), json.dumps(bootstrap).encode(), 0o644)

    async def _configure(self, specs: Mapping[str, PodSpec]) -> None:
        """Tells running pods what they are now; a process takes it at its next start."""

        async def configure(name: str) -> None:
            await self.supervisor.configure(specs[name])
            self._specs[name] = specs[name]

        changed = [name for name in specs if specs[name] != self._specs[name]]
        await all_at_once(configure(name) for name in changed)

    async def _dismiss(self, names: list[str]) -> None:
        """Stops pods and forgets their sockets."""
        for name in names:
            if name in self.supervisor.pods:
                await self.supervisor.stop_pod(name)
            self.attestor.withdraw(name)
            await self.endpoint.shut(self.placement.workload_api_socket(name))
            await self.xds.stop_listening(name)
            self._configured.discard(name)
            self.deployment.forget(name)
            self._specs.pop(name, None)


def _workloads(system: System) -> list[Workload]:
    """Who gets an SVID; the gateway's also names the host that clients outside ask for."""
    workloads = [Workload(name) for name in system.services]
    workloads += [
        Workload(name, role=Role.SERVERS)
        for name, resource in system.resources.items()
        if not resource.external
    ]
    if system.gateway is not None:
        workloads.append(Workload(GATEWAY, (GATEWAY, system.gateway.hostname)))
    return workloads
