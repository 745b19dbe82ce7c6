"""Certificates of our own authority whose Subject is almost the right one.

MariaDB compares a Subject as OpenSSL writes it on one line. Not tried, because it does as it is
made: an organization that holds a slash and the rest of the line. Our authority issues none
(``identity.recheck``).
"""

from collections.abc import Mapping
from dataclasses import replace

from watertight.attack.arena import Forgery
from watertight.attack.login import Login, right


def forgeries(login: Login) -> Mapping[str, tuple[str, Forgery]]:
    """Probe id → what is wrong, and the certificate; the SPIFFE ID in each is the right one."""
    own, name, domain = right(login), login.service, login.system.trust_domain
    return {
        "identity.other-common-name": ("another common name", replace(own, common_name="nobody")),
        "identity.no-common-name": ("no Subject", replace(own, common_name="")),
        "identity.longer-common-name": (
            f"the common name {name}x",
            replace(own, common_name=f"{name}x"),
        ),
        "identity.common-name-case": (
            f"the common name {name.capitalize()}",
            replace(own, common_name=name.capitalize()),
        ),
        "identity.null-in-common-name": (
            "the right common name, a null and more",
            replace(own, common_name=f"{name}\0x"),
        ),
        "identity.server-unit": ("the Subject of a server", replace(own, unit="servers")),
        "identity.other-organization": (
            "the Subject of another trust domain",
            replace(own, organization=f"not-{domain}"[:64]),
        ),
        "identity.no-organization": ("the common name alone", replace(own, organization="")),
    }
