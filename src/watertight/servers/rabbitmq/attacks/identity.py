"""Certificates of our own authority that name nobody, or somebody else, in RabbitMQ's reading.

RabbitMQ takes the first URI SAN as the user. Not tried, because it does as RabbitMQ is made: two
URI SANs, of which the first is right. Our authority issues none (``identity.recheck``).
"""

from collections.abc import Mapping
from dataclasses import replace

from watertight.attack.arena import Forgery
from watertight.attack.login import Login, right


def forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """Probe id → what is wrong, and the certificate."""
    own = right(login)
    uri, trust_domain = own.uri_sans[0], login.system.trust_domain
    nameless = replace(own, uri_sans=())
    other = f"spiffe://other.{trust_domain}/{login.service}"
    return {
        "identity.common-name-only": (
            f"common name {login.service}, no SAN",
            replace(nameless, dns_sans=()),
        ),
        "identity.dns-san-only": (f"DNS SAN {login.service}, no URI SAN", nameless),
        "identity.uri-as-dns-san": ("the SPIFFE ID as DNS SAN", replace(nameless, dns_sans=(uri,))),
        "identity.other-trust-domain": (f"URI SAN {other}", replace(own, uri_sans=(other,))),
        "identity.longer-path": (f"URI SAN {uri}/more", replace(own, uri_sans=(f"{uri}/more",))),
        "identity.second-uri-san": (
            "two URI SANs, the second one right",
            replace(own, uri_sans=(f"spiffe://{trust_domain}/watertight-first", uri)),
        ),
    }
