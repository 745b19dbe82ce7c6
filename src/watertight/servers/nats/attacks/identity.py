"""Certificates of our own authority that name nobody, or somebody else, in NATS's reading.

NATS takes as the user the first of a certificate's e-mail, DNS and URI SANs, then its Subject,
that is the name of one. Our users are called by their SPIFFE IDs, so only a URI SAN should do.
Not tried, because it does as NATS is made: several URI SANs, of which any may name the user, and
a DNS SAN that spells a SPIFFE ID. Our authority issues neither (``identity.recheck``).
"""

from collections.abc import Mapping
from dataclasses import replace

from watertight.attack.arena import Forgery
from watertight.attack.login import Login, right


def forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """Probe id → what is wrong, and the certificate."""
    own = right(login)
    trust_domain, service = login.system.trust_domain, login.service
    nameless = replace(own, uri_sans=())
    path = f"%{ord(service[0]):02x}{service[1:]}"
    return {
        "identity.common-name-only": (
            f"common name {service}, no SAN",
            replace(nameless, dns_sans=()),
        ),
        "identity.uri-as-common-name": (
            "the SPIFFE ID as common name, no SAN",
            replace(nameless, dns_sans=(), common_name=own.uri_sans[0][:64], organization=""),
        ),
        "identity.dns-san-only": (f"DNS SAN {service}, no URI SAN", nameless),
        "identity.other-trust-domain": (
            f"URI SAN spiffe://other.{trust_domain}/{service}",
            replace(own, uri_sans=(f"spiffe://other.{trust_domain}/{service}",)),
        ),
        "identity.longer-path": (
            f"URI SAN spiffe://{trust_domain}/{service}/more",
            replace(own, uri_sans=(f"{own.uri_sans[0]}/more",)),
        ),
        "identity.encoded-path": (
            f"URI SAN spiffe://{trust_domain}/{path}",
            replace(own, uri_sans=(f"spiffe://{trust_domain}/{path}",)),
        ),
        "identity.query": (
            f"URI SAN {own.uri_sans[0]}?x",
            replace(own, uri_sans=(f"{own.uri_sans[0]}?x",)),
        ),
    }
