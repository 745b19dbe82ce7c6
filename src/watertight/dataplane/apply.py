"""Makes an Envoy plan so: every proxy has ACKed it, or the last good plan is back in force."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence

from watertight.dataplane.compile.door import door_name
from watertight.dataplane.compile.inbound import while_away
from watertight.dataplane.resources import EnvoyPlan, ProxyPlan, Resource, ResourceType
from watertight.dataplane.xds.server import XDSServer
from watertight.enforcers.contract import Applied
from watertight.errors import WatertightError

ACK_DEADLINE_SECONDS = 15.0
_OF_DOORS = {ResourceType.LISTENER, ResourceType.ROUTE, ResourceType.EXTENSION}


class Deployment:
    """The plan that is in force on a set of running proxies, and the ways to change it."""

    def __init__(self, xds: XDSServer) -> None:
        self._xds = xds
        self._in_force: dict[str, ProxyPlan] = {}
        self._set_now: dict[str, ProxyPlan] = {}
        """What each proxy was handed last, in force or not."""
        self._versions: dict[str, str] = {}
        self._cut: frozenset[str] = frozenset()
        self._paused: frozenset[str] = frozenset()

    def offer(self, plan: EnvoyPlan) -> tuple[str, ...]:
        """Hands each proxy its part of the plan; says which proxies have something new."""
        changed = self._changed(plan)
        self._set(plan, changed)
        return changed

    async def apply(self, plan: EnvoyPlan) -> Applied:
        """Returns when every proxy has ACKed its part.

        Raises what the first proxy to refuse said (``ResourceRefused``, at the line of the
        declaration), ``ProxySilent``, or ``Unencodable`` for what no proxy could have been sent,
        after the last good plan is back in force everywhere.
        """
        changed = self._changed(plan)
        try:
            self._set(plan, changed)
            await self._wait(changed)
        except BaseException:
            await self._roll_back(changed)
            raise
        self._in_force = dict(plan.proxies)
        new = {name: _version(plan.proxies[name]) for name in changed}
        self._versions = {name: new.get(name) or self._versions[name] for name in plan.proxies}
        return Applied(self.versions(), changed)

    async def cut(self, workload: str) -> None:
        """Closes the doors of a workload and those that await it, whatever plan is under way.

        No plan opens them again before :meth:`allow`. Returns when every proxy has ACKed that;
        raises as :meth:`apply` does, and they stay closed.
        """
        self._cut |= {workload}
        affected = [name for name, proxy in self._set_now.items() if self._closes(name, proxy)]
        await self._hand_again(affected)

    def allow(self, workload: str) -> None:
        """The next plan may open its doors again."""
        self._cut -= {workload}

    async def pause(self, workload: str) -> None:
        """Nothing new reaches its app, and callers' proxies are told that it has not seen it.

        Returns when its proxy has ACKed that; raises as :meth:`apply` does.
        """
        self._paused |= {workload}
        await self._hand_again([workload])

    async def resume(self, workload: str) -> None:
        """As it was before :meth:`pause`."""
        self._paused -= {workload}
        await self._hand_again([workload])

    async def _hand_again(self, workloads: Sequence[str]) -> None:
        known = [name for name in workloads if name in self._set_now]
        for name in known:
            self._hand(name, self._set_now[name])
        await self._wait(known)

    def _closes(self, name: str, proxy: ProxyPlan) -> bool:
        return len(self._open(name, proxy)) < len(proxy.resources)

    def _open(self, name: str, proxy: ProxyPlan) -> Sequence[Resource]:
        """Without the doors of those who are cut, and what a proxy asks for because of them."""
        doors = {door_name(workload) for workload in self._cut}
        return tuple(
            resource
            for resource in proxy.resources
            if resource.type not in _OF_DOORS
            or (name not in self._cut and resource.name not in doors)
        )

    def _hand(self, name: str, proxy: ProxyPlan) -> None:
        self._set_now[name] = proxy
        resources = self._open(name, proxy)
        if name in self._paused:
            resources = tuple(map(while_away, resources))
        self._xds.set_resources(name, resources)

    def _changed(self, plan: EnvoyPlan) -> tuple[str, ...]:
        return tuple(
            name for name, proxy in plan.proxies.items() if self._in_force.get(name) != proxy
        )

    def _set(self, plan: EnvoyPlan, workloads: Sequence[str]) -> None:
        for name in workloads:
            self._hand(name, plan.proxies[name])

    async def _wait(self, workloads: Sequence[str]) -> None:
        await asyncio.gather(
            *(
                self._xds.wait_in_force(name, deadline_seconds=ACK_DEADLINE_SECONDS)
                for name in workloads
            )
        )

    async def _roll_back(self, changed: Sequence[str]) -> None:
        known = [name for name in changed if name in self._in_force]
        for name in known:
            self._hand(name, self._in_force[name])
        with contextlib.suppress(WatertightError):  # what was refused is the news, not this
            await self._wait(known)

    def forget(self, workload: str) -> None:
        """A proxy that is gone has nothing in force."""
        self._in_force.pop(workload, None)
        self._set_now.pop(workload, None)
        self._versions.pop(workload, None)

    def versions(self) -> Mapping[str, str]:
        """The version of what is in force at each proxy, by workload."""
        return dict(self._versions)


def _version(proxy: ProxyPlan) -> str:
    """A content hash: the same plan has the same version, also after a restart."""
    resources = [[resource.type, resource.name, resource.body] for resource in proxy.resources]
    return hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:12]
