"""Single values of the declaration: text in, meaning out, or :class:`Malformed`.

One function a kind of value. Each is total over what YAML can hold, because a wrong type must
become a finding and never a traceback.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.methods import METHODS
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.system import (
    GATEWAY,
    OUTSIDE,
    Grant,
    HTTPGrant,
    Listen,
    Per,
    Protocol,
    RPCGrant,
)
from watertight.model.templates import TemplateError, parse_template

NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS label (RFC 1123) that starts with a letter: also a valid SPIFFE path segment, X.509
common name (at most 64), environment variable stem and SQL role (at most 63)."""
TRUST_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*")
"""SPIFFE-ID section 2.1, and no empty label."""
MAX_TRUST_DOMAIN = 64
"""SPIFFE allows 255; the organisation name in a certificate's subject 64 (RFC 5280 appendix A.1,
ub-organization-name)."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_RESERVED = {
    GATEWAY: "under it the gateway has its identity",
    OUTSIDE: "in reports it means whoever comes in through the gateway",
    "anyone": "in reports it means whoever finds a port open",
    "localhost": "it is the machine itself, so that no call would leave it",
}
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_RPC = re.compile(
    r"(?P<service>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)/(?P<method>[A-Za-z_]\w*|\*)", re.ASCII
)
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h)", re.ASCII)
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
MAX_DURATION_SECONDS = 3600
_SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB)?", re.ASCII)
_BYTES = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
MAX_REQUEST_BYTES = (1 << 32) - 1
"""Envoy's buffer limit is a 32-bit number."""
_RATE = re.compile(r"(\d{1,9})/(s|m|h)", re.ASCII)
_WINDOW_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749 section 3.3, scope-token."""


class Malformed(ValueError):
    """One value is not what its place allows.

    ``inside`` is the path from the value to the wrong part of it; ``on_key``: the key is wrong.
    """

    def __init__(
        self,
        code: str,
        message: str,
        remedy: str = "",
        *,
        inside: DocumentPath = (),
        on_key: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.inside = inside
        self.on_key = on_key


def _text(value: Any, code: str, what: str, example: str) -> str:
    if isinstance(value, str):
        return value
    raise Malformed(
        code, f"{what} is text, not {quoted(value)}.", f"For example {quoted(example)}."
    )


def parse_name(value: Any) -> str:
    """The name of a service, resource or issuer."""
    name = _text(value, codes.BAD_NAME, "A name", "orders")
    if "*" in name:
        raise Malformed(
            codes.WILDCARD_NAME,
            f"{quoted(name)} is a wildcard; there is no policy for 'all services'.",
            "Declare each service by name.",
        )
    if not NAME.fullmatch(name):
        raise Malformed(
            codes.BAD_NAME,
            f"{quoted(name)} is not a name: 1 to 63 of `a-z`, `0-9` and `-`, "
            "a letter first, no `-` last.",
            _instead_of(name),
        )
    return name


def _instead_of(text: str) -> str:
    """What to write in place of a text that is no name."""
    word, colon, value = text.partition(":")
    if colon and value:
        return f"Write a space after the `:`, {quoted(f'{word}: {value}')}."
    return did_you_mean(text, [as_name(text)])


def as_name(text: str) -> str:
    """The name that is most like a text; it may still be none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def parse_workload_name(value: Any) -> str:
    """The name of a service or resource: any name but the reserved ones."""
    name = parse_name(value)
    if name in _RESERVED:
        raise Malformed(
            codes.RESERVED_NAME,
            f"The name `{name}` is reserved: {_RESERVED[name]}.",
            "Choose another name.",
        )
    return name


def parse_trust_domain(value: Any) -> str:
    """The trust domain: SPIFFE-ID section 2.1."""
    domain = _text(value, codes.BAD_TRUST_DOMAIN, "A trust domain", "shop.internal")
    if len(domain) > MAX_TRUST_DOMAIN or not TRUST_DOMAIN.fullmatch(domain):
        raise Malformed(
            codes.BAD_TRUST_DOMAIN,
            f"{quoted(domain)} is not a trust domain: at most {MAX_TRUST_DOMAIN} of `a-z`, "
            "`0-9`, `-` and `_`, in labels joined by dots.",
            "For example `shop.internal`.",
        )
    return domain


def parse_duration(value: Any) -> float:
    """``500ms``, ``2s``, ``1m`` → seconds; at most an hour."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _MILLISECONDS[match[2]] / 1000 if match else 0.0
    if not 0 < seconds <= MAX_DURATION_SECONDS:
        raise Malformed(
            codes.BAD_DURATION,
            f"{quoted(value)} is not a duration from `1ms` to `1h`.",
            "Write a whole number and `ms`, `s`, `m` or `h`: `500ms`, `2s`.",
        )
    return seconds


MIN_SPACE_BYTES, MAX_SPACE_BYTES = 1 << 20, 1 << 40


def size_of(value: Any) -> int:
    """As :func:`parse_size`, without its bounds; 0 for what is no size."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    return int(match[1]) * _BYTES[match[2]] if match else 0


