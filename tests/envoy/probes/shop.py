"""The small shop that is attacked: every kind of channel, once."""

from watertight.model.system import (
    Channel,
    HTTPGrant,
    Listen,
    Protocol,
    RPCGrant,
    Service,
    System,
)


def service(name: str, protocol: Protocol | None = None) -> Service:
    return Service(name, listens=Listen(protocol, 8000) if protocol else None)


SHOP = System(
    trust_domain="shop.internal",
    services={
        "storefront": service("storefront", Protocol.HTTP),
        "orders": service("orders", Protocol.HTTP),
        "catalogue": service("catalogue", Protocol.GRPC),
        "stock": service("stock", Protocol.TCP),
        "mailer": service("mailer", Protocol.HTTP),
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
)
