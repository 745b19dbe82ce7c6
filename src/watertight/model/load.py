"""Text → :class:`System`, or every finding of the file at once.

Each service, resource, channel, issuer and route is read by itself, so that one wrong part hides
nothing about the others; then the rules between the parts are run over those that did load.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from watertight.model import codes, declaration
from watertight.model.document import (
    MAX_BYTES,
    DocumentPath,
    Node,
    path_text,
    read_document,
)
from watertight.model.findings import DeclarationError, Finding
from watertight.model.gateway_rules import gateway_flaws
from watertight.model.kinds import usual_port
from watertight.model.nearest import nearest
from watertight.model.rules import Flaw, flaws
from watertight.model.system import (
    PAGES_REMEMBER_SECONDS,
    RESOURCE_LIMITS,
    SERVICE_LIMITS,
    Channel,
    Cors,
    Gateway,
    Issuer,
    Limit,
    Limits,
    Position,
    Requirement,
    Resource,
    Route,
    Service,
    System,
)
from watertight.model.translate import keys_of, no_value, shape_flaws, unknown_key
from watertight.model.values import Malformed, as_name, parse_name, parse_workload_name

MAX_FINDINGS = 200
SURELY_MEANT = 0.75
"""Of 1: how like a key must be to another one to be read as it."""
_COLLECTIONS = {"services", "resources", "channels", "issuers", "routes"}
_PARTS = {"services", "resources", "issuers", "gateway"}

S = TypeVar("S", bound=declaration.Shape)


def load_file(path: Path) -> System:
    """Reads a declaration from a file.

    Raises :class:`DeclarationError` with every finding, also if the file cannot be read.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DeclarationError(
            [
                Finding(
                    codes.UNREADABLE,
                    f"The file cannot be read: {reason}.",
                    Position(file, 1, 1),
                    remedy="`watertight init` writes one to start from.",
                )
            ]
        ) from error
    return load_text(text, file)


def load_text(text: bytes | str, file: str = "watertight.yaml") -> System:
    """Reads a declaration from text. Raises :class:`DeclarationError` with every finding."""
    document = read_document(text, file)
    findings = list(document.findings)
    system = System(trust_domain="")
    if document.root is not None:
        loader = _Loader(document.root, file)
        system = loader.load()
        findings += loader.findings
    if findings:
        raise DeclarationError(_in_order(findings))
    return system


def locator(path: Path) -> Callable[[DocumentPath, bool], Position]:
    """Finds where in a file that loads a thing stands: ``("channels", 2, "tables")``.

    The second argument asks for the key in place of its value. For findings of others than the
    loader, which know a system and not its text.
    """
    document = read_document(path.read_bytes(), str(path))
    root = document.root

    def locate(where: DocumentPath, on_key: bool) -> Position:
        return root.locate(where, on_key=on_key) if root else Position(str(path), 1, 1)

    return locate


def _in_order(findings: list[Finding]) -> list[Finding]:
    ordered = sorted(dict.fromkeys(findings), key=lambda f: (f.at, f.code, f.message))
    if len(ordered) > MAX_FINDINGS:
        last = ordered[MAX_FINDINGS]
        ordered[MAX_FINDINGS:] = [
            Finding(
                codes.TOO_MANY_FINDINGS,
                f"There are more than {MAX_FINDINGS} findings; the rest is not shown.",
                last.at,
                last.where,
            )
        ]
    return ordered


