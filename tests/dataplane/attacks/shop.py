"""The small shop that is attacked: every kind of channel, once."""

from watertight.model.system import (
    Channel,
    Claim,
    Cors,
    Gateway,
    HTTPGrant,
    Issuer,
    Limit,
    Listen,
    Per,
    Protocol,
    Requirement,
    Route,
    RPCGrant,
    Service,
    System,
)

GATEWAY = Gateway(
    hostname="shop.example",
    routes=(
        Route(
            "/api/orders/*",
            "orders",
            rewrite="/orders/*",
            require=Requirement("main", ("orders:read",)),
            limit=Limit(Per.SUBJECT, 60, 60),
        ),
        Route(
            "/api/orders",
            "orders",
            ("POST",),
            rewrite="/orders",
            require=Requirement("main", ("orders:write",)),
        ),
        Route("/", "storefront", limit=Limit(Per.ADDRESS, 50, 60)),
        Route("/files/*", "storefront", escaped_slashes=True),
        Route("/mirror/**", "storefront", double_slashes=True),
        Route(
            "/@staff/*",
            "storefront",
            require=Requirement("main", claims=(Claim(("realm_access", "roles"), "staff"),)),
            cors=Cors(("https://app.shop.example",)),
        ),
    ),
    issuers={"main": Issuer("main", "https://login.shop.example", ("shop",), "jwks.json")},
    max_request_bytes=100_000,
)


def service(name: str, protocol: Protocol, port: int) -> Service:
    return Service(name, listens=Listen(protocol, port))


SHOP = System(
    trust_domain="shop.internal",
    services={
        "storefront": service("storefront", Protocol.HTTP, 8080),
        "orders": service("orders", Protocol.HTTP, 8081),
        "catalogue": service("catalogue", Protocol.GRPC, 8082),
        "stock": service("stock", Protocol.TCP, 8083),
        "mailer": service("mailer", Protocol.HTTP, 8084),
    },
    channels=(
        Channel(
            "storefront",
            "orders",
            grants=(HTTPGrant("GET", "/orders/*"), HTTPGrant("POST", "/orders")),
        ),
        Channel(
            "storefront",
            "catalogue",
            grants=(RPCGrant("shop.Catalogue", "Get"), RPCGrant("shop.Stock", "*")),
        ),
        Channel("orders", "stock"),
        Channel("orders", "mailer"),
        Channel("mailer", "orders", grants=(HTTPGrant("GET", "/reports/{day}"),), retries=2),
    ),
    gateway=GATEWAY,
)
