"""The attacks that every database and broker has, whatever its protocol.

How its TLS is attacked, which credentials must not open it, that no session is taken up again, that
undeclared services do not reach it, and that nothing listens which nobody declared. An enforcer
adds the attacks on what its channels grant.
"""

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from cryptography.x509.oid import ExtendedKeyUsageOID

from watertight.attack import resumption
from watertight.attack.arena import Arena, Forgery
from watertight.attack.inside import dial_inside
from watertight.attack.login import (
    TIMEOUT_SECONDS,
    Dialect,
    Login,
    LoginRefused,
    controlled,
    genuine,
    right,
    tried_to_enter,
)
from watertight.attack.make import ProbeMaker
from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused, served
from watertight.attack.tls import Hello
from watertight.attack.wire import Absent, Closed, dial_unix
from watertight.model.addresses import loopback_addresses
from watertight.model.system import Resource, System

DAY_SECONDS = 86_400
LOCAL = "127.0.0.1"
OLD_VERSIONS = {
    "tls.version-1.2": ssl.TLSVersion.TLSv1_2,
    "tls.version-1.1": ssl.TLSVersion.TLSv1_1,
}


def server_probes(
    dialect: Dialect,
    system: System,
    *,
    forgeries: Callable[[Login], Mapping[str, tuple[str, Forgery]]],
    sockets: Callable[[Arena, Resource], Iterable[str]],
    resources: Iterable[Resource] | None = None,
) -> Iterator[Probe]:
    """Every attack on TLS, identity, sessions, reach and ports, for each resource of the kind.

    ``forgeries``: probe id → what is wrong, and a credential that the server must refuse, besides
    :func:`common_forgeries`. ``sockets``: the addresses on which the server may listen besides
    its TLS port, as ``Listening`` writes them. ``resources``: only these, where not all of the
    kind speak the same dialect.
    """
    attack = ProbeMaker(dialect.enforcer).attack
    for resource in system.resources.values() if resources is None else resources:
        if resource.kind != dialect.enforcer or resource.external:
            continue
        logins = [Login(system, resource, c.source) for c in system.incoming(resource.name)]
        for login in logins:
            yield from _tls(dialect, login)
            yield from _identity(dialect, login, forgeries)
            yield from resumption.probes(dialect, login)
        yield from _reach(dialect, system, resource)
        yield attack(
            "ports.unknown",
            f"anyone -> {resource.name}",
            f"a socket on which a process of {resource.name} listens and which nothing declares",
            _unknown_sockets,
            resource,
            sockets,
        )


def _tls(dialect: Dialect, login: Login) -> Iterator[Probe]:
    attack = ProbeMaker(dialect.enforcer).attack
    name = login.resource.name
    yield attack(
        "tls.plaintext",
        login.channel,
        f"a login as {login.service} in the clear",
        _plaintext,
        dialect,
        login,
    )
    yield attack(
        "tls.no-certificate",
        login.channel,
        f"a login as {login.service} over TLS, without a client certificate",
        tried_to_enter,
        dialect,
        login,
        Hello(alpn=dialect.alpn),
    )
    for identifier, version in OLD_VERSIONS.items():
        if version < dialect.lowest_tls:
            highest = version.name.removeprefix("TLSv").replace("_", ".")
            yield attack(
                identifier,
                login.channel,
                f"TLS {highest} at most with {name}, with the right SVID",
                _old,
                dialect,
                login,
                version,
            )


async def _plaintext(arena: Arena, dialect: Dialect, login: Login) -> Observation:
    wire = await dial_unix(arena.door(login.resource.name, login.service))
    try:
        await dialect.prelude(wire, secure=False)
        await dialect.login(wire, login)
    except LoginRefused as refusal:
        return refused(str(refusal))
    except (Closed, TimeoutError) as end:
        return await controlled(arena, dialect, login, str(end) or "no answer")
    finally:
        await wire.close()
    return served(f"logged in as {login.service} in the clear")


async def _old(
    arena: Arena, dialect: Dialect, login: Login, version: ssl.TLSVersion
) -> Observation:
    lowest = min(version, ssl.TLSVersion.TLSv1)
    hello = replace(
        await genuine(arena, dialect, login.service),
        versions=(version if version is ssl.TLSVersion.TLSv1_2 else lowest, version),
    )
    return await tried_to_enter(arena, dialect, login, hello)


