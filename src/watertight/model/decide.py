"""Whether the declaration allows a call, by which line, and if not, what would have to be added.

Judges as the proxies do: the same path normalisation, the same template semantics, deny unless
granted. It reads the declaration alone, so it also answers for systems that do not run.
"""

import json
import re
from dataclasses import dataclass, replace

from watertight.model import codes
from watertight.model.claims import claim_texts
from watertight.model.document import quoted
from watertight.model.nearest import did_you_mean_or_list
from watertight.model.rewrites import steps
from watertight.model.spellings import Guards, spelling
from watertight.model.system import (
    GATEWAY,
    OUTSIDE,
    Channel,
    Gateway,
    Grant,
    HTTPGrant,
    Position,
    Protocol,
    Route,
    RPCGrant,
    Service,
    System,
)
from watertight.model.templates import (
    RefusedPath,
    has_escaped_slash,
    is_empty,
    normalise,
    parse_template,
    readable,
)
from watertight.model.values import Malformed, parse_grant, parse_method, parse_path_template

_PLAIN = re.compile(r"[A-Z-]+ /[A-Za-z0-9._~/-]*|[A-Za-z0-9._]+/[A-Za-z0-9_]+")
"""Grants that need no quotes in a list of YAML's."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the declaration says to one call."""

    allowed: bool
    reason: str
    """One or two sentences, with what to add if it is denied."""
    at: Position | None = None
    """The line that decides it; None: the absence of a line does."""
    channel: Channel | None = None
    answered: bool = True
    """False: what was asked names something that there is not."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A request in the terms of grants; ``method`` None: any request at all."""

    method: str | None
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def decide(
    system: System, source: str, target: str, method: str | None = None, path: str | None = None
) -> Decision:
    """Whether ``source`` may call ``target``, with this request if one is given.

    ``source`` is a service, ``gateway`` (paths as the service sees them) or ``outside`` (paths
    as the gateway sees them; then ``target`` may be ``gateway``, for whichever service answers).
    A gRPC method is given as ``shop.Catalogue/Get``, as ``shop.Catalogue`` and ``Get``, or as
    ``POST`` and ``/shop.Catalogue/Get``.
    """
    unknown = _unknown(system, source, target)
    if unknown is not None:
        return unknown
    routes = _routes(system, source, target)
    try:
        call = _call(system, source, target, method, path, routes)
    except RefusedPath as refusal:
        return Decision(False, str(refusal))
    decision = _decided(system, source, target, call, routes)
    asked = (path or "").partition("?")[0]
    if asked.startswith("/") and call.path not in {"", asked}:
        read = f"The path {quoted(asked)} is read as {quoted(call.path)}. "
        return replace(decision, reason=read + decision.reason)
    return decision


def _decided(
    system: System, source: str, target: str, call: _Call, routes: tuple[Route, ...]
) -> Decision:
    if source in {OUTSIDE, GATEWAY}:
        return _through_gateway(system, source, target, call, routes)
    if target == GATEWAY:
        return Decision(
            False,
            f"No service has a channel to the gateway; {quoted(source)} calls services directly.",
        )
    return _through_channel(system, source, target, call)


def _unknown(system: System, source: str, target: str) -> Decision | None:
    sources = {*system.services, OUTSIDE, GATEWAY}
    targets = {*system.services, *system.resources, GATEWAY}
    if source in system.resources:
        return Decision(
            False,
            f"{quoted(source)} is a resource; only services open channels.",
            system.resources[source].at,
        )
    for name, known in ((source, sources), (target, targets)):
        if name not in known:
            hint = did_you_mean_or_list(name, known)
            said = f"Nothing is declared as {quoted(name)}. {hint}"
            return Decision(False, said, answered=False)
    return None


def _routes(system: System, source: str, target: str) -> tuple[Route, ...]:
    """The routes that one such call may be taken by: at a service's door, those that lead to it."""
    if source == OUTSIDE and system.gateway is not None:
        return system.gateway.routes
    return system.routes_to(target) if source == GATEWAY else ()


