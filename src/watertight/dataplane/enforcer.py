"""Envoy as an enforcer: compile, apply and attack, in the shape that every enforcer has."""

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from watertight.attack.probe import Deep, Gap, Probe
from watertight.enforcers.contract import Applied
from watertight.model.placement import Placement
from watertight.model.system import System

if TYPE_CHECKING:
    from watertight.dataplane.apply import Deployment
    from watertight.dataplane.resources import EnvoyPlan


class EnvoyEnforcer:
    """Enforces every channel between services, and the gateway's routes."""

    kind = "envoy"
    resources: frozenset[str] = frozenset()
    """Resource kinds: none, for Envoy stands between services."""

    @cached_property
    def deployment(self) -> "Deployment":
        """What is in force, and the xDS server that proxies are told it by."""
        from watertight.dataplane.apply import Deployment
        from watertight.dataplane.xds import XDSServer

        return Deployment(XDSServer())

    def compile(self, system: System, placement: Placement) -> "EnvoyPlan":
        """See ``compile_envoy``."""
        from watertight.dataplane.compile import compile_envoy

        return compile_envoy(system, placement)

    async def apply(self, artifacts: "EnvoyPlan") -> Applied:
        """See ``Deployment.apply``."""
        return await self.deployment.apply(artifacts)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``envoy_probes``."""
        from watertight.dataplane.attacks import envoy_probes

        return envoy_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``probes.deep``."""
        from watertight.dataplane.attacks import deep as deep_probes
        from watertight.dataplane.attacks import desync

        return [*deep_probes.probes(system, deep), *desync.lasting(system)]

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``probes.gaps``."""
        from watertight.dataplane.attacks.gaps import gaps

        return gaps(system)
