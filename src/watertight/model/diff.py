"""What changes from one system to the next, in channels and grants: what ``plan`` shows.

A change *tightens* if something that worked before does not any more. Positions are no changes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from watertight.model.claims import claim_texts
from watertight.model.pieces import pieces
from watertight.model.system import (
    NOWHERE,
    Channel,
    Gateway,
    Limits,
    Position,
    Requirement,
    Route,
    Service,
    System,
)
from watertight.model.units import duration_text, rate_text, size_text

Sign = Literal["+", "-", "~"]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan: ``+ grant storefront -> orders: POST /orders``."""

    sign: Sign
    what: str
    tightens: bool = False
    at: Position = NOWHERE
    """In the new declaration, or, of what is lost, in the old one."""

    def __str__(self) -> str:
        return f"{self.sign} {self.what}"


def compare(old: System | None, new: System) -> tuple[Change, ...]:
    """Every change, services first, then resources, channels and the gateway; () if none."""
    before = old or System(trust_domain=new.trust_domain)
    return (
        *_trust_domain(before, new),
        *_services(before, new),
        *_resources(before, new),
        *_channels(before, new),
        *_gateway(before.gateway, new.gateway),
    )


def awaiting_restart(old: System | None, new: System) -> Mapping[str, Change]:
    """Services whose programs run on without the variables of a new channel, which alone restarts
    nothing; unless they have had them since an earlier channel."""
    if old is None:
        return {}
    found = {}
    known = {channel.name for channel in old.channels}
    for name, service in new.services.items():
        before = old.services.get(name)
        if before is None or not service.run or starts_anew(before, service):
            continue
        gained = [c.target for c in new.outgoing(name) if c.name not in known]
        if gained:
            found[name] = Change(
                "~",
                f"service {name} runs on: start its program anew to give it the variables of "
                f"{', '.join(gained)} (`watertight restart {name}`)",
                at=service.at,
            )
    return found


def starts_anew(old: Service, new: Service) -> bool:
    """Whether applying it restarts the program anyway."""
    return settled_of(old) != settled_of(new)


def settled_of(service: Service) -> tuple[Any, ...]:
    """What of a declared service its program is started with; another one is another start."""
    listens = asdict(service.listens) if service.listens else None
    return (
        service.run,
        service.directory,
        dict(service.environment),
        listens,
        asdict(service.limits),
    )


def _trust_domain(old: System, new: System) -> Iterator[Change]:
    if old.trust_domain != new.trust_domain:
        yield Change(
            "~",
            f"trust domain: {old.trust_domain} → {new.trust_domain}: every identity changes",
            tightens=True,
            at=Position(new.file, 1, 1),
        )


def _services(old: System, new: System) -> Iterator[Change]:
    for name in _lost(old.services, new.services):
        yield Change("-", f"service {name}", tightens=True, at=old.services[name].at)
    for name, service in new.services.items():
        before = old.services.get(name)
        if before is None:
            yield Change("+", f"service {name}{_listening(service)}", at=service.at)
            continue
        if before.listens != service.listens:
            was, now = _listening(before) or " no port", _listening(service) or " no port"
            lost = before.listens is not None
            yield Change("~", f"service {name}:{was} →{now}", tightens=lost, at=service.at)
        altered = [
            what
            for what in (
                *("run", "directory", "environment", "image", "ready", "contract"),
                "private_ports",
            )
            if getattr(before, what) != getattr(service, what)
        ]
        if altered:
            yield Change("~", f"service {name}: {', '.join(altered)} changed", at=service.at)
        yield from _limits(f"service {name}", before.limits, service.limits, service.at)


def _listening(service: Service) -> str:
    listens = service.listens
    return f" on {listens.protocol.value} {listens.port}" if listens else ""


def _resources(old: System, new: System) -> Iterator[Change]:
    for name in _lost(old.resources, new.resources):
        yield Change("-", f"resource {name}", tightens=True, at=old.resources[name].at)
    for name, resource in new.resources.items():
        before = old.resources.get(name)
        if before is None:
            yield Change("+", f"resource {name} ({resource.kind})", at=resource.at)
            continue
        if replace(before, at=resource.at, limits=resource.limits) != resource:
            yield Change("~", f"resource {name} changed", at=resource.at)
        yield from _limits(f"resource {name}", before.limits, resource.limits, resource.at)


