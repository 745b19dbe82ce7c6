"""A TLS session taken up again: who does so shows no certificate."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.login import Dialect, Login, enter, right, secured, tried_to_enter
from watertight.attack.make import ProbeMaker
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused
from watertight.attack.tls import Alert, Hello, TLSWire
from watertight.attack.wire import Absent, Closed

REVOKED = "watertight-revoked"
"""An identity without a channel, as one is that was revoked."""
BRIEF_SECONDS = 6
"""How long the SVID lives whose session is taken up again after its end."""
FRESH_SECONDS, LAST_SECONDS = 0.3, 0.05
"""Between two sessions of who keeps one fresh; and between the last ten, which count."""
RESUMPTIONS = 12
"""A server of several threads may have a ticket's key in one of them only: of 12 tries at Kafka on
Java 17, 4 were taken."""


def probes(dialect: Dialect, login: Login) -> Iterator[Probe]:
    """In each version of TLS that the server speaks: after the end of an SVID, and of a channel."""
    attack = ProbeMaker(dialect.enforcer).attack
    versions = [
        v for v in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) if v >= dialect.lowest_tls
    ]
    for version in versions:
        spoken = version.name.removeprefix("TLSv").replace("_", ".")
        yield attack(
            "sessions.resumption-after-expiry",
            login.channel,
            f"a TLS {spoken} session taken up again after its SVID has expired",
            _after_expiry,
            dialect,
            login,
            version,
        ).waiting()
        yield attack(
            "sessions.resumption-after-revoke",
            login.channel,
            f"a TLS {spoken} session taken up again whose identity has no channel (any more)",
            _after_revoke,
            dialect,
            login,
            version,
        )


async def _after_expiry(
    arena: Arena, dialect: Dialect, login: Login, version: ssl.TLSVersion
) -> Observation:
    """Who resumes shows no certificate: an expired or distrusted one would live on."""
    brief = replace(right(login), not_after_seconds=BRIEF_SECONDS)
    hello = Hello(
        credential=await arena.forge(brief), alpn=dialect.alpn, versions=(version, version)
    )
    expired = time.monotonic() + BRIEF_SECONDS + 1.5
    try:
        held = await enter(arena, dialect, login, hello)
    except (Closed, TimeoutError) as end:
        return not_run(f"an SVID of {BRIEF_SECONDS} s is turned away while valid: {end}")
    try:
        held = await _kept_fresh(arena, dialect, login, hello, held, expired)
        with idle():
            await asyncio.sleep(expired - time.monotonic())  # the attack itself
        for _ in range(RESUMPTIONS):
            seen = await tried_to_enter(arena, dialect, login, hello, earlier=held)
            if seen.outcome is not Outcome.REFUSED:
                break
        return seen
    finally:
        await held.close()


async def _kept_fresh(
    arena: Arena,
    dialect: Dialect,
    login: Login,
    hello: Hello,
    held: TLSWire,
    until: float,
) -> TLSWire:
    """Takes the session up again and again, as long as the server lets it be and the SVID is valid.

    A server that remembers few sessions (MariaDB 128) forgets an old one while a proof goes on, but
    not the newest. Returns the last that was held; those before it are closed.
    """
    try:
        while (left := until - time.monotonic()) > LAST_SECONDS:
            again = await enter(arena, dialect, login, hello, earlier=held)
            if not again.tls.session_reused:
                await again.close()
                break
            await held.close()
            held = again
            with idle():
                await asyncio.sleep(FRESH_SECONDS if left > 10 * LAST_SECONDS else LAST_SECONDS)
    except (Absent, Closed, TimeoutError):
        pass
    except BaseException:  # the prober gives up on us: nobody else knows of this one
        await held.close()
        raise
    return held


async def _after_revoke(
    arena: Arena, dialect: Dialect, login: Login, version: ssl.TLSVersion
) -> Observation:
    """A session brings its old identity along: the server must look again who that is now."""
    nobody = right(replace(login, service=REVOKED))
    hello = Hello(
        credential=await arena.forge(nobody), alpn=dialect.alpn, versions=(version, version)
    )
    try:
        first = await secured(arena.door(login.resource.name, login.service), dialect, hello)
    except Alert as refusal:
        return refused(f"no session to begin with: {refusal}")
    try:
        # Turned away, and given tickets all the same: they come with the server's first answer.
        with contextlib.suppress(Absent, Closed, TimeoutError):
            await dialect.login(first, login)
        return await tried_to_enter(arena, dialect, login, hello, earlier=first)
    finally:
        await first.close()
