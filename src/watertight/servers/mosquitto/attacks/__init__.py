"""Every attack on Mosquitto brokers, and every permitted use, from the declaration alone."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from watertight.attack.arena import Forgery
from watertight.attack.login import Login, right
from watertight.attack.probe import Probe
from watertight.attack.server import server_probes
from watertight.model.system import System
from watertight.servers.mosquitto.attacks import cases
from watertight.servers.mosquitto.attacks.dialect import MosquittoDialect
from watertight.servers.mosquitto.declaration import KIND


def mosquitto_probes(system: System) -> Iterator[Probe]:
    """For every managed broker."""
    yield from server_probes(
        MosquittoDialect(), system, forgeries=_forgeries, sockets=lambda _arena, _resource: ()
    )
    for resource in system.resources.values():
        if resource.kind == KIND and not resource.external:
            yield from cases.of(system, resource)


def _forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """Certificates of our own authority that name nobody, or somebody else, by their CN."""
    own, name = right(login), login.service
    return {
        "identity.no-common-name": (
            "the right SPIFFE ID, no common name",
            replace(own, common_name=""),
        ),
        "identity.other-common-name": (
            "the right SPIFFE ID, the common name of nobody",
            replace(own, common_name="watertight-nobody"),
        ),
        "identity.longer-common-name": (
            f"the common name {name}/x",
            replace(own, common_name=f"{name}/x"),
        ),
        "identity.upper-case": (
            f"the common name {name.upper()}",
            replace(own, common_name=name.upper()),
        ),
    }
