"""Everything that happens to a server, once for all kinds.

Write its files, have it take them up, ask what is so there, make the difference, ask again. Where
any of that fails, the files are as they were, and the server runs with them: what it granted
before, it grants still.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from watertight.enforcers.contract import Applied
from watertight.enforcers.resource import BUNDLE, ServerHost, ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.model.system import Position, Resource, System
from watertight.servers.facts import Change, Fact, difference
from watertight.servers.kind import Part, RunsOtherwise, Server, Session, Way
from watertight.servers.served import until_served

STARTED = "started"
DOES_NOT_RUN = "the server does not run"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a server must grant, ours or others', and where that is declared."""

    resource: str
    grants: Any
    at: Position


@dataclass(slots=True)
class _Before:
    """What was so before an apply, to go back to."""

    files: Mapping[str, str]
    ran: bool
    facts: frozenset[Fact] | None = None
    """None as long as nothing was changed."""


_changing: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = (
    WeakKeyDictionary()
)


def changing(resource: str) -> asyncio.Lock:
    """Held by whoever changes a server, so that nobody writes over a revocation what he decided
    before it."""
    locks = _changing.setdefault(asyncio.get_running_loop(), {})
    return locks.setdefault(resource, asyncio.Lock())


async def apply(server: Server, plan: ServerPlan, host: ServerHost) -> Applied:
    """See ``ResourceEnforcer.apply``."""
    async with changing(plan.resource):
        return await _apply(server, plan, host)


async def _apply(server: Server, plan: ServerPlan, host: ServerHost) -> Applied:
    before = _Before(files_of(plan, host), await host.running())
    changed = list(await host.write(plan.files))
    try:
        await server.try_files(plan, host)
        changed += await _in_force(server, plan, host, changed, before)
    except WatertightError:
        await _go_back(server, plan, host, before)
        raise
    versions = {name: _version(text) for name, text in plan.files.items()}
    versions["grants"] = _version(repr(plan.grants))
    return Applied(versions, tuple(changed))


async def _in_force(
    server: Server, plan: ServerPlan, host: ServerHost, changed: Sequence[str], before: _Before
) -> list[str]:
    """The server runs with its files, and is what its plan says; what else was not so."""
    told: list[str] = []
    if await host.running():
        read_at_start = set(changed) - server.live_files
        way = server.takes[Part.CONFIGURATION] if read_at_start else server.stale_way
        if not read_at_start:
            try:
                async with server.session(plan, host) as session:
                    told += await session.stale()
                    if not told:
                        return await _converge(server, plan, session, before)
            except RunsOtherwise as otherwise:
                told.append(otherwise.message)
                way = Way.RESTART
        await _note(server, plan, host, before)
        if way is not Way.RESTART:
            if await take(server, plan, host, Part.CONFIGURATION):
                told.append(STARTED)
        else:
            await host.stop()
    if not await host.running():
        await _start(server, plan, host)
        told.append(STARTED)
    async with server.session(plan, host) as session:
        return told + await _converge(server, plan, session, before)


async def _note(server: Server, plan: ServerPlan, host: ServerHost, before: _Before) -> None:
    """What is so there, while it still runs as it did: it may make facts of its new files.

    Of one that cannot be asked, what is so after its start is noted.
    """
    with contextlib.suppress(WatertightError):
        async with server.session(plan, host) as session:
            before.facts = await session.facts()


async def _start(server: Server, plan: ServerPlan, host: ServerHost) -> None:
    """Starts it, and notes the roots that stand: it reads these, or newer ones."""
    await server.before_start(plan, host)
    if server.takes[Part.ROOT] is Way.RESTART:
        host.placement.roots_taken(plan.resource).write_text(_roots(plan, host), encoding="utf-8")
    await host.start()
    try:
        await server.started(plan, host)
    except WatertightError:
        await host.stop()
        raise


def _roots(plan: ServerPlan, host: ServerHost) -> str:
    bundle = host.placement.credentials(plan.resource) / BUNDLE
    return _version(bundle.read_text(encoding="utf-8"))


def _has_new_roots(server: Server, plan: ServerPlan, host: ServerHost) -> bool:
    """Whether it must be started again for roots that it has not read. Not known is yes."""
    if server.takes[Part.ROOT] is not Way.RESTART:
        return False
    taken = host.placement.roots_taken(plan.resource)
    return not taken.exists() or taken.read_text(encoding="utf-8") != _roots(plan, host)


async def _converge(
    server: Server, plan: ServerPlan, session: Session, before: _Before
) -> list[str]:
    what = Declared(plan.resource, plan.grants, plan.at)
    found = await session.facts()
    odd = difference(server.desired(what.grants, found), found, server.facts)
    if before.facts is None:
        before.facts = found
    left = await _make_so(server, what, session, odd, may_stay=server.keeps)
    return list(_told(server, odd, left))


def _told(server: Server, odd: Sequence[Change], left: Sequence[Change]) -> Iterator[str]:
    """What was done of ``odd``, where ``left`` is left of it."""
    stays = {change.thing.name for change in left}
    return (server.told(change) for change in odd if change.thing.name not in stays)


async def _odd(server: Server, grants: Any, session: Session) -> Sequence[Change]:
    found = await session.facts()
    return difference(server.desired(grants, found), found, server.facts)


