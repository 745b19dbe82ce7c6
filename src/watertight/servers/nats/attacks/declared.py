"""What the declaration says that each caller of a server may do, as its attacker reads it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from watertight.attack.login import Login
from watertight.attack.probe import Probe
from watertight.attack.session import Act, attacked, used
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.dialect import MAKE, NATSDialect
from watertight.servers.nats.declaration import Grants, Stream, grants, server

LEAF = "watertight-probe"
"""The token that stands for a wildcard."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One channel to a server."""

    dialect: NATSDialect
    login: Login
    granted: Grants
    others: tuple["Caller", ...] = ()
    """The other channels to the same server; theirs are left out."""

    @property
    def service(self) -> str:
        """Who calls."""
        return self.login.service

    @property
    def streams(self) -> Sequence[Stream]:
        """The server's streams."""
        return tuple(server(self.login.resource).streams.values())

    def may_publish(self, subject: str) -> bool:
        """Whether a grant names it."""
        return any(takes_in(grant, subject) for grant in self.granted.publish)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether a grant names all that it matches."""
        return any(takes_in(grant, pattern) for grant in self.granted.subscribe)

    def attack(self, identifier: str, attempt: str, act: Act) -> Probe:
        """An attack from a session of this caller."""
        return MAKE.attack(
            identifier,
            self.login.channel,
            attempt,
            attacked,
            self.dialect,
            self.login,
            act,
        )

    def use(self, identifier: str, attempt: str, act: Act) -> Probe:
        """A permitted use, from a session of this caller."""
        return MAKE.use(
            identifier,
            self.login.channel,
            attempt,
            used,
            self.dialect,
            self.login,
            act,
        )


def callers(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Caller]:
    """Every channel to one server."""
    channels = list(system.incoming(resource.name))
    every = [Caller(dialect, Login(system, resource, c.source), grants(c)) for c in channels]
    for one in every:
        others = tuple(other for other in every if other is not one)
        yield Caller(dialect, one.login, one.granted, others)


def takes_in(grant: str, pattern: str) -> bool:
    """Whether every subject of ``pattern`` is one of ``grant``. The attacker's own reading."""
    wide, narrow = grant.split("."), pattern.split(".")
    if wide[-1] == ">":
        head = len(wide) - 1
        return len(narrow) > head and _same(wide[:head], narrow[:head])
    return len(wide) == len(narrow) and _same(wide, narrow)


def _same(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    """A ``>`` of ``narrow`` is one token: as such a server takes it in a publication, and as such
    it judges a subscription. ``ask.*`` so lets ``SUB ask.>`` in; what arrives is held elsewhere."""
    return all(ours in ("*", theirs) for ours, theirs in zip(wide, narrow, strict=True))


def meets(one: str, other: str) -> bool:
    """Whether some subject is of both patterns, as far as examples tell."""
    return takes_in(one, example(other)) or takes_in(other, example(one))


def example(pattern: str) -> str:
    """One subject that a pattern matches."""
    return ".".join(LEAF if token in ("*", ">") else token for token in pattern.split("."))


def distinct(found: Iterator[str], allowed: Callable[[str], bool]) -> Iterator[str]:
    """What is not allowed, each once."""
    for one in dict.fromkeys(found):
        if not allowed(one):
            yield one
