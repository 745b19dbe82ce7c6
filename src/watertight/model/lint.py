"""Semantic findings about a system: the errors of :mod:`rules`, and warnings."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeGuard

from watertight.model import codes
from watertight.model.document import DocumentPath, path_text, quoted
from watertight.model.environment import expansion_flaws, secret_flaws
from watertight.model.findings import Finding, Severity
from watertight.model.gateway_rules import gateway_flaws
from watertight.model.kinds import also_called
from watertight.model.looser import looser_behind
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.rules import Flaw, flaws
from watertight.model.system import (
    RESOURCE_LIMITS,
    Channel,
    Grant,
    HTTPGrant,
    Position,
    Requirement,
    Resource,
    Route,
    RPCGrant,
    System,
)
from watertight.model.template_index import TemplateIndex
from watertight.model.templates import (
    GAP,
    MAX_LENGTH,
    Template,
    has_wildcard,
    odd_characters,
    parse_template,
)

_DOTTED = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")
"""What is more likely a way through objects than a name: those with dots are mostly URLs."""


def lint(
    system: System,
    *,
    resource_kinds: Collection[str] = (),
    more: Iterable[Flaw] = (),
    locate: Callable[[DocumentPath, bool], Position] | None = None,
) -> tuple[Finding, ...]:
    """Every finding, errors and warnings, in order of position.

    ``resource_kinds`` are the kinds that some registered enforcer can enforce; a channel to a
    resource of another kind is an error, because nothing would hold it. ``more`` is what those
    enforcers found wrong; ``locate`` finds exact positions (:func:`watertight.model.load.locator`),
    without it a finding names the line of the service, resource, channel or route.
    """
    found = [
        *flaws(system),
        *gateway_flaws(system),
        *_resources(system, resource_kinds),
        *_services(system),
        *secret_flaws(system),
        *expansion_flaws(system),
        *_limits(system),
        *_private_ports(system),
        *_grants(system),
        *_gateway(system),
        *more,
    ]
    return in_order(located(system, found, locate))


def located(
    system: System,
    found: Iterable[Flaw],
    locate: Callable[[DocumentPath, bool], Position] | None = None,
) -> tuple[Finding, ...]:
    """Flaws of ``system`` as findings, each with its position; see :func:`lint`."""
    return tuple(
        Finding(
            f.code,
            f.message,
            locate(f.path, f.on_key) if locate else _at(system, f.path),
            path_text(f.path),
            f.remedy,
            f.severity,
        )
        for f in found
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By position."""
    return tuple(sorted(findings, key=lambda f: (f.at, f.code, f.message)))


def _warning(code: str, path: DocumentPath, message: str, remedy: str = "") -> Flaw:
    return Flaw(code, path, message, remedy, Severity.WARNING)


def _resources(system: System, kinds: Collection[str]) -> Iterator[Flaw]:
    used = {channel.target for channel in system.channels}
    for name, resource in system.resources.items():
        if name in used and resource.kind not in kinds:
            yield Flaw(
                codes.NO_ENFORCER,
                ("resources", name, "kind"),
                f"{quoted(name)} is a resource of kind {quoted(resource.kind)}, which "
                "no installed enforcer can hold to its channels"
                + (f"; there are {one_of(sorted(kinds))}." if kinds else "."),
                _kind_meant(resource.kind, kinds)
                or "Delete the channels to it, or install an enforcer.",
            )
        if resource.kind in kinds and not resource.port:
            yield Flaw(
                codes.NO_PORT,
                ("resources", name),
                f"Where a resource of kind {quoted(resource.kind)} listens is not known.",
                "Give it a `port`.",
                on_key=True,
            )
        if name not in used:
            yield _warning(
                codes.UNUSED_RESOURCE,
                ("resources", name),
                f"No channel leads to the resource {quoted(name)}.",
                "" if resource.kind in kinds else _kind_meant(resource.kind, kinds),
            )


def _kind_meant(kind: str, kinds: Collection[str]) -> str:
    meant = also_called(kind)
    return f"Did you mean {quoted(meant)}?" if meant in kinds else did_you_mean(kind, kinds)


def _services(system: System) -> Iterator[Flaw]:
    busy = {end for channel in system.channels for end in (channel.source, channel.target)}
    busy |= {route.target for route in system.gateway.routes} if system.gateway else set()
    for name, service in system.services.items():
        if name not in busy:
            yield _warning(
                codes.LONELY_SERVICE,
                ("services", name),
                f"{quoted(name)} calls nobody and nobody calls it.",
                "Declare a channel from or to it, or a route, if it should not be alone.",
            )
        if not service.run and service.image is None:
            yield _warning(
                codes.NOTHING_TO_RUN,
                ("services", name),
                f"{quoted(name)} has neither `run` nor `image`: nothing starts it.",
            )


_LEAST_MEMORY_BYTES, _LEAST_PROCESSES = 64 << 20, 16
"""Below it an interpreter, a virtual machine or a server of any kind hardly starts."""