def _limits(who: str, old: Limits, new: Limits, at: Position) -> Iterator[Change]:
    """One line for all: it is started anew once."""
    shown = []
    for what, was, now, text in (
        ("memory", old.memory_bytes, new.memory_bytes, size_text),
        ("processes", old.processes, new.processes, str),
        ("temp", old.temp_bytes, new.temp_bytes, size_text),
        ("files", old.files, new.files, str),
    ):
        if was != now:
            shown.append((f"{what} {text(was)} → {text(now)}", now < was))
    if shown:
        line = f"{who}: limits {', '.join(text for text, _ in shown)}; it is started anew"
        yield Change("~", line, tightens=any(less for _, less in shown), at=at)


def _channels(old: System, new: System) -> Iterator[Change]:
    before = {channel.name: channel for channel in old.channels}
    after = {channel.name: channel for channel in new.channels}
    for name in _lost(before, after):
        channel = before[name]
        yield Change("-", f"channel {name}{_carried(channel)}", tightens=True, at=channel.at)
    for name, channel in after.items():
        if name not in before:
            yield Change("+", f"channel {name}{_carried(channel)}", at=channel.at)
        else:
            yield from _channel(before[name], channel)


def _carried(channel: Channel) -> str:
    if channel.options:
        return f": {', '.join(pieces(channel.options)) or 'nothing'}"
    return f": {', '.join(map(str, channel.grants))}" if channel.grants else ": identity only"


def _channel(old: Channel, new: Channel) -> Iterator[Change]:
    if bool(old.grants) != bool(new.grants):
        yield Change(
            "~",
            f"channel {new.name}{_carried(old)} →{_carried(new)[1:]}",
            tightens=bool(new.grants),
            at=new.at,
        )
    else:
        before, after = set(old.grants), set(new.grants)
        for grant in old.grants:
            if grant not in after:
                yield Change("-", f"grant {new.name}: {grant}", tightens=True, at=new.at)
        for grant in new.grants:
            if grant not in before:
                yield Change("+", f"grant {new.name}: {grant}", at=new.at)
    was, now = old.timeout_seconds, new.timeout_seconds
    if was != now:
        tightens = now is not None and (was is None or now < was)
        shown = f"{_duration(was)} → {_duration(now)}"
        yield Change("~", f"channel {new.name}: timeout {shown}", tightens=tightens, at=new.at)
    if old.retries != new.retries:
        yield Change("~", f"channel {new.name}: retries {old.retries} → {new.retries}", at=new.at)
    if old.options != new.options:
        yield from _options(old, new)


def _options(old: Channel, new: Channel) -> Iterator[Change]:
    """What a resource grants, piece by piece; it may tighten whichever way it changes."""
    before, after = list(pieces(old.options)), list(pieces(new.options))
    lost = [piece for piece in before if piece not in after]
    for piece in lost:
        yield Change("-", f"grant {new.name}: {piece}", tightens=True, at=new.at)
    gained = [piece for piece in after if piece not in before]
    for piece in gained:
        yield Change("+", f"grant {new.name}: {piece}", tightens=True, at=new.at)
    if not lost and not gained:
        yield Change(
            "~", f"channel {new.name}: what the resource grants changed", tightens=True, at=new.at
        )


def _duration(seconds: float | None) -> str:
    return "none" if seconds is None else duration_text(seconds)


def _gateway(old: Gateway | None, new: Gateway | None) -> Iterator[Change]:
    if new is None:
        if old is not None:
            yield Change("-", f"gateway {old.hostname}", tightens=True, at=old.at)
        return
    if old is None:
        yield Change("+", f"gateway {new.hostname} on {new.endpoint}", at=new.at)
    else:
        yield from _gateway_settings(old, new)
    yield from _issuers(old, new)
    yield from _routes(old.routes if old else (), new.routes)


def _gateway_settings(old: Gateway, new: Gateway) -> Iterator[Change]:
    for what, was, now, tightens in (
        ("hostname", old.hostname, new.hostname, True),
        ("listen", old.endpoint, new.endpoint, True),
        ("certificate", old.certificate or "ours", new.certificate or "ours", False),
        ("private_key", old.private_key or "ours", new.private_key or "ours", False),
        (
            "max_request_size",
            size_text(old.max_request_bytes),
            size_text(new.max_request_bytes),
            new.max_request_bytes < old.max_request_bytes,
        ),
        (
            "max_header_size",
            size_text(old.max_header_bytes),
            size_text(new.max_header_bytes),
            new.max_header_bytes < old.max_header_bytes,
        ),
        (
            "max_headers",
            str(old.max_headers),
            str(new.max_headers),
            new.max_headers < old.max_headers,
        ),
    ):
        if was != now:
            yield Change("~", f"gateway: {what} {was} → {now}", tightens=tightens, at=new.at)


