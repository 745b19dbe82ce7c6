"""The shape of the declaration: which keys stand where, and what each means.

From here come both the checks of single values and the JSON Schema that editors complete from.
How the parts fit together (does the target exist?) is in :mod:`watertight.model.rules`.

``…Frame`` classes leave their parts unread, so that the loader reads each part by itself and
one wrong service does not hide what is wrong with the next; ``…Shape`` is the whole.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.config import JsonDict

from watertight.model import gateway_values, values
from watertight.model.claims import CLAIMS_SCHEMA, parse_claims
from watertight.model.methods import METHODS
from watertight.model.system import (
    PAGES_READ,
    PAGES_REMEMBER_SECONDS,
    PAGES_SEND,
    Claim,
    Grant,
    Listen,
    Per,
    Protocol,
)

MAX_RETRIES = 10
MAX_PROCESSES = 1 << 22
"""The kernel's own (PID_MAX_LIMIT, proc_sys_kernel(5))."""
MAX_FILES = 1 << 20
"""The kernel's own, unless raised (fs.nr_open, proc_sys_fs(5))."""
DEFAULT_REQUEST_BYTES = 1 << 20
DEFAULT_ADDRESS = ("127.0.0.1", 8443)
DEFAULT_HEADER_BYTES = 32 << 10
DEFAULT_HEADERS = 100
MOST_HEADERS = 1000


def _by(parse: Callable[[Any], Any], **schema: Any) -> Any:
    """A value with its own parser and its own JSON Schema."""
    return Field(), PlainValidator(parse), WithJsonSchema({"type": "string", **schema})


