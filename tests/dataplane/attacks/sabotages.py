"""The table of sabotages: what is weakened, and exactly which probes must turn red for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.at_once import at_once
from tests.dataplane.attacks import weaken
from tests.dataplane.attacks.weaken import Weaken, cluster, listener, manager, routes, tls, together
from tests.dataplane.attacks.weakenings import (
    DOOR,
    HTTPS,
    Live,
    a_route_is_missing,
    another_name,
    any_bearer,
    any_host,
    any_method,
    any_page,
    any_size,
    blanks_taken,
    by_prefix,
    claims_unread,
    expired_taken,
    few_connections,
    filters_off,
    foreign_trusted,
    from_query,
    hosts_believed,
    hyphens_only,
    lax,
    never_shown_out,
    no_certificate_needed,
    no_challenge,
    no_limits,
    no_names,
    no_page,
    nobody_asked,
    none_is_ambiguous,
    odd_hosts_taken,
    old_codings_taken,
    old_https,
    open_fallback,
    overrides_pass,
    past_the_gateway,
    past_the_judge,
    provider,
    read_as_written,
    request_ids_believed,
    scheme_as_written,
    sessions_resumed,
    slashes_taken_by_all,
    steps_up_taken,
    stranger_s_door,
    targets_obeyed,
    targets_reached,
    tokens_ignored,
    undeclared_listener,
    untrusted_taken,
    usage_ignored,
    whole_paths_logged,
)

POLICY = "storefront -> orders"
OUTSIDE = "outside -> gateway"


@dataclass(frozen=True)
class Sabotage:
    """One weakening. On ``channels``, exactly the probes ``breaks`` must break."""

    name: str
    weaken: Callable[[Live], Weaken]
    breaks: frozenset[str]
    channels: tuple[str, ...] = (POLICY,)
    felt: frozenset[str] = frozenset()
    """Those that may break, too: they run beside an attack that succeeds."""


def sabotage(
    name: str,
    how: Callable[[Live], Weaken],
    *breaks: str,
    on: tuple[str, ...] = (POLICY,),
    felt: tuple[str, ...] = (),
) -> Sabotage:
    return Sabotage(name, how, frozenset(breaks), on, frozenset(felt))


def always(how: Weaken) -> Callable[[Live], Weaken]:
    return lambda _live: how


def joined(group: Sequence[Sabotage]) -> Sabotage:
    """All of these at once."""
    if len(group) == 1:
        return group[0]
    return Sabotage(
        ", ".join(one.name for one in group),
        lambda live: together(*(one.weaken(live) for one in group)),
        frozenset[str]().union(*(one.breaks for one in group)),
        group[0].channels,
        frozenset[str]().union(*(one.felt for one in group)),
    )


IDENTITY_ATTACKS = (
    "identity.authority-as-leaf",
    "identity.common-name-only",
    "identity.dns-san-only",
    "identity.expired",
    "identity.foreign-authority",
    "identity.longer-path",
    "identity.not-yet-valid",
    "identity.null-in-san",
    "identity.other-trust-domain",
    "identity.other-workload",
    "identity.self-signed",
    "identity.server-only-usage",
    "identity.two-uri-sans",
    "identity.two-uri-sans-second",
)
FORGED_SHAPES = (
    "identity.common-name-only",
    "identity.dns-san-only",
    "identity.longer-path",
    "identity.null-in-san",
    "identity.other-trust-domain",
    "identity.other-workload",
    "identity.two-uri-sans",
    "identity.two-uri-sans-second",
)
JUDGED_BY_POLICY = (
    "grants.backslash",
    "grants.claimed-identity",
    "grants.dot-dot",
    "grants.double-slash",
    "grants.encoded-dot-dot",
    "grants.method",
    "grants.method-at-door",
    "grants.method-override",
    "grants.original-url",
    "grants.path",
    "grants.path-at-door",
    "grants.query",
)
SHAPES_OF_PATH = (
    "grants.backslash",
    "grants.dot-dot",
    "grants.encoded-backslash",
    "grants.encoded-dot-dot",
    "grants.encoded-slash",
    "grants.null",
)
SMUGGLING = (
    "smuggling.bare-carriage-return",
    "smuggling.bare-line-feed",
    "smuggling.coding-twice",
    "smuggling.length-and-chunked",
    "smuggling.null-in-header",
    "smuggling.obfuscated-coding",
    "smuggling.pipelined",
    "smuggling.signed-length",
    "smuggling.space-before-colon",
    "smuggling.two-lengths",
    "smuggling.unknown-coding",
)
LACKING = (
    "token.misplaced-claim",
    "token.nearly-claim",
    "token.nearly-in-scp",
    "token.no-claim",
    "token.no-scope",
    "token.no-subject",
    "token.other-scope",
    "token.scp-beside-scope",
)
UNREAD = (
    "token.blurred-name",
    "token.critical",
    "token.issued-later",
    "token.nearly-audience",
    "token.odd-expiry",
    "token.odd-subject",
    "token.other-type",
)
TOKENS = (
    *LACKING,
    "gateway.forged-identity",
    "gateway.other-spelling",
    "gateway.raw-characters",
    *UNREAD,
    "token.brings-its-key",
    "token.expired",
    "token.garbage",
    "token.in-query",
    "token.long-lived",
    "token.no-expiry",
    "token.none",
    "token.not-yet-valid",
    "token.other-scheme",
    "token.padded",
    "token.public-key-as-secret",
    "token.unsigned",
    "token.wrong-audience",
    "token.wrong-issuer",
    "token.wrong-key",
)
OPT_OUTS = (
    "gateway.double-slash-elsewhere",
    "gateway.escaped-slash-elsewhere",
    "gateway.escaped-step",
)
STREAM = "orders -> stock"
IDENTITY = "orders -> mailer"
SEALED = "* -> orders"

SABOTAGES = (
    # the doors' TLS
    sabotage(
        "no certificate needed",
        always(tls(*DOOR, no_certificate_needed)),
        "tls.no-certificate",
        "identity.other-workload",
    ),
    sabotage(
        "nobody is asked who he is",
        always(
            together(
                tls(*DOOR, nobody_asked),
                routes(*DOOR, weaken.anybody),
            )
        ),
        "tls.no-certificate",
        *IDENTITY_ATTACKS,
    ),
    sabotage(
        "old versions",
        always(tls(*DOOR, weaken.old_versions)),
        "tls.version-1.2",
        "tls.version-1.1",
    ),
    sabotage(
        "also in the clear",
        always(listener(*DOOR, weaken.also_in_the_clear)),
        "tls.plaintext",
        "sessions.silent-then-plaintext",
    ),
    sabotage(
        "any name, judged by RBAC alone",
        always(tls(*DOOR, no_names)),
        "identity.other-workload",
    ),
    sabotage(
        "any name",
        always(together(tls(*DOOR, no_names), routes(*DOOR, weaken.anybody))),
        *FORGED_SHAPES,
    ),
    sabotage("the foreign authority trusted", foreign_trusted, "identity.foreign-authority"),
    sabotage(
        "untrusted chains taken",
        always(tls(*DOOR, untrusted_taken)),
        "identity.self-signed",
        "identity.foreign-authority",
        "identity.expired",
        "identity.not-yet-valid",
        "identity.other-workload",
        "identity.server-only-usage",
    ),
    sabotage(
        "expired certificates taken",
        always(tls(*DOOR, expired_taken)),
        "identity.expired",
        "identity.not-yet-valid",
    ),
    sabotage("key usage ignored", always(tls(*DOOR, usage_ignored)), "identity.server-only-usage"),
    sabotage(
        "sessions resumed",
        always(tls(*DOOR, sessions_resumed)),
        "sessions.ticket",
        "sessions.resumption",
    ),
    sabotage(
        "the silent are never shown out",
        always(listener("orders", "in|storefront", never_shown_out)),
        "sessions.silent-forever",
    ),
    # grants
    sabotage(
        "any target",
        always(together(manager(*DOOR, targets_obeyed), routes(*DOOR, targets_reached))),
        "grants.connect-elsewhere",
        "sessions.silent-then-elsewhere",
    ),
    sabotage("hyphens only", always(manager(*DOOR, hyphens_only)), "grants.forged-headers"),
    sabotage("overrides pass", always(routes(*DOOR, overrides_pass)), "grants.forged-headers"),
    sabotage(
        "hyphens only at the edge",
        always(manager(*HTTPS, hyphens_only)),
        "gateway.forged-headers",
        on=(OUTSIDE,),
    ),
    sabotage(
        "request ids of outsiders at the edge",
        always(manager(*HTTPS, request_ids_believed)),
        "gateway.forged-headers",
        on=(OUTSIDE,),
    ),
    sabotage("two hosts", always(routes(*DOOR, hosts_believed)), "grants.two-hosts"),
    sabotage(
        "any request",
        always(routes(*DOOR, weaken.anything)),
        *JUDGED_BY_POLICY,
        "smuggling.bare-carriage-return",
        "smuggling.bare-line-feed",
        "smuggling.pipelined",
    ),
    sabotage(
        "prefixes of paths as they are written",
        always(
            together(
                manager(*DOOR, read_as_written),
                routes(*DOOR, by_prefix),
                routes(*DOOR, none_is_ambiguous),
            )
        ),
        "grants.path",
        "grants.dot-dot-parameters",
        *SHAPES_OF_PATH,
    ),
    sabotage(
        "prefixes of paths, whatever can be read in two ways among them",
        always(together(routes(*DOOR, by_prefix), routes(*DOOR, none_is_ambiguous))),
        "grants.path",
        "grants.dot-dot-parameters",
        "grants.encoded-backslash",
        "grants.encoded-slash",
    ),
    sabotage(
        "past the judge",
        past_the_judge,
        *JUDGED_BY_POLICY,
        *SHAPES_OF_PATH,
        "grants.connect-elsewhere",
        "grants.dot-dot-parameters",
        "grants.fragment",
        "grants.only-slashes",
        "grants.two-hosts",
        "identity.two-uri-sans",
        "identity.two-uri-sans-second",
        *SMUGGLING,
    ),
    # reach and ports
    sabotage("a door for a stranger", stranger_s_door, "reach.doors", on=(SEALED,)),
    sabotage(
        "an undeclared listener",
        undeclared_listener,
        "reach.address",
        "ports.unknown",
        on=("storefront -> *", "anyone -> storefront"),
    ),
    # uses
    sabotage(
        "nothing permitted",
        always(
            together(
                routes(*DOOR, weaken.nothing),
                routes("mailer", "in|orders", weaken.nothing),
                tls("stock", "in|orders", another_name),
            )
        ),
        "use.door",
        "use.grant",
        "use.identity",
        "use.stream",
        on=(POLICY, STREAM, IDENTITY),
    ),
    sabotage(
        "a hundred connections for all callers",
        always(cluster("stock", "app", few_connections)),
        "exhaust.connections",
        on=(STREAM,),
        felt=("use.door", "use.stream"),
    ),
    # the gateway
    sabotage(
        "HTTP in the clear",
        always(listener(*HTTPS, weaken.also_in_the_clear)),
        "gateway.plaintext",
        on=(OUTSIDE,),
    ),
    sabotage(
        "old HTTPS",
        always(tls(*HTTPS, old_https)),
        "gateway.version-1.1",
        "gateway.weak-cipher",
        on=(OUTSIDE,),
    ),
    sabotage(
        "any host",
        always(routes(*HTTPS, any_host)),
        "gateway.unknown-host",
        on=(OUTSIDE,),
    ),
    sabotage(
        "unknown paths go to the storefront",
        always(
            together(
                manager(*HTTPS, read_as_written),
                manager("storefront", "in|gateway", read_as_written),
                routes(*HTTPS, open_fallback),
                routes("storefront", "in|gateway", weaken.anything),
                routes("storefront", "in|gateway", none_is_ambiguous),
                routes("storefront", "in|gateway", hosts_believed),
            )
        ),
        "gateway.unknown-path",
        "gateway.dot-dot",
        "gateway.dot-dot-parameters",
        "gateway.encoded-slash",
        "gateway.method",
        "gateway.odd-port",
        "gateway.only-slashes",
        "gateway.chunked-http-1.0",
        *OPT_OUTS,
        # What follows a message, as the next request: it is for an unknown path.
        "desync.0-cl",
        "desync.http-1.0",
        "desync.te-cl",
        "desync.upgrade",
        "smuggling.bare-carriage-return",
        "smuggling.bare-line-feed",
        "smuggling.pipelined",
        on=(OUTSIDE,),
    ),
    sabotage(
        "any method",
        always(
            together(
                routes(*HTTPS, any_method),
                routes("storefront", "in|gateway", weaken.anything),
                routes("orders", "in|gateway", weaken.anything),
            )
        ),
        "gateway.method",
        on=(OUTSIDE,),
    ),
    sabotage(
        "any size",
        always(manager(*HTTPS, any_size)),
        "gateway.large-header",
        "gateway.large-body",
        "gateway.many-headers",
        on=(OUTSIDE,),
    ),
    sabotage(
        "no safety headers",
        always(routes(*HTTPS, lambda body: body.pop("response_headers_to_add"))),
        "gateway.safety-headers",
        on=(OUTSIDE,),
    ),
    sabotage(
        "a route is missing",
        always(routes(*HTTPS, a_route_is_missing)),
        "gateway.route",
        on=(OUTSIDE,),
    ),
    sabotage(
        "tokens ignored",
        always(routes(*HTTPS, tokens_ignored)),
        *TOKENS,
        "gateway.challenge",
        on=(OUTSIDE,),
    ),
    sabotage(
        "a lax issuer",
        always(provider(lax)),
        "token.wrong-issuer",
        on=(OUTSIDE,),
    ),
    sabotage(
        "a lax issuer, and the claims unread",
        always(together(provider(lax), manager(*HTTPS, claims_unread))),
        *UNREAD,
        "token.expired",
        "token.long-lived",
        "token.no-expiry",
        "token.not-yet-valid",
        "token.wrong-audience",
        "token.wrong-issuer",
        on=(OUTSIDE,),
    ),
    sabotage(
        "any bearer",
        always(routes(*HTTPS, any_bearer)),
        *LACKING,
        on=(OUTSIDE,),
    ),
    sabotage(
        "tokens from the query", always(provider(from_query)), "token.in-query", on=(OUTSIDE,)
    ),
    sabotage(
        "the form of tokens ignored",
        always(filters_off("watertight.token_form")),
        "token.other-scheme",
        "token.padded",
        on=(OUTSIDE,),
    ),
    sabotage(
        "the claims of verified tokens unread",
        always(manager(*HTTPS, claims_unread)),
        *UNREAD,
        on=(OUTSIDE,),
    ),
    sabotage(
        "blanks behind a name taken",
        always(manager(*HTTPS, blanks_taken)),
        "token.blurred-name",
        on=(OUTSIDE,),
    ),
    sabotage(
        "the scheme as it is written",
        always(provider(scheme_as_written)),
        "token.scheme-case",
        on=(OUTSIDE,),
    ),
    sabotage("any page", always(routes(*HTTPS, any_page)), "gateway.foreign-origin", on=(OUTSIDE,)),
    sabotage(
        "no page",
        always(manager(*HTTPS, no_page)),
        "gateway.cors",
        on=(OUTSIDE,),
    ),
    sabotage(
        "no challenge",
        always(manager(*HTTPS, no_challenge)),
        "gateway.challenge",
        on=(OUTSIDE,),
    ),
    sabotage(
        "any host, and what is none",
        always(
            together(
                routes(*HTTPS, any_host),
                routes(*HTTPS, odd_hosts_taken),
                routes("storefront", "in|gateway", odd_hosts_taken),
                routes("orders", "in|gateway", odd_hosts_taken),
            )
        ),
        "gateway.odd-port",
        "gateway.two-hosts",
        "gateway.unknown-host",
        on=(OUTSIDE,),
    ),
    sabotage(
        "transfer codings of HTTP/1.0 taken",
        always(routes(*HTTPS, old_codings_taken)),
        "gateway.chunked-http-1.0",
        on=(OUTSIDE,),
    ),
    sabotage(
        "slashes merged again",
        always(manager(*HTTPS, lambda body: body.update(merge_slashes=True))),
        "gateway.double-slash-elsewhere",
        on=(OUTSIDE,),
    ),
    sabotage(
        "an opt-out for all routes",
        always(
            together(
                routes(*HTTPS, slashes_taken_by_all),
                routes("storefront", "in|gateway", weaken.anything),
            )
        ),
        "gateway.escaped-slash-elsewhere",
        on=(OUTSIDE,),
    ),
    sabotage(
        "steps up at escaped slashes",
        always(
            together(
                routes(*HTTPS, steps_up_taken),
                routes("storefront", "in|gateway", weaken.anything),
            )
        ),
        "gateway.escaped-step",
        on=(OUTSIDE,),
    ),
    sabotage(
        "past the gateway",
        past_the_gateway,
        *SMUGGLING,
        *TOKENS,
        *OPT_OUTS,
        "gateway.challenge",
        "gateway.chunked-http-1.0",
        "gateway.cors",
        "gateway.dot-dot",
        "gateway.dot-dot-parameters",
        "gateway.encoded-slash",
        "gateway.large-body",
        "gateway.large-header",
        "gateway.many-headers",
        "gateway.method",
        "gateway.odd-port",
        "gateway.only-slashes",
        "gateway.safety-headers",
        "gateway.two-hosts",
        "gateway.unknown-host",
        "gateway.unknown-path",
        on=(OUTSIDE,),
    ),
    sabotage("no limits", always(routes(*HTTPS, no_limits)), "limit.flood", on=(OUTSIDE,)),
    sabotage(
        "paths are logged whole",
        always(manager(*HTTPS, whole_paths_logged)),
        "exhaust.access-log",
        on=(OUTSIDE,),
    ),
)

ALONE = {
    "no certificate needed",
    "nobody is asked who he is",
    "any name, judged by RBAC alone",
    "any name",
    "the foreign authority trusted",
    "any request",
    "past the judge",
    "unknown paths go to the storefront",
    "tokens ignored",
    "a lax issuer",
    "a lax issuer, and the claims unread",
    "the form of tokens ignored",
    "no page",
    "an opt-out for all routes",
    "steps up at escaped slashes",
    "past the gateway",
}
"""They change what others break, too."""
AT_ONCE = [joined(group) for group in at_once(SABOTAGES, ALONE)]