def common_forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """What no server may take, however it maps certificates to roles."""
    own = right(login)
    return {
        "identity.self-signed": ("a self-signed certificate", replace(own, issuer="self")),
        "identity.foreign-authority": (
            "an SVID from an unknown authority with our authority's names",
            replace(own, issuer="foreign"),
        ),
        "identity.expired": (
            "an SVID that expired a minute ago",
            replace(own, not_before_seconds=-DAY_SECONDS, not_after_seconds=-60),
        ),
        "identity.not-yet-valid": (
            "an SVID that is valid in an hour",
            replace(own, not_before_seconds=3600, not_after_seconds=7200),
        ),
        "identity.server-only-usage": (
            "extended key usage serverAuth only",
            replace(own, extended_key_usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        ),
    }


def _identity(
    dialect: Dialect,
    login: Login,
    forgeries: Callable[[Login], Mapping[str, tuple[str, Forgery]]],
) -> Iterator[Probe]:
    attack = ProbeMaker(dialect.enforcer).attack
    wrong = {**common_forgeries(login), **forgeries(login)}
    for identifier, (what, forgery) in wrong.items():
        yield attack(identifier, login.channel, what, _forged, dialect, login, forgery)
    known = {channel.source for channel in login.system.incoming(login.resource.name)}
    for other in login.system.workloads():
        if other != login.service and (dialect.tells_who or other not in known):
            yield attack(
                "identity.other-workload",
                login.channel,
                f"{other}'s genuine SVID, with a login as {login.service}",
                _stolen,
                dialect,
                login,
                other,
            )


async def _forged(arena: Arena, dialect: Dialect, login: Login, forgery: Forgery) -> Observation:
    hello = Hello(credential=await arena.forge(forgery), alpn=dialect.alpn)
    return await tried_to_enter(arena, dialect, login, hello)


async def _stolen(arena: Arena, dialect: Dialect, login: Login, other: str) -> Observation:
    return await tried_to_enter(arena, dialect, login, await genuine(arena, dialect, other))


# --- who reaches it at all ---------------------------------------------------------------------


def _reach(dialect: Dialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For every service without a channel: by name, by address, and at every door."""
    attack = ProbeMaker(dialect.enforcer).attack
    declared = {channel.source for channel in system.incoming(resource.name)}
    for service in system.services:
        if service in declared:
            continue
        channel = f"{service} -> {resource.name}"
        yield attack(
            "reach.doors",
            channel,
            f"{service}'s genuine SVID at every door of {resource.name}",
            _doors,
            dialect,
            Login(system, resource, service),
        )
        yield attack(
            "reach.name",
            channel,
            f"the name {resource.name} from inside {service}",
            _name,
            service,
            resource,
        )
        yield attack(
            "reach.address",
            channel,
            f"the loopback address that {resource.name} would have, port {resource.port}",
            _address,
            service,
            resource,
        )


async def _doors(arena: Arena, dialect: Dialect, login: Login) -> Observation:
    """As itself and as the door's owner; a door of its own must not exist."""
    declared = sorted(c.source for c in login.system.incoming(login.resource.name))
    hello = await genuine(arena, dialect, login.service)
    said = []
    for owner in declared:
        for claimed in (login.service, owner) if dialect.tells_who else (login.service,):
            seen = await tried_to_enter(
                arena, dialect, replace(login, service=claimed), hello, door=owner
            )
            if seen.outcome is not Outcome.REFUSED:
                return replace(seen, detail=f"at {owner}'s door: {seen.detail}")
            said.append(seen.detail)
    try:
        wire = await dial_unix(arena.door(login.resource.name, login.service))
    except Absent:
        return refused(f"no door of its own; at {len(declared)} others: {'; '.join(said)}"[:300])
    await wire.close()
    return served(f"{login.resource.name} has a door for {login.service}")


async def _name(arena: Arena, service: str, resource: Resource) -> Observation:
    answer = await (await arena.inside(service)).call("resolve", name=resource.name)
    if not answer["addresses"]:
        return refused("the name does not resolve")
    seen = await _connect(arena, service, answer["addresses"][0], resource.port)
    return replace(seen, detail=f"resolves; {seen.detail}")


async def _address(arena: Arena, service: str, resource: Resource) -> Observation:
    if arena.placement.shared_network:
        address = arena.address(service, resource.name)
    else:
        address = loopback_addresses([resource.name])[resource.name]
    return await _connect(arena, service, address, resource.port)


async def _connect(arena: Arena, service: str, address: str, port: int) -> Observation:
    try:
        wire = await dial_inside(
            await arena.inside(service), address, port, timeout_seconds=TIMEOUT_SECONDS
        )
    except Absent as nothing:
        return refused(str(nothing))
    await wire.close()
    return served(f"{address}:{port} took the connection")


async def _unknown_sockets(
    arena: Arena, resource: Resource, sockets: Callable[[Arena, Resource], Iterable[str]]
) -> Observation:
    placement = arena.placement
    mine = [entry for entry in await arena.listening() if entry.workload == resource.name]
    used = next(iter(arena.system.incoming(resource.name)), None) is not None
    if used and not any(entry.process == "server" for entry in mine):
        # One that nobody may use, as one whose identity is revoked, need not run.
        return not_run(f"the server of {resource.name} listens on nothing: it does not run")
    known = {("server", f"{LOCAL}:{resource.port}")}
    known |= {("server", address) for address in sockets(arena, resource)}
    known.add(("proxy", f"unix:{placement.admin_socket(resource.name)}"))
    known |= {
        ("proxy", f"unix:{placement.door(resource.name, channel.source)}")
        for channel in arena.system.incoming(resource.name)
    }
    strays = [entry for entry in mine if (entry.process, entry.address) not in known]
    if strays:
        return served("; ".join(sorted(f"{e.address} ({e.process})" for e in strays)))
    return refused(f"{len(mine)} sockets, each of them declared")
