"""Reads an xDS exchange as a sequence diagram, without a socket.

``>`` is what the proxy says, ``<`` what the server answers; each step compares all that was sent.
"""

from watertight.dataplane.resources import Resource, ResourceType
from watertight.dataplane.xds.encode import Encoded, content_version, encode
from watertight.dataplane.xds.events import (
    Acknowledged,
    Command,
    Refused,
    Requested,
    ResourcesChanged,
    Send,
)
from watertight.dataplane.xds.session import Session

SECRET = ResourceType.SECRET
CLUSTER = ResourceType.CLUSTER
ENDPOINT = ResourceType.ENDPOINT
LISTENER = ResourceType.LISTENER
EXTENSION = ResourceType.EXTENSION
ROUTE = ResourceType.ROUTE

ALL = frozenset(ResourceType)
NUMBER_FIELDS = {
    CLUSTER: "alt_stat_name",
    LISTENER: "stat_prefix",
    ROUTE: "internal_only_headers",
}


def resource(type_: ResourceType, name: str, edition: int = 1) -> Resource:
    """A resource whose content differs from edition to edition."""
    if type_ is ENDPOINT:
        return Resource(
            type_, name, {"cluster_name": name, "policy": {"overprovisioning_factor": edition}}
        )
    if type_ is SECRET:
        return Resource(
            type_,
            name,
            {"name": name, "generic_secret": {"secret": {"inline_string": str(edition)}}},
        )
    if type_ is EXTENSION:
        typed = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": str(edition)}
        return Resource(type_, name, {"name": name, "typed_config": typed})
    value = [str(edition)] if type_ is ROUTE else str(edition)
    return Resource(type_, name, {"name": name, NUMBER_FIELDS[type_]: value})


def version(type_: ResourceType, name: str, edition: int = 1) -> str:
    return content_version(resource(type_, name, edition).body)


def encoded(*resources: Resource) -> dict[tuple[ResourceType, str], Encoded]:
    return {(r.type, r.name): encode(r) for r in resources}


class Exchange:
    """A session and a proxy that is played by the test."""

    def __init__(self) -> None:
        self.session = Session()
        self.facts: list[Acknowledged | Refused] = []
        self._unanswered: list[Send] = []

    def wants(self, *resources: Resource, types: frozenset[ResourceType] = ALL) -> list[str]:
        """The control plane says all that the proxy shall have. Returns what is then sent."""
        return self._sent(self.session.handle(ResourcesChanged(encoded(*resources), types)))

    def asks(
        self,
        type_: ResourceType,
        *subscribe: str,
        drops: tuple[str, ...] = (),
        holds: dict[str, str] | None = None,
        nonce: str = "",
    ) -> list[str]:
        """The proxy subscribes. Returns what is then sent."""
        request = Requested(type_, nonce, None, subscribe, drops, holds or {})
        return self._sent(self.session.handle(request))

    def acks(self) -> list[str]:
        """The proxy ACKs the oldest response. Returns what is then sent."""
        send = self._unanswered.pop(0)
        return self._sent(self.session.handle(Requested(send.type, send.nonce)))

    def nacks(self, detail: str) -> list[str]:
        """The proxy refuses the oldest response. Returns what is then sent."""
        send = self._unanswered.pop(0)
        return self._sent(self.session.handle(Requested(send.type, send.nonce, detail)))

    def acks_all(self) -> list[str]:
        """The proxy ACKs until nothing more comes. Returns all that was sent meanwhile."""
        sent: list[str] = []
        while self._unanswered:
            sent += self.acks()
        return sent

    @property
    def pending(self) -> list[str]:
        """Why what is wanted is not in force."""
        return list(self.session.pending())

    def settling(self) -> bool:
        """Whether an answer, or the blame for a refused batch, is still to come."""
        return self.session.settling

    def _sent(self, commands: list[Command]) -> list[str]:
        sends = [c for c in commands if isinstance(c, Send)]
        self.facts += [c for c in commands if not isinstance(c, Send)]
        self._unanswered += sends
        return [shown(send) for send in sends]


def shown(send: Send) -> str:
    """``Cluster +a +b -c``: a response, without nonce and content."""
    kind = send.type.rpartition(".")[2]
    return " ".join(
        [kind, *(f"+{e.name}" for e in send.resources), *(f"-{name}" for name in send.removed)]
    )
