"""Who may come in: every credential but the one caller's own right SVID must be refused.

The rules attacked are those of X509-SVID sections 2 to 5. Whoever else has a genuine SVID is
stopped by TLS already; a credential with a wrong shape must at the latest be stopped by RBAC.

Not attacked: a CA certificate whose key may also sign handshakes. Envoy's default validator takes
it for a leaf, its SPIFFE validator takes any extended key usage, and neither refuses both (measured
on 1.40). No profile of our authority allows either.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from watertight.attack.arena import Arena, Forgery
from watertight.attack.probe import Observation, Outcome, Probe, refused
from watertight.attack.tls import Hello, alerts
from watertight.dataplane.attacks.control import judged_at_door, permitted
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.requests import ALPN, WORD, at_door
from watertight.dataplane.attacks.tls import handshaken
from watertight.dataplane.attacks.ways import Way, ways
from watertight.model.system import System

DAY_SECONDS = 86_400
LOOK_SECONDS = 1.0
BATCH = 32
"""Handshakes between two looks at whether the probe's time is up."""


def forgeries(system: System, way: Way) -> dict[str, tuple[str, Forgery]]:
    """Probe id → what is wrong, and the forged credential of ``way``'s caller."""
    identity = system.spiffe_id(way.caller)
    right = Forgery(uri_sans=(identity,), dns_sans=(way.caller,), common_name=way.caller)
    elsewhere = f"spiffe://elsewhere.{system.trust_domain}/{way.caller}"
    expired = replace(right, not_before_seconds=-DAY_SECONDS, not_after_seconds=-60)
    early = replace(right, not_before_seconds=3600, not_after_seconds=7200)
    return {
        "identity.self-signed": ("a self-signed certificate", replace(right, issuer="self")),
        "identity.foreign-authority": (
            "an SVID from an unknown authority with our authority's names",
            replace(right, issuer="foreign"),
        ),
        "identity.expired": ("an SVID that expired a minute ago", expired),
        "identity.not-yet-valid": ("an SVID that is valid in an hour", early),
        "identity.common-name-only": (
            "the SPIFFE ID in the common name only",
            replace(right, uri_sans=(), common_name=identity),
        ),
        "identity.dns-san-only": (
            "the SPIFFE ID in a DNS SAN only",
            replace(right, uri_sans=(), dns_sans=(identity,)),
        ),
        "identity.two-uri-sans": (
            "two URI SANs, one of them right",
            replace(right, uri_sans=(identity, system.spiffe_id("watertight-second"))),
        ),
        "identity.two-uri-sans-second": (
            "two URI SANs, the second one right",
            replace(right, uri_sans=(system.spiffe_id("watertight-second"), identity)),
        ),
        "identity.longer-path": (
            "a SPIFFE ID that starts with the right one",
            replace(right, uri_sans=(f"{identity}/more",)),
        ),
        "identity.other-trust-domain": (
            "the right path in another trust domain",
            replace(right, uri_sans=(elsewhere,)),
        ),
        "identity.null-in-san": (
            "the right SPIFFE ID, a NUL, and more",
            replace(right, uri_sans=(f"{identity}\0.{system.trust_domain}",)),
        ),
        "identity.server-only-usage": (
            "extended key usage serverAuth only",
            replace(right, extended_key_usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        ),
        "identity.authority-as-leaf": (
            "a CA certificate as a leaf",
            replace(right, is_ca=True, extended_key_usages=()),
        ),
    }


def probes(system: System) -> Iterator[Probe]:
    """For every door: each forgery, and the genuine SVID of everybody else."""
    for way in ways(system):
        for identifier, (what, forgery) in forgeries(system, way).items():
            forged = attack(identifier, way.channel, what, _forged, way, forgery)
            # Whom a door of bytes lets past TLS, it holds for a while before it turns him away.
            yield forged if way.speaks_http else forged.waiting()
        others = tuple(name for name in system.workloads() if name != way.caller)
        every = attack(
            "identity.other-workload",
            way.channel,
            f"the genuine SVID of each other workload ({len(others)}) at the door for {way.caller}",
            _others,
            way,
            others,
        ).attempting(len(others))
        yield replace(every, costly=True)


async def _forged(arena: Arena, way: Way, forgery: Forgery) -> Observation:
    hello = Hello(credential=await arena.forge(forgery))
    seen = await at_door(arena, way, permitted(way), hello, word=WORD)
    return await judged_at_door(arena, way, seen)


async def _others(arena: Arena, way: Way, others: Sequence[str]) -> Observation:
    """One after another; what differs from a refusal is told of each.

    A quick look takes a TLS alert for what it is. From the first on that is met by anything else,
    each is looked at as a caller would: it may have been let in.
    """
    hellos = {other: await _genuine(arena, way, other) for other in others}
    seen = await _turned_away(arena.door(way.callee, way.caller), hellos)
    for other in others:
        if other not in seen:
            seen[other] = await handshaken(arena, way, hellos[other])
    for outcome in (Outcome.SERVED, Outcome.NOT_RUN):
        told = [f"{other}: {o.detail}" for other, o in seen.items() if o.outcome is outcome]
        if told:
            return Observation(outcome, "; ".join(told))
    return refused(
        f"{len(others)} turned away: {', '.join(sorted({o.detail for o in seen.values()}))}"
    )


async def _genuine(arena: Arena, way: Way, service: str) -> Hello:
    return Hello(credential=await arena.svid(service), alpn=ALPN[way.listens.protocol])


async def _turned_away(door: Path, hellos: Mapping[str, Hello]) -> dict[str, Observation]:
    """Those whom the door refuses with an alert, up to the first whom it does not."""
    seen: dict[str, Observation] = {}
    names = list(hellos)
    while batch := names[len(seen) : len(seen) + BATCH]:
        words = await asyncio.to_thread(
            alerts, door, [hellos[name] for name in batch], timeout_seconds=LOOK_SECONDS
        )
        seen |= {name: refused(word) for name, word in zip(batch, words, strict=False)}
        if len(words) < len(batch):
            break
    return seen