async def _make_so(
    server: Server,
    what: Declared,
    session: Session,
    odd: Sequence[Change],
    *,
    may_stay: Collection[str],
) -> Sequence[Change]:
    """Executes what is odd, and looks again: what is left, of what nobody declared.

    ``may_stay``: kinds of fact. Raises :class:`~watertight.enforcers.resource.ServerRefused` if
    anything else is left.
    """
    if not odd:
        return ()
    await session.execute(odd)
    left = await _odd(server, what.grants, session)
    wrong = [server.told(c) for c in left if not (c.removes and c.thing.kind in may_stay)]
    if wrong:
        raise ServerRefused(
            what.at,
            f"{what.resource} does not become what is declared: {'; '.join(wrong)}.",
            server.remedy,
        )
    return left


async def grant(
    server: Server, system: System, resource: Resource, session: Session, *, dry_run: bool
) -> tuple[str, ...]:
    """See ``GrantsElsewhere``, at a server that others run: all that nobody declared may stay.

    ``session.stale`` tells why it cannot be held to what it grants.
    """
    what = Declared(resource.name, server.grants(system, resource), resource.at)
    odd = await _odd(server, what.grants, session)
    unfit = await session.stale()
    if dry_run:
        return (*map(server.told, odd), *unfit)
    if unfit:
        raise ServerRefused(resource.at, f"{resource.name}: {unfit[0]}.", server.unfit_remedy)
    left = await _make_so(server, what, session, odd, may_stay=server.facts)
    return tuple(_told(server, odd, left))


async def _go_back(server: Server, plan: ServerPlan, host: ServerHost, before: _Before) -> None:
    """Files first, then what is so. Whatever was refused is the news, not what goes wrong here."""
    changed = await host.write(before.files)
    plan = replace(plan, files=before.files)
    with contextlib.suppress(WatertightError):
        if not before.ran:
            await host.stop()
            return
        if not await host.running():
            await _start(server, plan, host)
        elif set(changed) - server.live_files:
            await take(server, plan, host, Part.CONFIGURATION)
        if before.facts is not None:
            async with server.session(plan, host) as session:
                found = await session.facts()
                if back := difference(before.facts, found, server.facts):
                    await session.execute(back)


async def take(server: Server, plan: ServerPlan, host: ServerHost, part: Part) -> bool:
    """Has the server take up what has changed; whether it had to be started again.

    Raises WatertightError.
    """
    way = server.takes[part]
    restarts = way is Way.RESTART
    try:
        if way is Way.SIGNAL:
            await server.reload(plan, host, part)
        elif way is Way.COMMAND:
            async with server.session(plan, host) as session:
                await session.take(part)
    except RunsOtherwise:
        restarts = True
    if restarts:
        await host.stop()
        await _start(server, plan, host)
    return restarts


async def drift(server: Server, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
    """See ``ResourceEnforcer.drift``."""
    found = server.file_drift(plan, host)
    if not await host.running():
        return [*found, DOES_NOT_RUN]
    try:
        async with server.session(plan, host) as session:
            found += await _stale(plan, session)
            found += [server.told(change) for change in await _odd(server, plan.grants, session)]
    except RunsOtherwise as otherwise:
        found.append(otherwise.message)
    return found


async def _stale(plan: ServerPlan, session: Session) -> Sequence[str]:
    """Nothing while somebody changes the server: that is just being taken up."""
    lock = changing(plan.resource)
    before = lock.locked()
    told = await session.stale()
    return () if before or lock.locked() else told


async def rotate(server: Server, plan: ServerPlan, host: ServerHost) -> None:
    """See ``ResourceEnforcer.rotate``: a failed reload is often only logged, so it is looked at.

    Whoever calls knows only that credentials are new. A kind that must be started again for new
    roots is so only where they are new to it.
    """
    await take(server, plan, host, Part.ROOT if _has_new_roots(server, plan, host) else Part.LEAF)
    await until_served(plan, host, server.before_tls(plan))


async def revoke(server: Server, plan: ServerPlan, host: ServerHost, service: str) -> int:
    """See ``ResourceEnforcer.revoke``: nobody is let in under that name, then its sessions end."""
    async with changing(plan.resource):
        changed = await host.write(plan.files)
        if not await host.running():
            return 0
        way = server.takes[Part.CONFIGURATION]
        # By a signal always: it costs nothing, and whoever had a file loaded may have put it back.
        if way is Way.SIGNAL or (set(changed) - server.live_files and way is not Way.RESTART):
            await take(server, plan, host, Part.CONFIGURATION)
        async with server.session(plan, host) as session:
            return await session.kick(service)


def files_of(plan: ServerPlan, host: ServerHost) -> dict[str, str]:
    """What stands in the server's directory now: name → text."""
    directory = host.placement.server_directory(plan.resource)
    return {
        path.name: path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


def file_drift(plan: ServerPlan, host: ServerHost) -> list[str]:
    """What differs in the server's directory, a line each."""
    directory = host.placement.server_directory(plan.resource)
    standing = files_of(plan, host)
    odd = [
        f"{name} was changed by hand" if name in standing else f"{name} is missing"
        for name, text in plan.files.items()
        if standing.get(name) != text
    ]
    names = sorted(path.name for path in directory.iterdir())
    return odd + [f"{name} was added by hand" for name in names if name not in plan.files]


def _version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
