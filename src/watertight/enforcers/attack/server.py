"""Attacks on any server that takes TLS end to end and knows its clients by their SVIDs.

What is the same for every database and broker stands here: how its TLS is attacked, which
credentials must not open it, that no session is taken up again, that undeclared services do not
reach it, and that nothing listens which nobody declared. An enforcer adds how its protocol is
spoken (:class:`Dialect`), and the attacks on what its channels grant.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from cryptography.x509.oid import ExtendedKeyUsageOID

from watertight.enforcers.attack.inside import dial_inside
from watertight.enforcers.attack.make import P, ProbeMaker, Tried
from watertight.enforcers.attack.tls import Alert, Hello, TLSWire, handshake
from watertight.enforcers.attack.wire import Absent, Closed, Wire, dial_unix
from watertight.enforcers.contract import (
    Arena,
    Forgery,
    Observation,
    Outcome,
    Probe,
    not_run,
    refused,
    served,
)
from watertight.model.addresses import loopback_addresses
from watertight.model.system import Resource, System

TIMEOUT_SECONDS = 5.0
DAY_SECONDS = 86_400
BRIEF_SECONDS = 6
"""How long the SVID lives whose session is taken up again after its end."""
LOCAL = "127.0.0.1"
OLD_VERSIONS = {
    "tls.version-1.2": ssl.TLSVersion.TLSv1_2,
    "tls.version-1.1": ssl.TLSVersion.TLSv1_1,
}


class LoginRefused(Closed):
    """The server said no in the words of its own protocol: beyond doubt, as an alert is."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants to come in where: ``service`` is the identity that is claimed."""

    system: System
    resource: Resource
    service: str

    @property
    def channel(self) -> str:
        """How the pair is called in reports."""
        return f"{self.service} -> {self.resource.name}"


class Dialect(Protocol):
    """One protocol, as an attacker speaks it. Written without any client library's caution."""

    enforcer: str
    """The ``enforcer`` of its probes."""
    alpn: tuple[str, ...]
    lowest_tls: ssl.TLSVersion
    """The lowest version that the server may accept; below it, every attempt is an attack."""
    tells_who: bool
    """Whether :meth:`login` sees whom the server takes us for. If not, somebody else who has a
    channel of his own comes in as himself, and that is no attack: what he may do there is."""

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """What comes before the TLS handshake, or before a login in the clear.

        Raises :class:`LoginRefused` if the server refuses there, ``Closed`` or ``TimeoutError``.
        """
        ...

    async def login(self, wire: Wire, login: Login) -> None:
        """Logs in, and has the server do something that only a client who is in may do.

        Returns once the server has done it. Raises :class:`LoginRefused`, ``Closed`` (also a late
        TLS alert) or ``TimeoutError``.
        """
        ...


def attack(
    dialect: Dialect,
    identifier: str,
    channel: str,
    attempt: str,
    tried: Tried[P],
    *arguments: P.args,
    **keywords: P.kwargs,
) -> Probe:
    """See :meth:`~watertight.enforcers.attack.make.ProbeMaker.attack`."""
    make = ProbeMaker(dialect.enforcer).attack
    return make(identifier, channel, attempt, tried, *arguments, **keywords)


def use(
    dialect: Dialect,
    identifier: str,
    channel: str,
    attempt: str,
    tried: Tried[P],
    *arguments: P.args,
    **keywords: P.kwargs,
) -> Probe:
    """See :meth:`~watertight.enforcers.attack.make.ProbeMaker.use`."""
    make = ProbeMaker(dialect.enforcer).use
    return make(identifier, channel, attempt, tried, *arguments, **keywords)


# --- coming in ------------------------------------------------------------------------------


async def enter(
    arena: Arena,
    dialect: Dialect,
    login: Login,
    hello: Hello,
    *,
    door: str | None = None,
    earlier: TLSWire | None = None,
) -> TLSWire:
    """Comes in over TLS, through the door that is ``door``'s (``login.service``'s by default).

    ``earlier``: a finished connection whose session is offered again. The caller closes what it
    gets. Raises ``Absent``, ``LoginRefused``, ``Alert``, ``Closed`` or ``TimeoutError``.
    """
    wire = await dial_unix(arena.door(login.resource.name, door or login.service))
    try:
        await dialect.prelude(wire, secure=True)
        secure = await handshake(
            wire,
            hello,
            timeout_seconds=TIMEOUT_SECONDS,
            session=earlier.tls.session if earlier else None,
            context=earlier.context if earlier else None,
        )
        await dialect.login(secure, login)
    except BaseException:
        await wire.close()
        raise
    return secure


async def genuine(arena: Arena, dialect: Dialect, service: str) -> Hello:
    """What ``service`` itself would offer."""
    return Hello(credential=await arena.svid(service), alpn=dialect.alpn)


async def as_itself(arena: Arena, dialect: Dialect, login: Login) -> TLSWire:
    """A session of the right caller, for attacks on what it may do. Raises as :func:`enter`."""
    return await enter(arena, dialect, login, await genuine(arena, dialect, login.service))