def _private_ports(system: System) -> Iterator[Flaw]:
    for name, service in system.services.items():
        taken = {service.listens.port: "its `listens` has it"} if service.listens else {}
        for number, port in enumerate(service.private_ports):
            if port in taken:
                yield _warning(
                    codes.PRIVATE_PORT_TAKEN,
                    ("services", name, "private_ports", number),
                    f"The port {port} is no further port of `{name}`: {taken[port]} already.",
                    "Leave it out.",
                )
            taken.setdefault(port, "`private_ports` names it")


def _limits(system: System) -> Iterator[Flaw]:
    for part, named in (("services", system.services), ("resources", system.resources)):
        for name, workload in named.items():
            limits, path = workload.limits, (part, name, "limits")
            if isinstance(workload, Resource) and workload.external:
                if limits != RESOURCE_LIMITS:
                    yield _warning(
                        codes.LIMITS_ELSEWHERE,
                        path,
                        f"{quoted(name)} is run by somebody else: these limits hold nobody.",
                        "Delete them, and set limits where it runs.",
                    )
                continue
            tight = [
                what
                for what, is_tight in (
                    ("memory", limits.memory_bytes < _LEAST_MEMORY_BYTES),
                    ("processes", limits.processes < _LEAST_PROCESSES),
                )
                if is_tight
            ]
            for what in tight:
                yield _warning(
                    codes.TIGHT_LIMIT,
                    (*path, what),
                    f"With so little of `{what}`, few programs start at all.",
                    "Node, Java and Python want 64MiB and 16 processes (threads count) at least.",
                )


def _grants(system: System) -> Iterator[Flaw]:
    for number, channel in enumerate(system.channels):
        path: DocumentPath = ("channels", number, "allow")
        yield from _covered(channel, path)
        for index, grant in enumerate(channel.grants):
            if isinstance(grant, HTTPGrant) and grant.path == "/**":
                yield _warning(
                    codes.GRANT_OF_ALL,
                    (*path, index),
                    f"{quoted(str(grant))} grants every path to {quoted(channel.source)}.",
                    "Name the paths that it needs.",
                )
            if isinstance(grant, HTTPGrant):
                yield from _odd_literal((*path, index), grant.path)
        http = [(g.method, g.path) for g in channel.grants if isinstance(g, HTTPGrant)]
        for index, grant in enumerate(channel.grants):
            if isinstance(grant, HTTPGrant) and grant.path == "/**":
                yield from _root_closed((*path, index), (grant.method,), http)


def _covered(channel: Channel, path: DocumentPath) -> Iterator[Flaw]:
    """Grants that allow nothing of their own. The widest come first, so one look is enough."""
    kept: dict[str, TemplateIndex[tuple[Template, HTTPGrant]]] = defaultdict(TemplateIndex)
    whole = {grant.service: grant for grant in channel.grants if _is_whole(grant)}
    http = [
        (parse_template(grant.path), grant, index)
        for index, grant in enumerate(channel.grants)
        if isinstance(grant, HTTPGrant)
    ]
    for template, grant, index in sorted(http, key=lambda entry: _narrowness(*entry[:2])):
        candidates = kept[grant.method].shadowing(template)
        wider = next((g for t, g in candidates if t.covers(template)), None)
        if wider is None:
            kept[grant.method].add(template, (template, grant))
        else:
            yield _adds_nothing(path, index, grant, wider)
    for index, rpc in enumerate(channel.grants):
        if isinstance(rpc, RPCGrant) and rpc.method != "*" and rpc.service in whole:
            yield _adds_nothing(path, index, rpc, whole[rpc.service])


def _is_whole(grant: Grant) -> TypeGuard[RPCGrant]:
    return isinstance(grant, RPCGrant) and grant.method == "*"


def _narrowness(template: Template, grant: HTTPGrant) -> tuple[bool, int, int, str]:
    """A template that covers another one sorts before it; of two spellings the first by name."""
    literals = sum(map(_literal_length, template.segments))
    return not template.rest, len(template.segments), literals, grant.path


def _literal_length(segment: str) -> int:
    """How narrow a segment is: by its literal characters, above all if there are no others."""
    return len(segment.replace(GAP, "")) if has_wildcard(segment) else MAX_LENGTH


def _adds_nothing(path: DocumentPath, index: int, grant: Grant, wider: Grant) -> Flaw:
    return _warning(
        codes.COVERED_GRANT,
        (*path, index),
        f"{quoted(str(grant))} adds nothing: {quoted(str(wider))} grants it already.",
        "Delete one of them.",
    )