def parse_size(value: Any) -> int:
    """``1MiB``, ``512KiB``, or a number of bytes → bytes."""
    size = size_of(value)
    if not 0 < size <= MAX_REQUEST_BYTES:
        raise Malformed(
            codes.BAD_SIZE,
            f"{quoted(value)} is not a size from `1B` to just under `4GiB`.",
            "Write a whole number and `B`, `KiB`, `MiB` or `GiB`: `1MiB`.",
        )
    return size


def parse_space(value: Any) -> int:
    """``512MiB``, ``2GiB``, or a number of bytes → bytes: of memory or of temporary files."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    size = int(match[1]) * _BYTES[match[2]] if match else 0
    if not MIN_SPACE_BYTES <= size <= MAX_SPACE_BYTES:
        raise Malformed(
            codes.BAD_LIMIT,
            f"{quoted(value)} is not a size from `1MiB` to `1024GiB`.",
            "Write a whole number and `MiB` or `GiB`: `512MiB`.",
        )
    return size


def parse_rate(value: Any) -> tuple[int, int]:
    """``100/s``, ``20/m``, ``5/h`` → requests, window in seconds."""
    text = _text(value, codes.BAD_RATE, "A rate", "100/s")
    match = _RATE.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise Malformed(
            codes.BAD_RATE,
            f"{quoted(text)} is not a rate.",
            "Write a whole number above 0 and `/s`, `/m` or `/h`: `100/s`.",
        )
    return int(match[1]), _WINDOW_SECONDS[match[2]]


def parse_per(value: Any) -> Per:
    """Whose bucket a limit counts in."""
    if value not in tuple(Per):
        raise Malformed(
            codes.BAD_CHOICE,
            f"A limit counts per {one_of(tuple(Per))}, not per {quoted(value)}.",
            did_you_mean(str(value), tuple(Per)),
        )
    return Per(value)


def parse_listens(value: Any) -> Listen:
    """``{http: 8000}``: exactly one protocol and its port."""
    protocols = tuple(p.value for p in Protocol)
    if isinstance(value, Mapping) and len(value) == 1:
        key = str(next(iter(value)))
        word, colon, port = key.partition(":")
        if colon and value[key] is None:
            raise Malformed(
                codes.BAD_LISTENS,
                f"{quoted(key)} is one text: there is no space after its `:`.",
                f"Write {quoted(f'{{{word}: {port}}}')}.",
                inside=(key,),
                on_key=True,
            )
    if not isinstance(value, Mapping) or len(value) != 1:
        raise Malformed(
            codes.BAD_LISTENS,
            f"A service listens on exactly one port, with one protocol of {one_of(protocols)}.",
            "Write `{http: 8000}`.",
        )
    [(protocol, port)] = value.items()
    if protocol not in protocols:
        raise Malformed(
            codes.BAD_LISTENS,
            f"{quoted(protocol)} is not a protocol; allowed: {one_of(protocols)}.",
            did_you_mean(protocol, protocols),
            inside=(protocol,),
            on_key=True,
        )
    try:
        return Listen(Protocol(protocol), parse_port(port))
    except Malformed as error:
        error.inside = (protocol,)
        raise


def parse_port(value: Any) -> int:
    """A TCP port: 1 to 65535."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise Malformed(
            codes.BAD_PORT,
            f"{quoted(value)} is not a port: a number from 1 to 65535.",
            "Write it without quotes." if isinstance(value, str) and value.isdigit() else "",
        )
    return value


def parse_address(value: Any) -> tuple[str, int]:
    """``127.0.0.1:8443`` or ``[::1]:8443`` → IP address, port."""
    text = _text(value, codes.BAD_ADDRESS, "The address to listen on", "127.0.0.1:8443")
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ip = ipaddress.ip_address(bare)
        if (ip.version == 6) != (bare != host) or getattr(ip, "scope_id", None):
            raise ValueError
        number = int(port) if re.fullmatch(r"[1-9]\d{0,4}", port, re.ASCII) else 0
        return ip.compressed, parse_port(number)
    except ValueError:
        raise Malformed(
            codes.BAD_ADDRESS,
            f"{quoted(text)} is not an IP address and a port.",
            "Write `127.0.0.1:8443`, `0.0.0.0:443` or `[::1]:8443`.",
        ) from None


def parse_hostname(value: Any) -> str:
    """A DNS name in lower case, no wildcard and no IP address (RFC 1123 section 2.1)."""
    name = _text(value, codes.BAD_HOSTNAME, "A hostname", "shop.example")
    if not _HOSTNAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise Malformed(
            codes.BAD_HOSTNAME,
            f"{quoted(name)} is not a DNS name in lower case.",
            "For example `shop.example`.",
        )
    return name


def parse_method(value: Any) -> str:
    """An HTTP method that a grant or a route may name."""
    method = _text(value, codes.BAD_METHOD, "A method", "GET")
    if method not in METHODS:
        raise Malformed(
            codes.BAD_METHOD,
            f"{quoted(method)} is not a method that can be granted: a registered one, in upper "
            "case, and neither `CONNECT` nor `TRACE`.",
            "List each method that is meant."
            if method == "*"
            else did_you_mean(method.upper(), METHODS),
        )
    return method