class _Loader:
    def __init__(self, root: Node, file: str) -> None:
        self.root = root
        self.file = file
        self.findings: list[Finding] = []
        self.broken: set[str] = set()
        self.broken_issuers: set[str] = set()
        self.channel_numbers: list[int] = []
        self.route_numbers: list[int] = []
        """Where each channel and route of the System stands in the document."""

    def load(self) -> System:
        frame = self._read(declaration.DeclarationFrame, (), self.root)
        self._believe_unknown_parts()
        system = System(
            trust_domain=frame.trust_domain if frame else "",
            services=dict(self._services()),
            resources=dict(self._resources()),
            gateway=self._gateway(),
            file=self.file,
        )
        system = replace(system, channels=tuple(self._channels(system)))
        broken = frozenset(self.broken)
        self._report(self._in_document(flaws(system, broken)))
        issuers = frozenset(self.broken_issuers)
        self._report(self._in_document(gateway_flaws(system, broken, issuers)))
        return system

    def _believe_unknown_parts(self) -> None:
        """What a key of the file that nobody knows names is named: one mistake, one finding."""
        parts = self.root.value if isinstance(self.root.value, dict) else {}
        for key in parts.keys() - set(keys_of(declaration.DeclarationFrame)):
            if isinstance(names := parts[key].value, dict):
                self.broken |= names.keys()

    def _services(self) -> Iterator[tuple[str, Service]]:
        for name, at, node in self._entries(("services",)):
            shape = self._read(declaration.ServiceShape, ("services", name), node)
            if self._name_is_good(parse_workload_name, ("services", name)) and shape:
                yield (
                    name,
                    Service(
                        name=name,
                        run=tuple(shape.run or ()),
                        image=shape.image,
                        listens=shape.listens,
                        environment=shape.environment,
                        directory=shape.directory,
                        ready=shape.ready,
                        contract=shape.contract,
                        private_ports=tuple(shape.private_ports),
                        limits=_limits(shape.limits, SERVICE_LIMITS),
                        at=at,
                    ),
                )
            else:
                self.broken |= {name, as_name(name)}

    def _resources(self) -> Iterator[tuple[str, Resource]]:
        for name, at, node in self._entries(("resources",)):
            shape = self._read(declaration.ResourceShape, ("resources", name), node)
            if self._name_is_good(parse_workload_name, ("resources", name)) and shape:
                port = shape.port or usual_port(shape.kind) or 0
                own = shape.model_extra or {}
                limits = _limits(shape.limits, RESOURCE_LIMITS)
                yield name, Resource(name, shape.kind, port, shape.external, own, at, limits)
            else:
                self.broken |= {name, as_name(name)}

    def _channels(self, system: System) -> Iterator[Channel]:
        for number, node in self._items(("channels",)):
            path: DocumentPath = ("channels", number)
            self._mend_keys(declaration.ChannelShape, path, node, only=("from", "to"))
            if not self._speaks_resource(system, node):
                self._mend_keys(declaration.ChannelShape, path, node)
            shape = self._read(declaration.ChannelShape, path, node)
            if not self._speaks_resource(system, node) and isinstance(node.value, dict):
                extra = node.value.keys() - set(keys_of(declaration.ChannelShape))
                self._report(unknown_key(declaration.ChannelShape, path, k) for k in sorted(extra))
                shape = None if extra else shape
            if shape is None:
                continue
            self.channel_numbers.append(number)
            yield Channel(
                source=shape.source,
                target=shape.target,
                grants=tuple(shape.allow or ()),
                timeout_seconds=shape.timeout,
                retries=shape.retries,
                originate=shape.originate,
                options=shape.model_extra or {},
                at=node.at,
            )

    def _speaks_resource(self, system: System, node: Node) -> bool:
        """Whether a channel may have keys of a resource's own kind, as far as one can tell."""
        target = node.child("to")
        name = target.value if target else None
        return not isinstance(name, str) or name not in system.services

    def _gateway(self) -> Gateway | None:
        node = self.root.child("gateway")
        if node is None or node.value is None:
            return None
        frame = self._read(declaration.GatewayFrame, ("gateway",), node)
        issuers = dict(self._issuers())
        routes = tuple(self._routes())
        if frame is None:
            # The routes are judged all the same; the system is not given out.
            return Gateway(hostname="", routes=routes, issuers=issuers)
        return Gateway(
            hostname=frame.hostname,
            routes=routes,
            address=frame.listen[0],
            port=frame.listen[1],
            certificate=frame.certificate,
            private_key=frame.private_key,
            issuers=issuers,
            max_request_bytes=frame.max_request_size,
            max_header_bytes=frame.max_header_size,
            max_headers=frame.max_headers,
            at=self.root.keys["gateway"],
        )

    def _issuers(self) -> Iterator[tuple[str, Issuer]]:
        for name, at, node in self._entries(("gateway", "issuers")):
            path = ("gateway", "issuers", name)
            shape = self._read(declaration.IssuerShape, path, node)
            if self._name_is_good(parse_name, path) and shape:
                jwks_at = node.locate(("jwks",))
                yield (
                    name,
                    Issuer(name, shape.issuer, tuple(shape.audiences), shape.jwks, at, jwks_at),
                )
            else:
                self.broken_issuers.add(name)

    def _routes(self) -> Iterator[Route]:
        for number, node in self._items(("gateway", "routes")):
            shape = self._read(declaration.RouteShape, ("gateway", "routes", number), node)
            if shape is None:
                continue
            self.route_numbers.append(number)
            yield Route(
                path=shape.path,
                target=shape.target,
                methods=tuple(shape.methods),
                rewrite=shape.rewrite,
                require=_requirement(shape.require),
                limit=_limit(shape.limit),
                timeout_seconds=shape.timeout,
                keeps_host=shape.host,
                escaped_slashes=shape.escaped_slashes,
                double_slashes=shape.double_slashes,
                cors=_cors(shape.cors),
                at=node.at,
            )

    def _entries(self, path: DocumentPath) -> Iterator[tuple[str, Position, Node]]:
        node = self._at(path)
        if node is not None and isinstance(node.value, dict):
            for key, child in node.value.items():
                yield key, node.keys[key], child

    def _items(self, path: DocumentPath) -> Iterator[tuple[int, Node]]:
        node = self._at(path)
        if node is not None and isinstance(node.value, list):
            yield from enumerate(node.value)

    def _at(self, path: DocumentPath) -> Node | None:
        node: Node | None = self.root
        for step in path:
            node = node.child(step) if node else None
        return node

    def _name_is_good(self, parse: Callable[[Any], str], path: DocumentPath) -> bool:
        try:
            parse(path[-1])
        except Malformed as error:
            self._report([Flaw(error.code, path, error.message, error.remedy, on_key=True)])
            return False
        return True

    def _read(self, shape: type[S], path: DocumentPath, node: Node) -> S | None:
        if shape.model_config.get("extra") == "forbid":
            self._mend_keys(shape, path, node)
        elif shape is declaration.ResourceShape:
            self._mend_keys(shape, path, node, only=("kind",))
        plain = node.plain()
        empty = [key for key, value in plain.items() if value is None] if _is_map(node) else ()
        for key in empty:
            if key in _COLLECTIONS & shape.model_fields.keys():
                del plain[key]  # no channels allow nothing: that is safe to mean
            elif key in keys_of(shape):
                self._report([no_value((*path, key))])
                del plain[key]
        try:
            return shape.model_validate(plain)
        except ValidationError as error:
            self._report(shape_flaws(shape, path, error, told=empty))
            return None

    def _mend_keys(
        self, shape: type[S], path: DocumentPath, node: Node, only: Sequence[str] = ()
    ) -> None:
        """Reads a misspelt key as the one that was meant: it is a finding, and the only one.

        ``only``: the keys that may have been meant, where others know further ones.
        """
        if not isinstance(node.value, dict):
            return
        allowed = keys_of(shape)
        missing = [key for key in only or allowed if key not in node.value]
        for key in [key for key in node.value if key not in allowed]:
            meant = nearest(key, missing, cutoff=SURELY_MEANT)
            if meant is None or not _fits(node.value[key], meant):
                continue
            self._report([unknown_key(shape, path, key)])
            node.rename(key, meant)
            missing.remove(meant)

    def _report(self, found: Iterable[Flaw]) -> None:
        for flaw in found:
            if len(self.findings) > MAX_FINDINGS:
                return
            path = flaw.path
            at = self.root.locate(path, on_key=flaw.on_key)
            self.findings.append(Finding(flaw.code, flaw.message, at, path_text(path), flaw.remedy))

    def _in_document(self, found: Iterable[Flaw]) -> Iterator[Flaw]:
        """The flaws with the numbers of channels and routes as in the document."""
        for flaw in found:
            match flaw.path:
                case ("channels", int(number), *rest):
                    yield replace(flaw, path=("channels", self.channel_numbers[number], *rest))
                case ("gateway", "routes", int(number), *rest):
                    number = self.route_numbers[number]
                    yield replace(flaw, path=("gateway", "routes", number, *rest))
                case _:
                    yield flaw


