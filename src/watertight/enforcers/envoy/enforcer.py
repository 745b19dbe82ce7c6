"""Envoy as an enforcer: compile, apply and attack, in the shape that every enforcer has."""

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from watertight.enforcers.contract import Applied, Capability, Deep, Gap, Placement, Probe
from watertight.model.system import System

if TYPE_CHECKING:
    from watertight.enforcers.envoy.apply import Deployment
    from watertight.enforcers.envoy.resources import EnvoyPlan


class EnvoyEnforcer:
    """Enforces every channel between services, and the gateway's routes."""

    kind = "envoy"
    capability = Capability()
    resources: frozenset[str] = frozenset()
    """Resource kinds: none, for Envoy stands between services."""

    @cached_property
    def deployment(self) -> "Deployment":
        """What is in force, and the xDS server that proxies are told it by."""
        from watertight.enforcers.envoy.apply import Deployment
        from watertight.enforcers.envoy.xds import XDSServer

        return Deployment(XDSServer())

    def compile(self, system: System, placement: Placement) -> "EnvoyPlan":
        """See ``compile_envoy``."""
        from watertight.enforcers.envoy.compile import compile_envoy

        return compile_envoy(system, placement)

    async def apply(self, artifacts: "EnvoyPlan") -> Applied:
        """See ``Deployment.apply``."""
        return await self.deployment.apply(artifacts)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``envoy_probes``."""
        from watertight.enforcers.envoy.probes import envoy_probes

        return envoy_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``probes.deep``."""
        from watertight.enforcers.envoy.probes import deep as deep_probes
        from watertight.enforcers.envoy.probes import desync

        return [*deep_probes.probes(system, deep), *desync.lasting(system)]

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``probes.gaps``."""
        from watertight.enforcers.envoy.probes.gaps import gaps

        return gaps(system)