def _issuers(old: Gateway | None, new: Gateway) -> Iterator[Change]:
    before = old.issuers if old else {}
    for name in _lost(before, new.issuers):
        yield Change("-", f"issuer {name}", tightens=True, at=before[name].at)
    for name, issuer in new.issuers.items():
        if name not in before:
            yield Change("+", f"issuer {name} ({issuer.issuer})", at=issuer.at)
        elif replace(before[name], at=issuer.at) != issuer:
            yield Change("~", f"issuer {name} changed", tightens=True, at=issuer.at)


def _routes(old: tuple[Route, ...], new: tuple[Route, ...]) -> Iterator[Change]:
    before = {_route_key(route): route for route in old}
    after = {_route_key(route): route for route in new}
    for key in _lost(before, after):
        yield Change("-", f"route {key}", tightens=True, at=before[key].at)
    for key, route in after.items():
        if key not in before:
            yield Change("+", f"route {key}{_demand(route)}", at=route.at)
            continue
        yield from _route(key, before[key], route)
    kept_before = [key for key in before if key in after]
    kept_after = [key for key in after if key in before]
    if kept_before != kept_after:
        yield Change("~", "routes: their order changed; the first that matches wins", tightens=True)


def _route_key(route: Route) -> str:
    return f"{'|'.join(route.methods)} {route.path} -> {route.target}"


def _route(key: str, old: Route, new: Route) -> Iterator[Change]:
    if _demand(old) != _demand(new):
        shown = f"{_demand(old)} →{_demand(new)}"
        tightens = _demands_more(old.require, new.require)
        yield Change("~", f"route {key}:{shown}", tightens=tightens, at=new.at)
    if old.limit != new.limit:
        was = f"{rate_text(old.limit)} per {old.limit.per.value}" if old.limit else "no limit"
        now = f"{rate_text(new.limit)} per {new.limit.per.value}" if new.limit else "no limit"
        yield Change("~", f"route {key}: {was} → {now}", tightens=_is_tighter(old, new), at=new.at)
    was_seconds, now_seconds = old.timeout_seconds, new.timeout_seconds
    if was_seconds != now_seconds:
        shown = f"{_duration(was_seconds)} → {_duration(now_seconds)}"
        tightens = now_seconds is not None and (was_seconds is None or now_seconds < was_seconds)
        yield Change("~", f"route {key}: timeout {shown}", tightens=tightens, at=new.at)
    if old.keeps_host != new.keeps_host:
        shown = "the public host" if new.keeps_host else "its own host"
        yield Change("~", f"route {key}: the service sees {shown}", at=new.at)
    for what, had, has in (
        ("%2F", old.escaped_slashes, new.escaped_slashes),
        ("//", old.double_slashes, new.double_slashes),
    ):
        if had != has:
            shown = f"{what} {'passes' if has else 'is refused'}"
            yield Change("~", f"route {key}: {shown}", tightens=had, at=new.at)
    yield from _cors(key, old, new)
    if old.target_path != new.target_path:
        shown = f"{old.target_path} → {new.target_path}"
        yield Change("~", f"route {key}: the service sees {shown}", tightens=True, at=new.at)


def _cors(key: str, old: Route, new: Route) -> Iterator[Change]:
    was = set(old.cors.origins) if old.cors else set()
    now = set(new.cors.origins) if new.cors else set()
    for origin in sorted(was - now):
        yield Change("~", f"route {key}: pages of {origin} lose it", tightens=True, at=new.at)
    for origin in sorted(now - was):
        yield Change("~", f"route {key}: pages of {origin} may use it", at=new.at)
    if old.cors != new.cors and was == now:
        yield Change("~", f"route {key}: what pages may send and read", tightens=True, at=new.at)


def _demand(route: Route) -> str:
    if route.require is None:
        return " (anyone)"
    require = route.require
    claims = [", ".join(claim_texts(require))] if require.claims or require.any_claims else []
    return f" ({' '.join((f'issuer {require.issuer}', *require.scopes, *claims))})"


def _demands_more(old: Requirement | None, new: Requirement | None) -> bool:
    if new is None or old is None:
        return new is not None
    more = not set(new.scopes) <= set(old.scopes) or not set(new.claims) <= set(old.claims)
    other = bool(new.any_claims) and new.any_claims != old.any_claims
    return old.issuer != new.issuer or more or other


def _is_tighter(old: Route, new: Route) -> bool:
    if new.limit is None or old.limit is None:
        return new.limit is not None
    was = old.limit.requests / old.limit.window_seconds
    now = new.limit.requests / new.limit.window_seconds
    # Of two equal rates the one with fewer requests has the smaller bucket.
    smaller = now < was or new.limit.requests < old.limit.requests
    return smaller or old.limit.per is not new.limit.per


def _lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in before if name not in after]
