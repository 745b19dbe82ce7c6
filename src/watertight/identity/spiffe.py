"""SPIFFE IDs: the names of workloads and of trust domains (SPIFFE-ID sections 2.1 to 2.5).

The rule numbers (I1 to I6) are those of our research notes and stand in each refusal:

- I1 scheme ``spiffe``; no query, no fragment.
- I2 trust domain of ``[a-z0-9.-_]``, at least one and at most 255 bytes; no user info, no port.
- I3 path of segments of ``[a-zA-Z0-9.-_]``; none empty, ``.`` or ``..``; no trailing slash.
- I4 at most 2,048 bytes are accepted (and never more are emitted).
- I5 scheme and trust domain do not depend on case, the path does.
- I6 what looks like an IPv4 address is a name like any other.
"""

import re
from dataclasses import dataclass

from watertight.identity.errors import MalformedSPIFFEID

MAX_BYTES = 2048
MAX_TRUST_DOMAIN_BYTES = 255

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class SPIFFEID:
    """A parsed SPIFFE ID. ``path`` is empty (the trust domain itself) or starts with ``/``.

    It cannot be made invalid: construction checks I2 to I4 and raises ``MalformedSPIFFEID``.
    """

    trust_domain: str
    path: str = ""

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        _check_path(self.path)
        if len(str(self)) > MAX_BYTES:
            raise MalformedSPIFFEID("I4", f"it has more than {MAX_BYTES} bytes.")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"

    @classmethod
    def parse(cls, text: str) -> "SPIFFEID":
        """Parses a URI. Raises ``MalformedSPIFFEID`` with the rule that it breaks."""
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise MalformedSPIFFEID("I4", f"it has more than {MAX_BYTES} bytes.")
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() != "spiffe":
            raise MalformedSPIFFEID("I1", f"{text!r} does not start with spiffe://.")
        if "?" in rest or "#" in rest:
            raise MalformedSPIFFEID("I1", f"{text!r} has a query or a fragment.")
        domain, slash, path = rest.partition("/")
        return cls(_lower_ascii(domain), slash + path)

    @classmethod
    def workload(cls, trust_domain: str, name: str) -> "SPIFFEID":
        """The identity of one workload: ``spiffe://<trust domain>/<name>``."""
        return cls(trust_domain, f"/{name}")

    @property
    def is_trust_domain(self) -> bool:
        """Whether it names the trust domain itself (an authority), not a workload."""
        return not self.path

    @property
    def name(self) -> str:
        """The path without its first slash: the name of the workload, for us."""
        return self.path.removeprefix("/")


def _lower_ascii(text: str) -> str:
    # str.lower() would turn the Kelvin sign into "k" and let it pass as ASCII.
    return text.lower() if text.isascii() else text


def check_trust_domain(text: str) -> None:
    """Raises ``MalformedSPIFFEID`` unless the text is the name of a trust domain (I2)."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise MalformedSPIFFEID(
            "I2", f"the trust domain {text!r} must be made of a-z, 0-9, dot, dash and underscore."
        )
    if len(text) > MAX_TRUST_DOMAIN_BYTES:
        raise MalformedSPIFFEID(
            "I2", f"the trust domain has more than {MAX_TRUST_DOMAIN_BYTES} bytes."
        )


def _check_path(path: str) -> None:
    if not path:
        return
    if not path.startswith("/"):
        raise MalformedSPIFFEID("I3", f"the path {path!r} does not start with a slash.")
    for segment in path[1:].split("/"):
        if segment in {"", ".", ".."}:
            raise MalformedSPIFFEID("I3", f"the path {path!r} has a segment {segment!r}.")
        if not _SEGMENT.fullmatch(segment):
            raise MalformedSPIFFEID(
                "I3", f"the path {path!r} must be made of letters, digits, dot, dash, underscore."
            )
