"""Every attack on MongoDB servers, and every permitted use, from the declaration alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from watertight.attack.arena import Arena, Forgery
from watertight.attack.login import Login, right
from watertight.attack.probe import Gap, Probe
from watertight.attack.server import server_probes
from watertight.model.system import Resource, System
from watertight.servers.mongodb.attacks import beyond, cases
from watertight.servers.mongodb.attacks.dialect import DIALECT
from watertight.servers.mongodb.declaration import KIND, declared

SOCKETS = ("ferretdb.sock", "guard.sock", ".s.PGSQL.5432")
"""Where FerretDB, the guard's operator and PostgreSQL are asked."""
MEMORY = "a sort or group that takes the server's memory from all others: nothing bounds it"


def mongodb_probes(system: System) -> Iterator[Probe]:
    """For every managed server."""
    yield from server_probes(DIALECT, system, forgeries=_forgeries, sockets=_sockets)
    for resource in _managed(system):
        callers = [
            cases.Caller(system, Login(system, resource, channel.source))
            for channel in system.incoming(resource.name)
        ]
        for caller in callers:
            yield from cases.uses(caller)
            yield from cases.grants(caller, declared(resource).collections)
            yield from beyond.attacks(caller, declared(resource).collections)
        yield from beyond.pairs(callers)


def gaps(system: System) -> Iterator[Gap]:
    """What no probe tries, for each server that we run."""
    for resource in _managed(system):
        yield Gap(KIND, f"anyone -> {resource.name}", MEMORY)


def _managed(system: System) -> Iterable[Resource]:
    return (r for r in system.resources.values() if r.kind == KIND and not r.external)


def _sockets(arena: Arena, resource: Resource) -> Iterable[str]:
    directory = arena.placement.server_sockets(resource.name)
    return (f"unix:{directory}/{name}" for name in SOCKETS)


def _forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """Certificates of our own authority with the right Subject, and no URI or another."""
    own, [uri] = right(login), right(login).uri_sans
    domain, name = login.system.trust_domain, login.service
    wrong = {
        "identity.no-uri": ("no SPIFFE ID", ()),
        "identity.two-uris": ("two SPIFFE IDs", (uri, f"spiffe://{domain}/another")),
        "identity.other-trust-domain": (
            "the name in another trust domain",
            (f"spiffe://not-{domain}/{name}",),
        ),
        "identity.longer-uri": ("a path below the service's", (f"{uri}/x",)),
        "identity.upper-case": ("the name in capitals", (f"spiffe://{domain}/{name.upper()}",)),
        "identity.operator": (
            "the name of the server's own operator",
            (f"spiffe://{domain}/watertight_operator",),
        ),
        "identity.owner": (
            "the name of the collections' owner",
            (f"spiffe://{domain}/watertight_owner",),
        ),
    }
    return {
        identifier: (f"the right Subject, {what}", replace(own, uri_sans=uris))
        for identifier, (what, uris) in wrong.items()
    }
