"""Systems whose plans are looked at: by eye (golden files), by Envoy, by properties."""

import json
from dataclasses import replace
from pathlib import Path

from watertight.model.placement import Placement
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Issuer,
    Limit,
    Listen,
    Per,
    Position,
    Protocol,
    Requirement,
    Route,
    RPCGrant,
    Service,
    System,
)

PLACEMENT = Placement(Path("/run/wt"), Path("/project"))
KEYS = {
    "main": json.dumps(
        {
            "keys": [
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "alg": "ES256",
                    "kid": "1",
                    # RFC 7517 appendix A.1: a public key for examples.
                    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
                }
            ]
        }
    )
}


def line(number: int) -> Position:
    """A place in the declaration."""
    return Position("watertight.yaml", number, 5)


SHOP = System(
    "shop.internal",
    services={
        "storefront": Service("storefront", listens=Listen(Protocol.HTTP, 8000), at=line(3)),
        "orders": Service("orders", listens=Listen(Protocol.HTTP, 8081), at=line(4)),
        "catalogue": Service("catalogue", listens=Listen(Protocol.GRPC, 9000), at=line(5)),
        "stock": Service("stock", listens=Listen(Protocol.TCP, 7000), at=line(6)),
        "mailer": Service("mailer", at=line(7)),
    },
    channels=(
        Channel(
            "storefront",
            "orders",
            (HTTPGrant("GET", "/orders/{id}"), HTTPGrant("POST", "/orders")),
            timeout_seconds=2.0,
            retries=2,
            at=line(10),
        ),
        Channel("mailer", "orders", (HTTPGrant("GET", "/orders/**"),), 0.5, at=line(11)),
        Channel("storefront", "catalogue", (RPCGrant("shop.Catalogue", "*"),), at=line(12)),
        Channel("orders", "catalogue", (RPCGrant("shop.Catalogue", "Get"),), at=line(13)),
        Channel("orders", "stock", at=line(14)),
        Channel("mailer", "storefront", at=line(15)),
    ),
    gateway=Gateway(
        "shop.example",
        (
            Route(
                "/api/orders/*",
                "orders",
                ("GET", "HEAD"),
                rewrite="/orders/*",
                require=Requirement("main", ("orders:read",)),
                limit=Limit(Per.SUBJECT, 100, 1),
                timeout_seconds=5.0,
                at=line(20),
            ),
            Route(
                "/files/{tenant}/**",
                "storefront",
                limit=Limit(Per.ADDRESS, 10, 60),
                at=line(21),
            ),
            Route("/", "storefront", at=line(22)),
        ),
        issuers={"main": Issuer("main", "https://login.shop.example", ("shop",), "jwks.json")},
        at=line(18),
    ),
    file="watertight.yaml",
)

NO_GATEWAY = replace(SHOP, gateway=None)
NOTHING_YET = System("empty.internal", services={"lonely": Service("lonely")})
CLOSED_GATEWAY = replace(SHOP, channels=(), gateway=Gateway("shop.example", ()))
REVOKED = SHOP.without_identities(frozenset({"orders"}))

DEEP = "/{a}/{b}/*/{d}/**"
DEEPEST = replace(
    SHOP,
    channels=(Channel("mailer", "orders", (HTTPGrant("GET", DEEP),)),),
    gateway=Gateway("shop.example", (Route(DEEP, "orders", rewrite=f"/x{DEEP}"),)),
)
"""As many wildcards as Envoy takes."""

ALL = {
    "shop": SHOP,
    "no gateway": NO_GATEWAY,
    "nothing yet": NOTHING_YET,
    "closed gateway": CLOSED_GATEWAY,
    "revoked": REVOKED,
    "deepest": DEEPEST,
}