def parse_path_template(value: Any) -> str:
    """A path template, kept as text; see :mod:`watertight.model.templates`."""
    text = _text(value, codes.BAD_TEMPLATE, "A path template", "/orders/*")
    try:
        parse_template(text)
    except TemplateError as error:
        raise Malformed(
            codes.BAD_TEMPLATE,
            f"{quoted(text)} is not a path template: {error}.",
            "Segments are `A-Z a-z 0-9 . _ ~ -`, `*`, `{name}`, `{name}:verb`, "
            "and `**` at the end.",
        ) from None
    return text


def parse_grant(value: Any) -> Grant:
    """``GET /orders/*`` or ``shop.Catalogue/Get``."""
    text = _text(value, codes.BAD_GRANT, "A grant", "GET /orders/*")
    if rpc := _RPC.fullmatch(text):
        return RPCGrant(rpc["service"], rpc["method"])
    method, space, path = text.partition(" ")
    if space and path.startswith("/"):
        return HTTPGrant(parse_method(method), parse_path_template(path))
    raise Malformed(
        codes.BAD_GRANT,
        f"{quoted(text)} is not a grant.",
        "Write a method and a path template (`GET /orders/*`) or a gRPC method "
        "(`shop.Catalogue/Get`, `shop.Catalogue/*`).",
    )


def parse_ready(value: Any) -> str:
    """The path of a readiness check, without wildcards."""
    text = _text(value, codes.BAD_PATH, "A readiness path", "/healthz")
    if not re.fullmatch(r"/[A-Za-z0-9._~/?&=%-]*", text):
        raise Malformed(codes.BAD_PATH, f"{quoted(text)} is not a path.", "For example `/healthz`.")
    return text


def parse_file(value: Any) -> str:
    """A file or directory inside the project: relative, and never above the declaration."""
    text = _text(value, codes.BAD_PATH, "A file name", "tls/chain.pem")
    if not text or text.startswith(("/", "~")) or ".." in text.split("/"):
        raise Malformed(
            codes.BAD_PATH,
            f"{quoted(text)} is not a path inside the project.",
            "Write it relative to the declaration, without `..`.",
        )
    return text


def parse_file_anywhere(value: Any) -> str:
    """A file that may stand outside the project, as a certificate that another program renews."""
    text = _text(value, codes.BAD_PATH, "A file name", "tls/chain.pem")
    return text if text.startswith("/") and ".." not in text.split("/") else parse_file(text)


def parse_anyone(value: Any) -> None:
    """The word ``anyone``, in place of a token."""
    if value != "anyone":
        raise Malformed(
            codes.BAD_REQUIRE,
            f"A route requires `anyone` or a token, not {quoted(value)}.",
            "Write `anyone` or `{issuer: main, scopes: [orders:read]}`.",
        )


def parse_jwks(value: Any) -> str:
    """Where an issuer's keys are: a file of the project or an https URL."""
    text = _text(value, codes.BAD_URL, "A key set", "jwks.json")
    return (
        _https(text, "A key set is fetched over https only") if "://" in text else parse_file(text)
    )


def parse_issuer_url(value: Any) -> str:
    """The ``iss`` claim to expect: any non-empty StringOrURI (RFC 7519 section 4.1.1)."""
    text = _text(value, codes.BAD_URL, "An issuer", "https://login.shop.example")
    if not text or not text.isprintable() or " " in text:
        raise Malformed(codes.BAD_URL, f"{quoted(text)} is not an issuer.", "Copy its `iss` claim.")
    return text


def _https(text: str, rule: str) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme == "https" and bool(url.hostname) and "@" not in url.netloc
        good = good and (url.port is None or url.port > 0) and not url.fragment
        good = good and re.fullmatch(r"[\x21-\x7e]+", text) is not None
    except ValueError:
        good = False
    if not good:
        raise Malformed(codes.BAD_URL, f"{rule}: {quoted(text)} is refused.", "Write `https://…`.")
    return text


def parse_scope(value: Any) -> str:
    """A scope token (RFC 6749 section 3.3)."""
    if not isinstance(value, str) or not _SCOPE.fullmatch(value):
        raise Malformed(
            codes.BAD_SCOPE, f"{quoted(value)} is not a scope.", "For example `orders:read`."
        )
    return value


def parse_nonempty(value: Any) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str) or not value:
        raise Malformed(codes.BAD_TEXT, f"There is {quoted(value)} where text is needed.")
    return value


def parse_argument(value: Any) -> str:
    """A word of a command, or a variable's value: text, or a number or boolean as written."""
    if value is None or isinstance(value, list | dict):
        raise Malformed(
            codes.BAD_TEXT,
            f"There is {quoted(value)} where text is needed.",
            'Write "" for no text.',
        )
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_variable(value: Any) -> str:
    """The name of an environment variable (POSIX.1 section 8.1)."""
    if not isinstance(value, str) or not VARIABLE.fullmatch(value):
        raise Malformed(
            codes.BAD_VARIABLE,
            f"{quoted(value)} is not the name of an environment variable.",
            "Letters, digits and `_`, no digit first.",
        )
    return value