def _gateway(system: System) -> Iterator[Flaw]:
    gateway = system.gateway
    if gateway is None:
        return
    if not gateway.routes:
        yield _warning(codes.NO_ROUTES, ("gateway",), "The gateway has no routes: it refuses all.")
    used = {route.require.issuer for route in gateway.routes if route.require}
    for name in gateway.issuers:
        if name not in used:
            yield _warning(
                codes.UNUSED_ISSUER,
                ("gateway", "issuers", name),
                f"No route requires a token of the issuer {quoted(name)}.",
            )
    for number, route in enumerate(gateway.routes):
        path: DocumentPath = ("gateway", "routes", number)
        if route.require is None and route.limit is None:
            yield _warning(
                codes.OPEN_WITHOUT_LIMIT,
                path,
                f"{quoted(route.path)} is open to anyone, as often as they like.",
                "Add `limit: {per: address, rate: 100/s}`.",
            )
        yield from _opt_outs(route, path)
        yield from _plain_origins(route, path)
        if route.path == "/**":
            every = [(m, r.path) for r in gateway.routes for m in r.methods]
            yield from _root_closed(path, route.methods, every)
        for text in dict.fromkeys((route.path, route.rewrite or route.path)):
            yield from _odd_literal(path, text)
        if route.require:
            yield from _dotted_claims(route.require, (*path, "require"))
    yield from _looser_first(gateway.routes)
    yield from looser_behind(gateway.routes)


def _opt_outs(route: Route, path: DocumentPath) -> Iterator[Flaw]:
    if route.escaped_slashes:
        yield _warning(
            codes.ESCAPED_SLASHES,
            (*path, "escaped_slashes"),
            f"{quoted(route.target)} is sent `%2F` by {quoted(route.path)}: where it reads that as "
            "a slash, it sees another path than the one that was judged here.",
        )
    if route.double_slashes:
        yield _warning(
            codes.DOUBLE_SLASHES,
            (*path, "double_slashes"),
            f"{quoted(route.target)} is sent `//` by {quoted(route.path)}: where it reads that as "
            "one slash, it sees another path than the one that was judged here.",
        )


_AT_HOME = re.compile(r"http://(localhost|[a-z0-9.-]+\.localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


def _plain_origins(route: Route, path: DocumentPath) -> Iterator[Flaw]:
    for number, origin in enumerate(route.cors.origins if route.cors else ()):
        if origin.startswith("http://") and not _AT_HOME.fullmatch(origin):
            yield _warning(
                codes.PLAIN_ORIGIN,
                (*path, "cors", "origins", number),
                f"Whoever is on the way to {quoted(origin)} can put a script into its pages, and "
                "use this route with it.",
                "Serve the page over `https`.",
            )


def _odd_literal(path: DocumentPath, text: str) -> Iterator[Flaw]:
    if odd := odd_characters(text):
        star = (
            " A `*` beside other characters is a star; for a wildcard write `{name}`."
            if "*" in odd
            else ""
        )
        yield _warning(
            codes.ODD_LITERAL,
            path,
            f"{quoted(text)} holds {' '.join(map(quoted, odd))}, which programs read in more than "
            f"one way; here each stands for itself and for its escape.{star}",
        )


def _root_closed(
    path: DocumentPath, methods: Sequence[str], declared: Collection[tuple[str, str]]
) -> Iterator[Flaw]:
    closed = [method for method in methods if (method, "/") not in declared]
    if closed:
        yield _warning(
            codes.ROOT_CLOSED,
            path,
            f"`/**` stands for at least one segment: `{'|'.join(closed)} /` stays closed.",
            "Declare `/` too, if it should be open.",
        )


def _dotted_claims(require: Requirement, path: DocumentPath) -> Iterator[Flaw]:
    groups = {("claims",): require.claims} | {
        ("any_claims", number): group for number, group in enumerate(require.any_claims)
    }
    for where, group in groups.items():
        for claim_path in dict.fromkeys(claim.path for claim in group):
            if dotted := next((n for n in claim_path if _DOTTED.fullmatch(n)), None):
                names = dotted.split(".")
                inside = "{" + ": {".join(names) + ": …" + "}" * len(names)
                yield _warning(
                    codes.DOTTED_CLAIM,
                    (*path, *where),
                    f"{quoted(dotted)} is the name of one claim, with its dots.",
                    f"For a claim inside another one write `{inside}`.",
                )


def _looser_first(routes: Sequence[Route]) -> Iterator[Flaw]:
    open_to_anyone: dict[str, TemplateIndex[Route]] = defaultdict(TemplateIndex)
    for number, route in enumerate(routes):
        template = parse_template(route.path)
        if route.require is None:
            for method in route.methods:
                open_to_anyone[method].add(template, route)
            continue
        takers = (open_to_anyone[method].overlapping(template) for method in route.methods)
        looser = next(chain.from_iterable(takers), None)
        if looser is not None:
            yield _warning(
                codes.LOOSER_ROUTE_FIRST,
                ("gateway", "routes", number),
                f"Some requests for {quoted(route.path)} are taken by the earlier route "
                f"{quoted(looser.path)} (line {looser.at.line}), which requires no token.",
                "Put the route that requires a token first.",
            )


def _at(system: System, path: DocumentPath) -> Position:
    """Where the thing that ``path`` leads into was declared."""
    gateway = system.gateway
    match path:
        case ("services", str(name), *_):
            return system.services[name].at
        case ("resources", str(name), *_):
            return system.resources[name].at
        case ("channels", int(number), *_):
            return system.channels[number].at
        case ("gateway", "issuers", str(name), *_) if gateway:
            return gateway.issuers[name].at
        case ("gateway", "routes", int(number), *_) if gateway:
            return gateway.routes[number].at
        case _:
            return gateway.at if gateway else Position(system.file, 1, 1)
