"""Makes an Envoy plan so: every proxy has ACKed it, or the last good plan is back in force."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence

from watertight.enforcers.contract import Applied
from watertight.enforcers.envoy.resources import EnvoyPlan, ProxyPlan
from watertight.enforcers.envoy.xds.server import XDSServer
from watertight.errors import WatertightError

ACK_DEADLINE_SECONDS = 15.0


class Deployment:
    """The plan that is in force on a set of running proxies, and the ways to change it."""

    def __init__(self, xds: XDSServer) -> None:
        self._xds = xds
        self._in_force: dict[str, ProxyPlan] = {}
        self._versions: dict[str, str] = {}

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

    def _changed(self, plan: EnvoyPlan) -> tuple[str, ...]:
        return tuple(
            name for name, proxy in plan.proxies.items() if self._in_force.get(name) != proxy
        )

    def _set(self, plan: EnvoyPlan, workloads: Sequence[str]) -> None:
        for name in workloads:
            self._xds.set_resources(name, plan.proxies[name].resources)

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
            self._xds.set_resources(name, self._in_force[name].resources)
        with contextlib.suppress(WatertightError):  # what was refused is the news, not this
            await self._wait(known)

    def forget(self, workload: str) -> None:
        """A proxy that is gone has nothing in force."""
        self._in_force.pop(workload, None)
        self._versions.pop(workload, None)

    def versions(self) -> Mapping[str, str]:
        """The version of what is in force at each proxy, by workload."""
        return dict(self._versions)


def _version(proxy: ProxyPlan) -> str:
    """A content hash: the same plan has the same version, also after a restart."""
    resources = [[resource.type, resource.name, resource.body] for resource in proxy.resources]
    return hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:12]