TEXT: JsonDict = {"type": "string", "minLength": 1}
COUNT: JsonDict = {"type": "integer", "minimum": 1}
SIZE: JsonDict = {"type": ["string", "integer"], "examples": ["64MiB"]}
AGE: JsonDict = {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$", "examples": ["7d"]}
"""What kinds of server say of their own keys, in a schema."""
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_NAME = f"^{values.NAME.pattern}$"
_NAMES: JsonDict = {"propertyNames": {"pattern": _NAME}}
_LISTENS = {
    "type": "object",
    "properties": {p.value: _PORT for p in Protocol},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
Argument = Annotated[str, *_by(values.parse_argument, type=["string", "integer", "boolean"])]
Duration = Annotated[
    float | None,
    *_by(values.parse_duration, pattern="^[0-9]{1,9}(ms|s|m|h)$", examples=["500ms", "2s"]),
]
OneClaims = Annotated[
    tuple[Claim, ...], PlainValidator(parse_claims), WithJsonSchema(CLAIMS_SCHEMA)
]
File = Annotated[str | None, *_by(values.parse_file, pattern="^[^/~]")]
FileAnywhere = Annotated[str | None, *_by(values.parse_file_anywhere)]
Name = Annotated[str, *_by(values.parse_name, pattern=_NAME)]
OneGrant = Annotated[
    Grant, *_by(values.parse_grant, examples=["GET /orders/*", "shop.Catalogue/Get"])
]
PathTemplate = Annotated[
    str, *_by(values.parse_path_template, pattern="^/", examples=["/orders/*", "/files/**"])
]
Port = Annotated[int, PlainValidator(values.parse_port), WithJsonSchema(_PORT)]
Text = Annotated[str, *_by(values.parse_nonempty, minLength=1)]


class Shape(BaseModel):
    """Strict: no unknown key, no guessed type. What stands below a key says what it means
    (:mod:`.described`)."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # of most there is none in a declaration
    )


Space = Annotated[
    int | None, *_by(values.parse_space, type=["string", "integer"], examples=["512MiB"])
]


class LimitsShape(Shape):
    """What the program may use of its host."""

    memory: Space = None
    """All its processes together, temporary files included; 1GiB for a service, 2GiB for a
    resource unless stated."""
    processes: int | None = Field(default=None, ge=4, le=MAX_PROCESSES)
    """At once, threads included; 1024 unless stated."""
    temp: Space = None
    """`/tmp` and `/dev/shm`, each; 256MiB unless stated."""
    files: int | None = Field(default=None, ge=32, le=MAX_FILES)
    """Open files of each process; 16384 for a service, 65536 for a resource unless stated."""


class ServiceShape(Shape):
    """A workload of your own: how it starts and the one port on which it listens."""

    run: Annotated[list[Argument], Field(min_length=1)] | None = None
    """The command that starts it on this host, word by word; no shell."""
    directory: Annotated[str, *_by(values.parse_file, pattern="^[^/~]")] = "."
    """Where the command starts, relative to this file."""
    environment: dict[Annotated[str, PlainValidator(values.parse_variable)], Argument] = Field(
        default={}, json_schema_extra={"propertyNames": {"pattern": f"^{values.VARIABLE.pattern}$"}}
    )
    """Environment variables of the service, as they stand: `${X}` is not expanded. No place for
    secrets."""
    image: Annotated[str | None, *_by(values.parse_nonempty, minLength=1)] = None
    """The container image that holds it."""
    listens: Annotated[
        Listen | None, PlainValidator(values.parse_listens), WithJsonSchema(_LISTENS)
    ] = None
    """The protocol and port of the service itself (on 127.0.0.1). Without it, it only calls."""
    private_ports: list[Port] = []
    """Ports on which the service listens for itself alone: a debugger, metrics, its own workers.
    Nobody else reaches them; the proof calls every other socket a finding."""
    ready: Annotated[str | None, *_by(values.parse_ready, pattern="^/", examples=["/healthz"])] = (
        None
    )
    """A path that answers 2xx once the service is ready (http only)."""
    contract: File = None
    """Its OpenAPI document, relative to this file."""
    limits: LimitsShape = LimitsShape()
    """What it may use of its host."""


class ResourceShape(Shape):
    """What services use and did not write: a database, a broker, a store."""

    model_config = ConfigDict(extra="allow")

    kind: Text
    """Which kind of resource; each kind has its own further keys."""
    port: Annotated[
        int | None, PlainValidator(values.parse_port), WithJsonSchema({**_PORT, "default": None})
    ] = None
    """Where its server listens for TLS; the usual port of its kind unless stated."""
    external: Annotated[str | None, *_by(values.parse_hostname, examples=["db.shop.example"])] = (
        None
    )
    """The host of a server that somebody else runs; without it, `watertight up` runs one."""
    limits: LimitsShape = LimitsShape()
    """What its server may use of its host."""


class ChannelShape(Shape):
    """Who may call whom, and what may be said. What is not declared does not work."""

    model_config = ConfigDict(extra="allow")

    source: Annotated[str, *_by(values.parse_name, pattern=_NAME), Field(alias="from")]
    """The service that calls."""
    target: Annotated[str, *_by(values.parse_name, pattern=_NAME), Field(alias="to")]
    """The service or resource that is called."""
    allow: Annotated[list[OneGrant], Field(min_length=1)] | None = None
    """The grants: a method and a path template, or a gRPC method. Without it, the channel says
    only who may talk, not what may be said."""
    timeout: Duration = None
    """How long one request may take."""
    retries: int = Field(default=0, ge=0, le=MAX_RETRIES)
    """How often a failed request is tried again."""
    originate: bool = False
    """Let the caller's proxy speak mTLS to the resource, for a client that cannot."""


class IssuerShape(Shape):
    """Whose tokens (JWT, RFC 7519) the gateway accepts."""

    issuer: Annotated[str, *_by(values.parse_issuer_url, examples=["https://login.shop.example"])]
    """The `iss` claim."""
    audiences: list[Text] = Field(min_length=1)
    """The `aud` claims, one of which a token must hold."""
    jwks: Annotated[str, *_by(values.parse_jwks, examples=["jwks.json"])]
    """The issuer's keys (RFC 7517): a file relative to this one, or an https URL."""


class RequirementShape(Shape):
    """The token that opens a route."""

    issuer: Name
    """One of the gateway's issuers."""
    scopes: list[Annotated[str, *_by(values.parse_scope, examples=["orders:read"])]] = []
    """Scopes (RFC 6749 section 3.3) that the token must hold, all of them: in `scope` or, where the
    token has no such claim, in `scp`; as text or as a list."""
    claims: OneClaims = ()
    """Claims that the token must have, all of them, nested as in the token. A claim fits if it is
    the value, or a list that holds it; a list here asks for each of its values."""
    any_claims: Annotated[list[OneClaims], Field(min_length=1)] | None = None
    """Several such groups of claims, of which the token must have one."""


class LimitShape(Shape):
    """A token bucket: how many requests a route takes."""

    per: Annotated[Per, *_by(values.parse_per, enum=[p.value for p in Per])]
    """Whose bucket a request counts in: the token's subject, or the client's address."""
    rate: Annotated[
        tuple[int, int],
        *_by(values.parse_rate, pattern="^[0-9]{1,9}/(s|m|h)$", examples=["100/s", "20/m"]),
    ]
    """Requests per second, minute or hour."""


_HEADERS = _by(gateway_values.parse_header_name, examples=["x-request-id"])


class CorsShape(Shape):
    """Which pages of other origins may use a route in a browser."""

    origins: list[
        Annotated[str, *_by(gateway_values.parse_origin, examples=["https://app.example"])]
    ] = Field(min_length=1)
    """Each by name, as browsers write it, or `"*"` for every page."""
    headers: list[Annotated[str, *_HEADERS]] = list(PAGES_SEND)
    """The headers that such a page may send; `authorization` and `content-type` unless stated."""
    expose: list[Annotated[str, *_HEADERS]] = list(PAGES_READ)
    """The headers of an answer that it may read; `retry-after` and `www-authenticate` unless
    stated."""
    credentials: bool = False
    """Let cookies go along."""
    max_age: Duration = PAGES_REMEMBER_SECONDS
    """How long a browser need not ask again; 10m unless stated."""


def _requirement(value: Any) -> RequirementShape | None:
    """``anyone`` (None) or a token; what is wrong inside a token is found part by part."""
    if isinstance(value, dict):
        return RequirementShape.model_validate(value)
    values.parse_anyone(value)
    return None


class RouteShape(Shape):
    """One way in at the gateway. The first route that matches a request takes it."""

    path: PathTemplate
    """The path template that it matches."""
    methods: list[Annotated[str, *_by(values.parse_method, enum=list(METHODS))]] = Field(
        default=["GET"], min_length=1
    )
    """The methods that it matches."""
    target: Annotated[str, *_by(values.parse_name, pattern=_NAME), Field(alias="to")]
    """The service that answers."""
    rewrite: Annotated[
        str | None, *_by(values.parse_path_template, pattern="^/", examples=["/orders/*"])
    ] = None
    """The path that the service sees; as many wildcards as `path`."""
    require: Annotated[
        RequirementShape | None,
        PlainValidator(_requirement, json_schema_input_type=Literal["anyone"] | RequirementShape),
    ]
    """The token that opens it, or `anyone`."""
    limit: LimitShape | None = None
    """How many requests it takes."""
    timeout: Annotated[
        float | None,
        *_by(
            gateway_values.parse_route_timeout,
            pattern="^([0-9]{1,9}(ms|s|m|h)|none)$",
            examples=["5s", "none"],
        ),
    ] = None
    """How long the service may take, from the end of a request to the end of its answer; `none`
    unless stated."""
    host: Annotated[
        bool,
        *_by(
            gateway_values.parse_host_seen, enum=list(gateway_values.HOSTS_SEEN), default="public"
        ),
    ] = True
    """The Host that the service sees: `public`, as the client wrote it, or `service`, its own name
    and port."""
    escaped_slashes: bool = False
    """Let `%2F` through in what a wildcard matches, as it is. Other routes refuse it."""
    double_slashes: bool = False
    """Let `//` through in what `**` matches, as it is. Other routes of the gateway then refuse it;
    without any such route it is merged."""
    cors: CorsShape | None = None
    """Which pages of other origins may use it in a browser. Without it the service says so itself,
    and the gateway's own refusals cannot be read by them."""


class GatewayFrame(Shape):
    """Where the outside comes in, over HTTPS only."""

    hostname: Annotated[str, *_by(values.parse_hostname, examples=["shop.example"])]
    """The name that its certificate carries and that requests must ask for."""
    listen: Annotated[tuple[str, int], *_by(values.parse_address, examples=["127.0.0.1:8443"])] = (
        DEFAULT_ADDRESS
    )
    """The address and port; 127.0.0.1:8443 unless stated."""
    certificate: FileAnywhere = None
    """A PEM chain; without it our own authority issues the certificate."""
    private_key: FileAnywhere = None
    """The certificate's key, PEM."""
    max_request_size: Annotated[
        int, *_by(values.parse_size, type=["string", "integer"], examples=["1MiB"])
    ] = DEFAULT_REQUEST_BYTES
    """The largest request body; 1MiB unless stated."""
    max_header_size: Annotated[
        int, *_by(gateway_values.parse_header_size, type=["string", "integer"], examples=["64KiB"])
    ] = DEFAULT_HEADER_BYTES
    """The largest size of all headers of a request together; 32KiB unless stated."""
    max_headers: Annotated[int, Field(ge=1, le=MOST_HEADERS)] = DEFAULT_HEADERS
    """How many headers a request may have; 100 unless stated."""
    issuers: dict[str, Any] = Field(default={}, json_schema_extra=_NAMES)
    """Whose tokens it accepts, by a name of yours."""
    routes: list[Any] = Field(default=[])
    """Its routes, in order."""


class GatewayShape(GatewayFrame):
    """Where the outside comes in, over HTTPS only."""

    issuers: dict[str, IssuerShape] = Field(default={}, json_schema_extra=_NAMES)
    """Whose tokens it accepts, by a name of yours."""
    routes: list[RouteShape] = Field(default=[])
    """Its routes, in order."""


class DeclarationFrame(Shape):
    """What one file declares: services, and the channels between them."""

    trust_domain: Annotated[
        str,
        *_by(
            values.parse_trust_domain,
            pattern=f"^{values.TRUST_DOMAIN.pattern}$",
            maxLength=values.MAX_TRUST_DOMAIN,
            examples=["shop.internal"],
        ),
    ]
    """The SPIFFE trust domain: each service is `spiffe://<trust domain>/<service>`."""
    services: dict[str, Any] = Field(default={}, json_schema_extra=_NAMES)
    """Workloads of your own, by name."""
    resources: dict[str, Any] = Field(default={}, json_schema_extra=_NAMES)
    """Databases, brokers and stores, by name."""
    channels: list[Any] = []
    """Who may call whom, and what may be said."""
    gateway: Any = None
    """Where the outside comes in."""


class DeclarationShape(DeclarationFrame):
    """What one file declares: services, and the channels between them."""

    services: dict[str, ServiceShape] = Field(default={}, json_schema_extra=_NAMES)
    """Workloads of your own, by name."""
    resources: dict[str, ResourceShape] = Field(default={}, json_schema_extra=_NAMES)
    """Databases, brokers and stores, by name."""
    channels: list[ChannelShape] = []
    """Who may call whom, and what may be said."""
    gateway: GatewayShape | None = None
    """Where the outside comes in."""


PARTS: dict[str, type[Shape]] = {
    "limit": LimitShape,
    "limits": LimitsShape,
    "require": RequirementShape,
}
"""The parts that are read together with what they stand in, by their key."""
