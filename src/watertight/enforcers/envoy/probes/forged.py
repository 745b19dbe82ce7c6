"""Headers that no caller may write, by every name that a program may read them under.

What counts is what reached the app, which only a witness sees; an app that says nothing of its
headers would hide it.
"""

import secrets
from collections.abc import Iterator
from dataclasses import replace

from watertight.enforcers.attack.http import Answer
from watertight.enforcers.attack.overheard import requests_in
from watertight.enforcers.attack.wire import Absent, Closed
from watertight.enforcers.contract import Arena, Observation, Probe, no_key, refused, served
from watertight.enforcers.contract import not_run as cannot
from watertight.enforcers.envoy.probes import edge
from watertight.enforcers.envoy.probes.control import permitted
from watertight.enforcers.envoy.probes.desync.shapes import Base
from watertight.enforcers.envoy.probes.desync.sides import Caller, NoKey, Outsider, Person, Side
from watertight.enforcers.envoy.probes.make import attack
from watertight.enforcers.envoy.probes.replies import app_is_absent, refusal
from watertight.enforcers.envoy.probes.requests import TIMEOUT_SECONDS
from watertight.enforcers.envoy.probes.ways import ways
from watertight.model.system import Protocol, System

OURS = (
    *("x-watertight-subject", "x-watertight-client", "x-forwarded-client-cert", "x-forwarded-for"),
    *("x-envoy-original-path", "x-envoy-internal", "forwarded", "client-cert", "x-real-ip"),
    *("wl-proxy-client-ip", "proxy-client-ip", "true-client-ip", "ssl-client-verify"),
)
"""What an app may take a proxy's word for, whoever asks."""
OUTSIDE = (
    *("remote-user", "x-remote-user", "x-auth-request-user", "x-amzn-oidc-identity"),
    *("x-appengine-user-email", "x-goog-authenticated-user-email", "x-ms-client-principal-name"),
    *("x-original-url", "x-original-uri", "x-rewrite-url", "x-http-method-override"),
    *("x-middleware-subrequest", "x-script-name", "x-azure-clientip"),
)
"""And what nobody outside may say."""

AT_ONCE = 20
"""So many in one request: a gateway may take few."""


def probes(system: System) -> Iterator[Probe]:
    """For every HTTP channel between services, and for each app at the gateway."""
    for way in ways(system):
        if way.from_service and way.listens.protocol is Protocol.HTTP:
            yield attack(
                "grants.forged-headers",
                way.channel,
                f"{len(OURS)} headers that only proxies write, in two spellings",
                _forged,
                Caller(way, permitted(way)),
                (way.callee, way.listens.port),
                OURS,
            )
    for name, service in system.services.items():
        routes, gateway = system.routes_to(name), system.gateway
        if gateway is None or service.listens is None or not routes:
            continue
        if service.listens.protocol is Protocol.HTTP:
            route = min(routes, key=lambda r: r.require is not None)
            names = (*OURS, *OUTSIDE)
            yield attack(
                "gateway.forged-headers",
                edge.CHANNEL,
                f"{len(names)} headers at {route.path} that only proxies write, in two spellings",
                _forged,
                Outsider(gateway, route),
                (name, service.listens.port),
                names,
            )


async def _forged(
    arena: Arena, person: Person, app: tuple[str, int], names: tuple[str, ...]
) -> Observation:
    # One with a point where the other has its last hyphen.
    spelt = [*names, *(".".join(name.rsplit("-", 1)) for name in names if "-" in name)]
    looked = True
    async with arena.witness(*app) as witness:
        for at in range(0, len(spelt), AT_ONCE):
            mark = f"wt{secrets.token_hex(6)}"
            try:
                side = await person.side(arena, mark)
                answer = await _said(
                    side, [(n, f"forged-{mark}") for n in spelt[at : at + AT_ONCE]]
                )
            except NoKey as missing:
                return no_key(str(missing))
            except (Absent, Closed) as gone:
                return refused(str(gone))
            if answer is None or refusal(answer) or app_is_absent(answer):
                return refused(f"answered {answer.status}" if answer else "no answer")
            if witness is None:
                looked = False
                continue
            talks = witness.conversations(mark.encode())
            asked = [heard for seen in talks for heard in requests_in(seen.asked)]
            told = {n for heard in asked for n, value in heard.headers if f"forged-{mark}" in value}
            if not asked:
                return cannot("the witness did not see the request reach the app")
            if told:
                return served(f"the app was told {', '.join(sorted(told))}")
    return refused(f"none of {len(spelt)} reached the app" if looked else "answered; no witness")


async def _said(side: Side, lies: list[tuple[str, str]]) -> Answer | None:
    base = Base(side.base.method, side.base.target, (*side.base.lines, *lies))
    talk = await side.talk()
    try:
        return await talk.ask(replace(side, base=base).plain(), side.base.method, TIMEOUT_SECONDS)
    finally:
        await talk.close()
