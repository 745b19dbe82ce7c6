"""Hypothesis strategies: systems that load, and texts that look like declarations."""

from collections.abc import Mapping
from typing import Any

import yaml
from hypothesis import strategies as st

from watertight.model.claims import parse_claims
from watertight.model.kinds import kinds, usual_port
from watertight.model.methods import METHODS
from watertight.model.system import (
    PAGES_READ,
    RESOURCE_LIMITS,
    SERVICE_LIMITS,
    Channel,
    Cors,
    Gateway,
    Grant,
    HTTPGrant,
    Issuer,
    Limit,
    Limits,
    Listen,
    Per,
    Protocol,
    Requirement,
    Resource,
    Route,
    RPCGrant,
    Service,
    System,
)
from watertight.model.values import NAME, VARIABLE

names = st.from_regex(NAME, fullmatch=True).filter(
    lambda name: name not in {"gateway", "outside", "anyone", "localhost"}
)
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
files = st.sampled_from(["a", "a/b.pem", "true", "8080", "no", "ä ö"])
seconds = st.integers(1, 3_600_000).map(lambda milliseconds: milliseconds / 1000)
listens = st.builds(Listen, st.sampled_from(Protocol), st.integers(1, 65535))
options = st.dictionaries(
    st.sampled_from(["database", "topics", "x y", "8080"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**17), 10**17) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ).filter(lambda value: "<<" not in repr(value)),
    max_size=3,
)
path_templates = st.sampled_from(["/", "/a", "/a/", "/a/*", "/a/{id}/b", "/a/*/**", "/**"])
http_grants = st.builds(HTTPGrant, st.sampled_from(METHODS), path_templates)
rpc_grants = st.builds(
    RPCGrant, st.sampled_from(["shop.Catalogue", "A", "a_b.C"]), st.sampled_from(["Get", "*", "_x"])
)

claim_values = st.booleans() | st.integers(-(1 << 53), 1 << 53) | texts
claims = st.dictionaries(
    texts.filter(lambda name: name not in {"scope", "scp", "<<"}),
    st.recursive(
        st.lists(claim_values, min_size=1, max_size=2),
        lambda inner: st.dictionaries(
            texts.filter(lambda name: name != "<<"), inner, min_size=1, max_size=2
        ),
        max_leaves=3,
    ),
    max_size=2,
).map(lambda mapping: parse_claims(mapping) if mapping else ())
"""Claims in the order in which a declaration holds them."""


mebibytes = st.integers(1, 1 << 20).map(lambda number: number << 20)
limits = st.builds(
    Limits,
    memory_bytes=mebibytes,
    processes=st.integers(4, 1 << 22),
    temp_bytes=mebibytes,
    files=st.integers(32, 1 << 20),
)


@st.composite
def services(draw: st.DrawFn, name: str) -> Service:
    port = draw(st.none() | listens)
    http = port is not None and port.protocol is Protocol.HTTP
    return Service(
        name=name,
        run=tuple(draw(st.lists(texts, max_size=3))),
        image=draw(st.none() | texts),
        listens=port,
        environment=draw(
            st.dictionaries(
                st.from_regex(VARIABLE, fullmatch=True), texts | st.just(""), max_size=2
            )
        ),
        directory=draw(st.just(".") | files),
        ready=draw(st.sampled_from([None, "/", "/healthz?deep=1"])) if http else None,
        contract=draw(st.none() | files),
        limits=draw(limits | st.just(SERVICE_LIMITS)),
        private_ports=tuple(draw(st.lists(st.integers(1, 65535), max_size=2))),
    )


@st.composite
def channels(draw: st.DrawFn, source: Service, target: Service | Resource) -> Channel:
    if isinstance(target, Resource):
        kind = kinds().get(target.kind)
        able = kind is not None and kind.originates is not None
        originate = able and draw(st.booleans())
        return Channel(source.name, target.name, originate=originate, options=draw(options))
    assert target.listens is not None
    if target.listens.protocol is Protocol.TCP:
        return Channel(source.name, target.name)
    grants: st.SearchStrategy[Grant] = (
        http_grants if target.listens.protocol is Protocol.HTTP else rpc_grants
    )
    return Channel(
        source.name,
        target.name,
        grants=tuple(draw(st.lists(grants, max_size=3, unique=True))),
        timeout_seconds=draw(st.none() | seconds),
        retries=draw(st.integers(0, 10)),
    )