def _call(
    system: System,
    source: str,
    target: str,
    method: str | None,
    path: str | None,
    routes: tuple[Route, ...],
) -> _Call:
    service = system.services.get(target)
    rpc = bool(service and service.listens and service.listens.protocol is Protocol.GRPC)
    if method is None and path is None:
        return _Call(None, "")
    if rpc and method is not None and "/" in method:
        return _Call("POST", f"/{method.lstrip('/')}")
    if rpc and method is not None and path is not None and "/" not in path:
        return _Call("POST", f"/{method}/{path}")
    asked = path if path is not None else "/"
    channel = system.channel(source, target)
    if channel is not None and not channel.grants:  # identity alone counts: paths stay as they are
        return _Call(method or "GET", readable(asked))
    plain = normalise(
        asked,
        escaped_slashes=any(route.escaped_slashes for route in routes),
        double_slashes=any(route.double_slashes for route in routes),
        at_door=source != OUTSIDE,
    )
    return _Call(method or "GET", plain)


def _through_channel(system: System, source: str, target: str, call: _Call) -> Decision:
    channel = system.channel(source, target)
    if channel is None:
        if source == target:
            return Decision(False, f"{quoted(source)} needs no channel to itself: 127.0.0.1 is it.")
        missing = f"No channel {quoted(f'{source} -> {target}')} is declared."
        try:
            example = _example(system, target, call)
        except Malformed as error:
            return Decision(False, f"{missing} {_never(error)}")
        return Decision(
            False,
            f"{missing} To allow it, add under `channels`: "
            f"{{from: {source}, to: {target}{example}}}",
        )
    if target in system.resources:
        return Decision(
            True,
            f"The channel {quoted(channel.name)} is declared; what may be done over it, "
            "the resource itself enforces.",
            channel.at,
            channel,
        )
    if not channel.grants:
        return Decision(
            True,
            f"The channel {quoted(channel.name)} is identity only: it allows every request.",
            channel.at,
            channel,
        )
    return _by_grants(channel, call)


def _by_grants(channel: Channel, call: _Call) -> Decision:
    granted = ", ".join(quoted(str(grant)) for grant in channel.grants)
    if call.method is None:
        reason = f"The channel {quoted(channel.name)} is declared, and grants {granted}."
        return Decision(True, reason, channel.at, channel)
    for grant in channel.grants:
        if _grants(grant, call):
            reason = f"The channel {quoted(channel.name)} grants {quoted(str(grant))}."
            return Decision(True, reason, channel.at, channel)
    try:
        missing = _as_grant(call, rpc=isinstance(channel.grants[0], RPCGrant))
        advice = f"To allow it, add {quoted(missing)} to its `allow`."
    except Malformed as error:
        advice = _never(error)
    return Decision(
        False,
        f"The channel {quoted(channel.name)} grants only {granted}. {advice}",
        channel.at,
        channel,
    )


def _grants(grant: Grant, call: _Call) -> bool:
    if isinstance(grant, HTTPGrant):
        return grant.method == call.method and parse_template(grant.path).matches(call.path)
    service, _, method = call.path[1:].partition("/")
    return (
        call.method == "POST"
        and grant.service == service
        and (
            grant.method == method
            or (grant.method == "*" and "/" not in method and not is_empty(method))
        )
    )


def _as_grant(call: _Call, *, rpc: bool) -> str:
    """The grant that would allow the call. Raises Malformed if no declaration may hold it."""
    grant = call.path[1:] if rpc else str(call)
    if isinstance(parse_grant(grant), RPCGrant) != rpc:
        raise Malformed(codes.BAD_GRANT, f"{quoted(grant)} is no gRPC method.")
    return grant


def _never(error: Malformed) -> str:
    """Said in place of advice that ``lint`` would refuse."""
    return f"No grant can allow it: {error.message} {error.remedy}".rstrip()


def _example(system: System, target: str, call: _Call) -> str:
    service: Service | None = system.services.get(target)
    if call.method is None or service is None or service.listens is None:
        return ""
    if service.listens.protocol is Protocol.TCP:
        return ""
    grant = _as_grant(call, rpc=service.listens.protocol is Protocol.GRPC)
    return f", allow: [{grant if _PLAIN.fullmatch(grant) else json.dumps(grant)}]"


def _through_gateway(
    system: System, source: str, target: str, call: _Call, routes: tuple[Route, ...]
) -> Decision:
    gateway = system.gateway
    if gateway is None:
        return Decision(False, "No gateway is declared, so nothing comes in from outside.")
    if source == GATEWAY and target == GATEWAY:
        return Decision(False, "The gateway does not call itself.")
    inner = source == GATEWAY
    if target in system.resources:
        return Decision(False, "The gateway leads to services only.", gateway.at)
    if call.method is None:
        return _any_route(gateway, target)
    for number, route in enumerate(routes):
        if not inner and (withheld := _withheld(gateway, number, call)):
            return withheld
        template = parse_template(route.target_path if inner else route.path)
        takes = call.method in route.methods and template.claims(call.path)
        if takes and _takes_slashes(route, call.path, routes):
            refused = None if inner else _dressed_up(routes, number, call.method, call.path)
            if refused is None and not template.matches(call.path):
                refused = _nothing_left(route, call.path)
            return refused or _by_route(route, target)
    if not inner and (withheld := _withheld(gateway, len(routes), call)):
        return withheld
    return Decision(
        False,
        f"No route of the gateway takes `{call}`"
        + (f" to {quoted(target)}" if target != GATEWAY else "")
        + f". {_route_advice(call)}",
        gateway.at,
    )


