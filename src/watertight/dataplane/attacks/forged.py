"""Headers that no caller may write, by every name that a program may read them under.

What counts is what reached the app, which only a witness sees; an app that says nothing of its
headers would hide it. So without one the answer may tell of a breach, but never that there is none.
"""

import secrets
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.http import Answer
from watertight.attack.overheard import requests_in
from watertight.attack.probe import Observation, Probe, no_key, refused, served
from watertight.attack.probe import not_run as cannot
from watertight.attack.wire import Absent, Closed
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.control import permitted
from watertight.dataplane.attacks.desync.sides import (
    Caller,
    NoKey,
    Person,
    Side,
    outsiders,
)
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.replies import app_is_absent, refusal
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS
from watertight.dataplane.attacks.ways import ways
from watertight.model.system import Protocol, System

OURS = (
    *("x-watertight-subject", "x-watertight-client", "x-forwarded-client-cert", "x-forwarded-for"),
    *("x-envoy-original-path", "x-envoy-internal", "forwarded", "client-cert", "x-real-ip"),
    *("wl-proxy-client-ip", "proxy-client-ip", "true-client-ip", "ssl-client-verify"),
    *("akamai-client-ip", "x-nf-client-connection-ip", "x-vercel-forwarded-for"),
    *("cf-connecting-ipv6", "x-client-cert-spiffe", "ms-aspnetcore-clientcert", "l5d-client-id"),
)
"""What an app may take a proxy's word for, whoever asks."""
JUDGED = ("x-http-method-override", "x-original-url", "x-rewrite-url", "x-script-name")
"""What makes another request of one that was judged."""
OUTSIDE = (
    *("remote-user", "x-remote-user", "x-auth-request-user", "x-amzn-oidc-identity"),
    *("x-appengine-user-email", "x-goog-authenticated-user-email", "x-ms-client-principal-name"),
    *("x-original-url", "x-original-uri", "x-rewrite-url", "x-http-method-override"),
    *("x-middleware-subrequest", "x-script-name", "x-azure-clientip", "x-request-id"),
    *("cf-access-jwt-assertion", "x-goog-iap-jwt-assertion", "tailscale-user-login"),
    *("fly-client-ip", "x-consumer-id", "x-consumer-username", "x-consumer-custom-id"),
    *("x-credential-identifier", "x-anonymous-consumer", "x-userinfo", "x-jwt-assertion"),
    *("x-endpoint-api-userinfo", "x-apigateway-api-userinfo", "x-ms-token-aad-id-token"),
    *("x-ms-client-principal", "impersonate-user", "impersonate-group", "impersonate-uid"),
    *("impersonate-extra-scopes", "x-auth-user", "x-remote-email", "oidc-claim-sub", "sm-user"),
    *("iv-user", "shib-session-id", "x-remote-extra-scopes", "x-auth-username", "auth-user"),
    *("x-vouch-user", "x-jwt-claim-sub", "dapr-caller-app-id", "x-amzn-request-context"),
)
"""And what nobody outside may say."""

AT_ONCE = 20
"""So many in one request: a gateway may take few."""


def probes(system: System) -> Iterator[Probe]:
    """For every HTTP channel between services, and for each app at the gateway."""
    for way in ways(system):
        if way.from_service and way.listens.protocol is Protocol.HTTP:
            lies = (*OURS, *JUDGED) if way.grants else OURS
            yield attack(
                "grants.forged-headers",
                way.channel,
                f"{len(lies)} headers that only proxies write, in three spellings",
                _forged,
                Caller(way, permitted(way)),
                (way.callee, way.listens.port),
                lies,
            )
    names = (*OURS, *OUTSIDE)
    for name, listens, outsider in outsiders(system):
        where = outsider.route.path
        yield attack(
            "gateway.forged-headers",
            edge.CHANNEL,
            f"{len(names)} headers at {where} that only proxies write, in three spellings",
            _forged,
            outsider,
            (name, listens.port),
            names,
        )


async def _forged(
    arena: Arena, person: Person, app: tuple[str, int], names: tuple[str, ...]
) -> Observation:
    # As they are, with a point for the last hyphen, and with underscores for all.
    others = [name for name in names if "-" in name]
    spelt = [
        *names,
        *(".".join(name.rsplit("-", 1)) for name in others),
        *(name.replace("-", "_") for name in others),
    ]
    turned_away, streams = True, False
    async with arena.witness(*app) as witness:
        for at in range(0, len(spelt), AT_ONCE):
            mark = f"wt{secrets.token_hex(6)}"
            try:
                side = await person.side(arena, mark)
                lies = [(n, f"forged-{mark}") for n in spelt[at : at + AT_ONCE]]
                answer = await _said(side, lies, streams=streams)
                streams = streams or (answer is not None and not answer.whole)
            except NoKey as missing:
                return no_key(str(missing))
            except (Absent, Closed) as gone:
                return cannot(f"the right caller is turned away: {gone}")
            if answer is not None and app_is_absent(answer):
                return cannot(f"the app is absent: {answer.status}")
            if witness is None:
                # Some apps say in their answer what they were told.
                if answer is not None and f"forged-{mark}".encode() in answer.body:
                    return served("the app answers with what was forged")
                turned_away = turned_away and answer is not None and refusal(answer) is not None
                continue
            talks = witness.conversations(mark.encode())
            asked = [heard for seen in talks for heard in requests_in(seen.asked)]
            told = {n for heard in asked for n, value in heard.headers if f"forged-{mark}" in value}
            if told:
                return served(f"the app was told {', '.join(sorted(told))}")
            if not asked and (answer is None or not refusal(answer)):
                return cannot("the witness did not see the request reach the app")
    if witness is None and not turned_away:
        return cannot("answered, but nobody may look at what the app was told (packet sockets)")
    return refused(f"none of {len(spelt)} reached the app")


async def _said(side: Side, lies: list[tuple[str, str]], *, streams: bool) -> Answer | None:
    """The answer; its head alone if it ``streams``, or if its end does not come in time."""
    talk, method = await side.talk(), side.base.method
    request = side.saying(*lies).plain()
    try:
        if streams:
            return await talk.ask_for_head(request, method, TIMEOUT_SECONDS)
        return await talk.ask(request, method, TIMEOUT_SECONDS) or talk.begun(method)
    finally:
        await talk.close()
