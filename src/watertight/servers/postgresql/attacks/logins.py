"""Who may come in, and where: other databases, other roles, replication, passwords, downgrades."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace

from watertight.attack.arena import Arena, Forgery
from watertight.attack.login import (
    PATIENCE_SECONDS,
    POLL_SECONDS,
    Login,
    LoginRefused,
    enter,
    genuine,
    right,
    tried_to_enter,
)
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused, served
from watertight.attack.tls import Alert, Hello
from watertight.attack.wire import Closed
from watertight.servers.postgresql.attacks.dialect import DIALECT, DIRECT, MAKE, PostgreSQLDialect
from watertight.servers.postgresql.attacks.session import PasswordAsked

OPERATOR, OWNER = "watertight_operator", "watertight_owner"
"""What the roles above all services are called; anybody who logs in can read it."""
OTHER_DATABASES = ("postgres", "template1")
"""Every server has them (manual, section 23.3)."""


def forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """Subjects that are almost the right one; the SPIFFE ID in each is the right one."""
    own, name, domain = right(login), login.service, login.system.trust_domain
    inside = f"{name},OU=services,O={domain}"
    return {
        "identity.other-common-name": (
            "the right SPIFFE ID, and another common name",
            replace(own, common_name="nobody"),
        ),
        "identity.no-common-name": (
            "the right SPIFFE ID, and no Subject",
            replace(own, common_name=""),
        ),
        "identity.longer-common-name": (
            f"the common name {name}x",
            replace(own, common_name=f"{name}x"),
        ),
        "identity.common-name-case": (
            f"the common name {name.capitalize()}",
            replace(own, common_name=name.capitalize()),
        ),
        "identity.null-in-common-name": (
            "the right common name, a null and more",
            replace(own, common_name=f"{name}\0x"),
        ),
        "identity.server-unit": (
            "the Subject of a server (OU=servers) of the same name",
            replace(own, unit="servers"),
        ),
        "identity.other-organization": (
            "the Subject of another trust domain",
            replace(own, organization=f"not-{domain}"[:64]),
        ),
        "identity.no-organization": (
            "the right common name alone",
            replace(own, organization=""),
        ),
        "identity.whole-subject-in-common-name": (
            f"the common name {inside}",
            replace(own, common_name=inside, organization=""),
        ),
    }


def probes(login: Login) -> Iterator[Probe]:
    """For one channel: its own login works, and no other."""
    channel, name = login.channel, login.service
    yield MAKE.use("use.login", channel, f"a login as {name}", _enters, DIALECT, login)
    for database in OTHER_DATABASES:
        yield _elsewhere(
            "login.other-database",
            login,
            f"database {database}",
            replace(DIALECT, database=database),
        )
    for role in (OPERATOR, OWNER):
        yield _elsewhere("login.other-role", login, f"role {role}", replace(DIALECT, role=role))
    for mode in ("true", "database"):
        yield _elsewhere(
            "login.replication", login, f"replication={mode}", replace(DIALECT, replication=mode)
        )
    yield MAKE.attack(
        "login.password",
        channel,
        f"a password for {name} in place of a certificate, over TLS",
        _password,
        login,
    )
    declared = login.system.channel(login.service, login.resource.name)
    if declared and declared.originate:
        yield MAKE.use("use.direct-tls", channel, "TLS from the first byte", _direct, login)
        yield MAKE.attack(
            "tls.direct-no-certificate",
            channel,
            "TLS from the first byte, without a client certificate",
            _direct_without,
            login,
        )


def _elsewhere(identifier: str, login: Login, what: str, dialect: PostgreSQLDialect) -> Probe:
    async def tried(arena: Arena) -> Observation:
        hello = await genuine(arena, DIALECT, login.service)
        return await _judged(arena, dialect, login, hello)

    attempt = f"{login.service}'s own SVID, and {what}"
    return MAKE.attack(identifier, login.channel, attempt, tried)


async def _judged(
    arena: Arena, dialect: PostgreSQLDialect, login: Login, hello: Hello
) -> Observation:
    """The server says no in words; anything else leaves doubt."""
    try:
        secure = await enter(arena, dialect, login, hello)
    except PasswordAsked as asked:
        return served(str(asked))
    except (Alert, LoginRefused) as refusal:
        return refused(str(refusal))
    except (Closed, TimeoutError) as end:
        return not_run(str(end) or "no answer")
    await secure.close()
    return served("logged in")


async def _enters(arena: Arena, dialect: PostgreSQLDialect, login: Login) -> Observation:
    hello = await genuine(arena, dialect, login.service)
    try:
        secure = await enter(arena, dialect, login, hello)
    except (Closed, TimeoutError) as end:
        return refused(str(end) or "no answer")
    await secure.close()
    return served("logged in")


async def _direct(arena: Arena, login: Login) -> Observation:
    return await _until(Outcome.SERVED, lambda: _enters(arena, DIRECT, login))


async def _direct_without(arena: Arena, login: Login) -> Observation:
    hello = Hello(alpn=DIRECT.alpn)
    return await _until(
        Outcome.REFUSED, lambda: tried_to_enter(arena, DIRECT, login, hello), unless=Outcome.SERVED
    )


async def _until(
    wished: Outcome,
    tried: Callable[[], Awaitable[Observation]],
    *,
    unless: Outcome | None = None,
) -> Observation:
    """Where nothing comes before TLS, a door that is full just now looks like a refusal."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (seen := await tried()).outcome not in {wished, unless}:
        if time.monotonic() > deadline:
            break
        with idle():
            await asyncio.sleep(POLL_SECONDS)
    return seen


async def _password(arena: Arena, login: Login) -> Observation:
    """A server that asks for one at all lets it decide."""
    return await _judged(arena, DIALECT, login, Hello(alpn=DIALECT.alpn))