@st.composite
def gateways(draw: st.DrawFn, targets: list[str]) -> Gateway:
    issuers = draw(
        st.dictionaries(
            names,
            st.tuples(
                st.just("https://login.shop.example"),
                st.lists(texts, min_size=1, max_size=2).map(tuple),
                st.sampled_from(["jwks.json", "https://login.shop.example/jwks"]),
            ),
            max_size=2,
        )
    )
    pair = draw(st.sampled_from([(None, None), ("tls/chain.pem", "/etc/key.pem")]))
    paths = draw(st.lists(st.sampled_from(["/a", "/b/*", "/c/{x}/d", "/e/**"]), unique=True))
    return Gateway(
        hostname=draw(st.sampled_from(["localhost", "shop.example"])),
        routes=tuple(draw(routes(path, targets, sorted(issuers))) for path in paths if targets),
        address=draw(st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"])),
        port=draw(st.integers(1, 65535)),
        certificate=pair[0],
        private_key=pair[1],
        issuers={name: Issuer(name, *issuer) for name, issuer in issuers.items()},
        max_request_bytes=draw(st.integers(1, (1 << 32) - 1)),
        max_header_bytes=draw(st.integers(1, 256)) << 10,
        max_headers=draw(st.integers(1, 1000)),
    )


pages = st.builds(
    Cors,
    st.lists(
        st.sampled_from(["https://app.example", "http://localhost:5173", "app://x"]), min_size=1
    ).map(tuple),
    st.lists(st.sampled_from(["authorization", "x-csrf-token"])).map(tuple),
    st.just(PAGES_READ) | st.just(()),
    st.booleans(),
    seconds,
) | st.just(Cors(("*",)))


@st.composite
def routes(draw: st.DrawFn, path: str, targets: list[str], issuers: list[str]) -> Route:
    demands = st.builds(
        Requirement,
        st.sampled_from(issuers or ["none"]),
        st.lists(st.sampled_from(["orders:read", "true", "a"]), max_size=2).map(tuple),
        claims,
        st.lists(claims.filter(bool), max_size=2).map(tuple),
    )
    require = draw(st.none() | demands) if issuers else None
    per = st.sampled_from(Per) if require else st.just(Per.ADDRESS)
    limits = st.builds(Limit, per, st.integers(1, 10**8), st.sampled_from([1, 60, 3600]))
    return Route(
        path=path,
        target=draw(st.sampled_from(targets)),
        methods=tuple(draw(st.lists(st.sampled_from(METHODS), min_size=1, unique=True))),
        rewrite=draw(st.sampled_from([None, "/z" + path])),
        require=require,
        limit=draw(st.none() | limits),
        timeout_seconds=draw(st.none() | seconds),
        keeps_host=draw(st.booleans()),
        escaped_slashes="*" in path and draw(st.booleans()),
        double_slashes="**" in path and draw(st.booleans()),
        cors=draw(st.none() | pages),
    )


@st.composite
def theirs_named(draw: st.DrawFn, name: str) -> Resource:
    """A resource of any kind, well known or not."""
    kind = draw(st.sampled_from(sorted(kinds())) | texts)
    port = draw(st.sampled_from([usual_port(kind) or 0, 65_535]))
    address = draw(st.sampled_from([None, "db.shop.example"]))
    held = draw(limits | st.just(RESOURCE_LIMITS))
    return Resource(name, kind, port, address, draw(options), limits=held)


@st.composite
def systems(draw: st.DrawFn) -> System:
    """Systems without a mistake."""
    own, others = draw(
        st.lists(names, max_size=6, unique=True).flatmap(
            lambda all_names: st.integers(0, len(all_names)).map(
                lambda cut: (all_names[:cut], all_names[cut:])
            )
        )
    )
    mine = {name: draw(services(name)) for name in own}
    theirs = {name: draw(theirs_named(name)) for name in others}
    reachable = [s for s in mine.values() if s.listens is not None]
    targets: list[Service | Resource] = [*reachable, *theirs.values()]
    ends = [(s, t) for s in mine.values() for t in targets if s.name != t.name]
    chosen = (
        draw(st.lists(st.sampled_from(ends), unique_by=lambda e: (e[0].name, e[1].name)))
        if ends
        else []
    )
    web = [s.name for s in reachable if s.listens and s.listens.protocol is not Protocol.TCP]
    return System(
        trust_domain=draw(st.sampled_from(["shop.internal", "a", "no", "1.2"])),
        services=mine,
        resources=theirs,
        channels=tuple(draw(channels(source, target)) for source, target in chosen),
        gateway=draw(st.none() | gateways(web)),
        file="watertight.yaml",
    )


KEYS = (
    *("trust_domain", "services", "resources", "channels", "gateway", "orders", "<<"),
    *("run", "listens", "http", "environment", "image", "directory", "ready", "kind"),
    *("from", "to", "allow", "timeout", "retries", "hostname", "listen", "issuers", "routes"),
    *("path", "methods", "rewrite", "require", "limit", "per", "rate", "issuer", "scopes"),
    *(
        "audiences",
        "jwks",
        "claims",
        "any_claims",
        "host",
        "escaped_slashes",
        "max_headers",
    ),
    *("cors", "origins", "credentials", "max_age"),
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    8080,
    10**17,
    "",
    "orders",
    "gateway",
    "*",
    "anyone",
    "GET /a/*",
    "a.B/*",
    "2s",
    "1MiB",
    "100/s",
    "/a/**",
    "::",
    "[::1]:1",
    "https://[",
    "https://x:99999/",
    "\u2028",
    "127.0.0.1:8443",
    "shop.example",
    "subject",
    "../x",
    "0.0.0.0:0",
    "none",
    "service",
    "1KiB",
    "9" * 30,
)
shapeless = st.recursive(
    st.sampled_from(VALUES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=25,
)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A declaration in which some leaves or branches were replaced by something else."""
    document = yaml.safe_load(text)
    for _ in range(draw(st.integers(1, 3))):
        _replace_one(draw, document)
    return yaml.safe_dump(document, sort_keys=False)


def _replace_one(draw: st.DrawFn, node: Any) -> None:
    while isinstance(node, dict | list) and node:
        steps = sorted(node) if isinstance(node, Mapping) else list(range(len(node)))
        step = draw(st.sampled_from(steps))
        if not isinstance(node[step], dict | list) or draw(st.booleans()):
            node[step] = draw(shapeless)
            return
        node = node[step]