def _is_map(node: Node) -> bool:
    return isinstance(node.value, dict)


def _fits(node: Node, key: str) -> bool:
    """Whether a value has the form of what stands under a key, where that is one of many parts."""
    wanted = {"channels": list, "routes": list}.get(key, dict if key in _PARTS else None)
    return wanted is None or node.value is None or isinstance(node.value, wanted)


def _requirement(shape: declaration.RequirementShape | None) -> Requirement | None:
    if shape is None:
        return None
    any_claims = tuple(shape.any_claims or ())
    return Requirement(shape.issuer, tuple(shape.scopes), shape.claims, any_claims)


def _limits(shape: declaration.LimitsShape, usual: Limits) -> Limits:
    return Limits(
        memory_bytes=shape.memory or usual.memory_bytes,
        processes=shape.processes or usual.processes,
        temp_bytes=shape.temp or usual.temp_bytes,
        files=shape.files or usual.files,
    )


def _cors(shape: declaration.CorsShape | None) -> Cors | None:
    if shape is None:
        return None
    return Cors(
        origins=tuple(shape.origins),
        headers=tuple(shape.headers),
        expose=tuple(shape.expose),
        credentials=shape.credentials,
        max_age_seconds=shape.max_age or PAGES_REMEMBER_SECONDS,
    )


def _limit(shape: declaration.LimitShape | None) -> Limit | None:
    return Limit(shape.per, *shape.rate) if shape else None