async def tried_to_enter(
    arena: Arena, dialect: Dialect, login: Login, hello: Hello, *, door: str | None = None
) -> Observation:
    """Whether the server lets in who says this hello, with a control where there is doubt."""
    try:
        secure = await enter(arena, dialect, login, hello, door=door)
    except (Alert, LoginRefused) as refusal:
        return refused(str(refusal))
    except (Closed, TimeoutError) as end:
        what = str(end) or "no answer"
        return await controlled(arena, dialect, replace(login, service=door or login.service), what)
    await secure.close()
    return served(f"logged in as {login.service}")


async def controlled(arena: Arena, dialect: Dialect, login: Login, seen: str) -> Observation:
    """A refusal without words counts only while the right caller is served at the same door."""
    try:
        await (await as_itself(arena, dialect, login)).close()
    except (Closed, TimeoutError) as end:
        said = str(end) or "no answer"
        return not_run(f"{seen}; but the right caller is turned away too: {said}")
    return refused(seen)


# --- the probes that every such server has -----------------------------------------------------


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
    for resource in system.resources.values() if resources is None else resources:
        if resource.kind != dialect.enforcer or resource.external:
            continue
        logins = [Login(system, resource, c.source) for c in system.incoming(resource.name)]
        for login in logins:
            yield from _tls(dialect, login)
            yield from _identity(dialect, login, forgeries)
            yield from _sessions(dialect, login)
        yield from _reach(dialect, system, resource)
        yield attack(
            dialect,
            "ports.unknown",
            f"anyone -> {resource.name}",
            f"a socket on which a process of {resource.name} listens and which nothing declares",
            _unknown_sockets,
            resource,
            sockets,
        )


def _tls(dialect: Dialect, login: Login) -> Iterator[Probe]:
    name = login.resource.name
    yield attack(
        dialect,
        "tls.plaintext",
        login.channel,
        f"a login as {login.service} in the clear",
        _plaintext,
        dialect,
        login,
    )
    yield attack(
        dialect,
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
                dialect,
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


def right(login: Login) -> Forgery:
    """The forgery with nothing wrong with it: what the service's own SVID says."""
    return Forgery(
        uri_sans=(login.system.spiffe_id(login.service),),
        dns_sans=(login.service,),
        common_name=login.service,
        organization=login.system.trust_domain,
    )


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
    wrong = {**common_forgeries(login), **forgeries(login)}
    for identifier, (what, forgery) in wrong.items():
        yield attack(dialect, identifier, login.channel, what, _forged, dialect, login, forgery)
    known = {channel.source for channel in login.system.incoming(login.resource.name)}
    for other in login.system.workloads():
        if other != login.service and (dialect.tells_who or other not in known):
            yield attack(
                dialect,
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


def _sessions(dialect: Dialect, login: Login) -> Iterator[Probe]:
    versions = [
        v for v in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) if v >= dialect.lowest_tls
    ]
    for version in versions:
        spoken = version.name.removeprefix("TLSv").replace("_", ".")
        yield attack(
            dialect,
            "sessions.resumption-after-expiry",
            login.channel,
            f"a TLS {spoken} session taken up again after its SVID has expired",
            _resumption,
            dialect,
            login,
            version,
        )


async def _resumption(
    arena: Arena, dialect: Dialect, login: Login, version: ssl.TLSVersion
) -> Observation:
    """Who resumes shows no certificate: an expired or distrusted one would live on."""
    brief = replace(right(login), not_after_seconds=BRIEF_SECONDS)
    hello = Hello(
        credential=await arena.forge(brief), alpn=dialect.alpn, versions=(version, version)
    )
    try:
        first = await enter(arena, dialect, login, hello)
    except (Closed, TimeoutError) as end:
        return not_run(f"an SVID of {BRIEF_SECONDS} s is turned away while valid: {end}")
    try:
        await asyncio.sleep(BRIEF_SECONDS + 1.5)  # the attack itself: the SVID must have expired
        again = await enter(arena, dialect, login, hello, earlier=first)
    except (Alert, LoginRefused) as refusal:
        return refused(str(refusal))
    except (Closed, TimeoutError) as end:
        return await controlled(arena, dialect, login, str(end) or "no answer")
    finally:
        await first.close()
    reused = again.tls.session_reused
    await again.close()
    return served("the session was resumed" if reused else "the expired SVID itself was taken")


# --- who reaches it at all ---------------------------------------------------------------------


def _reach(dialect: Dialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For every service without a channel: by name, by address, and at every door."""
    declared = {channel.source for channel in system.incoming(resource.name)}
    for service in system.services:
        if service in declared:
            continue
        channel = f"{service} -> {resource.name}"
        yield attack(
            dialect,
            "reach.doors",
            channel,
            f"{service}'s genuine SVID at every door of {resource.name}",
            _doors,
            dialect,
            Login(system, resource, service),
        )
        yield attack(
            dialect,
            "reach.name",
            channel,
            f"the name {resource.name} from inside {service}",
            _name,
            service,
            resource,
        )
        yield attack(
            dialect,
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
    if not any(entry.process == "server" for entry in mine):
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
