"""The rules of the gateway's part of a system: every route reachable, every demand meetable."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.nearest import did_you_mean
from watertight.model.rules import Flaw
from watertight.model.system import Gateway, Per, Protocol, Route, System
from watertight.model.template_index import TemplateIndex
from watertight.model.templates import parse_template, wildcard_texts


def gateway_flaws(
    system: System,
    broken: frozenset[str] = frozenset(),
    broken_issuers: frozenset[str] = frozenset(),
) -> Iterator[Flaw]:
    """Every error of the gateway; ``broken`` names are not judged (see :func:`rules.flaws`)."""
    gateway = system.gateway
    if gateway is None:
        return
    if (gateway.certificate is None) != (gateway.private_key is None):
        given, missing = (
            ("private_key", "certificate")
            if gateway.certificate is None
            else ("certificate", "private_key")
        )
        yield Flaw(
            codes.HALF_A_PAIR,
            ("gateway", given),
            f"The gateway has a `{given}` and no `{missing}`.",
            "Give both, or neither: then our own authority issues the certificate.",
            on_key=True,
        )
    for number, route in enumerate(gateway.routes):
        path: DocumentPath = ("gateway", "routes", number)
        yield from _target(system, route, path, broken)
        yield from _route(gateway, route, path, broken_issuers)
    yield from _shadows(gateway.routes)


def _target(
    system: System, route: Route, path: DocumentPath, broken: frozenset[str]
) -> Iterator[Flaw]:
    if route.target in broken:
        return
    service = system.services.get(route.target)
    if service is None:
        yield Flaw(
            codes.UNDECLARED,
            (*path, "to"),
            f"No service with the name {quoted(route.target)} is declared.",
            "The gateway leads to services only."
            if route.target in system.resources
            else did_you_mean(route.target, system.services),
        )
    elif service.listens is None:
        yield Flaw(
            codes.NOT_LISTENING,
            (*path, "to"),
            f"{quoted(route.target)} has no `listens`, so nobody can call it.",
            f"Give {quoted(route.target)} a `listens: {{http: PORT}}`.",
        )
    elif service.listens.protocol is Protocol.TCP:
        yield Flaw(
            codes.ROUTE_TO_BYTES,
            (*path, "to"),
            f"{quoted(route.target)} listens for tcp; the gateway speaks HTTP only.",
        )


def _route(
    gateway: Gateway, route: Route, path: DocumentPath, broken_issuers: frozenset[str]
) -> Iterator[Flaw]:
    for method in sorted({m for m in route.methods if route.methods.count(m) > 1}):
        yield Flaw(
            codes.DUPLICATE_METHOD,
            (*path, "methods"),
            f"The method {quoted(method)} stands here twice.",
        )
    if route.rewrite is not None:
        shown, seen = wildcard_texts(route.path), wildcard_texts(route.rewrite)
        if len(shown) != len(seen) or not all(map(_takes_up, shown, seen)):
            yield Flaw(
                codes.REWRITE_MISMATCH,
                (*path, "rewrite"),
                f"{quoted(route.rewrite)} does not take up the wildcards of {quoted(route.path)}.",
                "Both need the same wildcards in the same order.",
            )
    for key, given, needed in (
        ("escaped_slashes", route.escaped_slashes, "wildcard"),
        ("double_slashes", route.double_slashes, "`**`"),
    ):
        fits = wildcard_texts(route.path) if needed == "wildcard" else route.path.endswith("/**")
        if given and not fits:
            yield Flaw(
                codes.IDLE_OPT_OUT,
                (*path, key),
                f"{quoted(route.path)} has no {needed}: `{key}` lets nothing through.",
                f"Delete `{key}`.",
                on_key=True,
            )
    if route.cors and route.cors.credentials and "*" in route.cors.origins:
        yield Flaw(
            codes.CREDENTIALS_FOR_ALL,
            (*path, "cors", "credentials"),
            "Every page on the internet could act here with the cookies of whoever opens it.",
            "Name the origins, or delete `credentials`.",
            on_key=True,
        )
    issuer = route.require.issuer if route.require else None
    if issuer is not None and issuer not in gateway.issuers and issuer not in broken_issuers:
        yield Flaw(
            codes.UNKNOWN_ISSUER,
            (*path, "require", "issuer"),
            f"The gateway has no issuer {quoted(issuer)}.",
            did_you_mean(issuer, gateway.issuers) or "Declare it under `gateway.issuers`.",
        )
    if route.limit and route.limit.per is Per.SUBJECT and route.require is None:
        yield Flaw(
            codes.NO_SUBJECT,
            (*path, "limit", "per"),
            "This route is open to anyone, so a request has no subject to count by.",
            "Write `per: address`, or require a token.",
        )


def _takes_up(shown: str, seen: str) -> bool:
    """Wildcards are taken up in order, so two different names would say what is not so."""
    if "**" in (shown, seen) or (shown != "*" and seen != "*"):
        return shown == seen
    return True


def _shadows(routes: Sequence[Route]) -> Iterator[Flaw]:
    """Routes that an earlier one takes all requests of. The first route that claims one wins."""
    reached: dict[str, TemplateIndex[Route]] = defaultdict(TemplateIndex)
    for number, route in enumerate(routes):
        template = parse_template(route.path)
        for method in dict.fromkeys(route.methods):
            winner = next(reached[method].shadowing(template), None)
            if winner is None:
                reached[method].add(template, route)
                continue
            yield Flaw(
                codes.SHADOWED_ROUTE,
                ("gateway", "routes", number),
                f"`{method} {route.path}` never gets here: the earlier route "
                f"{quoted(winner.path)} (line {winner.at.line}) takes it.",
                "Put the narrower route first, or delete it.",
            )