def _withheld(gateway: Gateway, before: int, call: _Call) -> Decision | None:
    for route in gateway.withheld.get(before, ()):
        if call.method in route.methods and parse_template(route.path).claims(call.path):
            taken = f"The route {quoted(_route_text(route))} takes it"
            return Decision(
                False, f"{taken}, and leads to {quoted(route.target)}, which is revoked.", route.at
            )
    return None


def _dressed_up(routes: tuple[Route, ...], number: int, method: str, path: str) -> Decision | None:
    """Why the route that takes a path refuses it, where it could be another one to some program."""
    route = routes[number]
    guard = _spelt_like(routes, number, method, path)
    if guard is not None:
        return Decision(
            False,
            f"To some programs {quoted(path)} is a spelling of what the route "
            f"{quoted(_route_text(guard))} guards, so {quoted(_route_text(route))} does not "
            "take it. Put a route for it before that one.",
            guard.at,
        )
    if any(re.fullmatch(step, path) for step in steps(route.path, route.rewrite)):
        return Decision(
            False,
            f"The route {quoted(_route_text(route))} takes it and refuses it: rewritten, it "
            "would be a step to another path.",
            route.at,
        )
    return None


def _nothing_left(route: Route, path: str) -> Decision:
    return Decision(
        False,
        f"The route {quoted(_route_text(route))} takes it and refuses it: a final `**` "
        f"stands for at least one segment. Put a route for {quoted(path)} before it.",
        route.at,
    )


def _spelt_like(routes: tuple[Route, ...], number: int, method: str, path: str) -> Route | None:
    """The route before this one that guards what some programs take the path for."""
    for guard in Guards(routes).of(number, method):
        if re.fullmatch(spelling(guard.path), path):
            return guard
    return None


def _route_advice(call: _Call) -> str:
    try:
        parse_method(call.method)
        parse_path_template(call.path)
    except Malformed as error:
        return f"No route can take it: {error.message} {error.remedy}".rstrip()
    return "To allow it, add one for it under `gateway.routes`."


def _takes_slashes(route: Route, path: str, routes: tuple[Route, ...]) -> bool:
    """Whether the route's opt-outs let the path in; where no route opts out nothing is left."""
    escaped = has_escaped_slash(path) and not route.escaped_slashes
    keeps = any(other.double_slashes for other in routes)
    return not escaped and not (keeps and "//" in path and not route.double_slashes)


def _by_route(route: Route, target: str) -> Decision:
    what = f"The route {quoted(_route_text(route))}"
    if target not in {GATEWAY, route.target}:
        return Decision(
            False, f"{what} takes it, and leads to {quoted(route.target)} instead.", route.at
        )
    return Decision(
        True, f"{what} leads to {quoted(route.target)}; it is open to {_demand(route)}.", route.at
    )


def _route_text(route: Route) -> str:
    return f"{'|'.join(route.methods)} {route.path}"


def _demand(route: Route) -> str:
    if route.require is None:
        return "anyone"
    require = route.require
    scopes = ", ".join(quoted(scope) for scope in require.scopes)
    demands = [f"the scope {scopes}"] if scopes else []
    demands += [f"the claim {text}" for text in claim_texts(require)]
    return f"tokens of the issuer {quoted(require.issuer)}" + (
        f" with {' and '.join(demands)}" if demands else ""
    )


def _any_route(gateway: Gateway, target: str) -> Decision:
    routes = [r for r in gateway.routes if target in {GATEWAY, r.target}]
    if not routes:
        return Decision(
            False,
            f"No route of the gateway leads to {quoted(target)}. To let the outside in, add one "
            "under `gateway.routes`.",
            gateway.at,
        )
    shown = ", ".join(quoted(_route_text(r)) for r in routes)
    return Decision(True, f"The gateway leads there by {shown}.", routes[0].at)
