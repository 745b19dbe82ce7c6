"""Certificates of our own authority that name nobody, or somebody else, in Kafka's reading.

Kafka knows its clients by the whole Subject, and reads no SAN.
"""

from collections.abc import Mapping
from dataclasses import replace

from watertight.attack.arena import Forgery
from watertight.attack.login import Login, right


def forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """Probe id → what is wrong, and the certificate."""
    own, trust_domain = right(login), login.system.trust_domain
    server, name = login.resource.name, login.service
    return {
        "identity.common-name-only": (
            f"common name {name}, and neither OU nor O",
            replace(own, organization=""),
        ),
        "identity.other-unit": ("another OU", replace(own, unit="services-of-others")),
        "identity.other-trust-domain": (
            f"O other.{trust_domain}",
            replace(own, organization=f"other.{trust_domain}"),
        ),
        "identity.dot-in-trust-domain": (
            "a trust domain with another letter where ours has a dot",
            replace(own, organization=trust_domain.replace(".", "x", 1)),
        ),
        "identity.smuggled-name": (
            f"a common name that goes on after {name}",
            replace(own, common_name=f"{name},OU=services"),
        ),
        "identity.upper-case": (
            f"common name {name.upper()}",
            replace(own, common_name=name.upper()),
        ),
        "identity.server": (
            f"common name {server} among the servers, as the broker itself",
            replace(own, common_name=server, unit="servers"),
        ),
        "identity.server-as-service": (
            f"common name server:{server}, as the broker's own principal",
            replace(own, common_name=f"server:{server}"),
        ),
    }
