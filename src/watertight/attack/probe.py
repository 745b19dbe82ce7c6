"""What a probe is, and what it may see: facts first, verdicts by whoever declared."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from watertight.attack.arena import Arena

ProbeKind = Literal["attack", "use"]


class Outcome(StrEnum):
    """What a probe saw. A fact, not a verdict."""

    SERVED = "served"
    REFUSED = "refused"
    NOT_RUN = "not_run"


class Verdict(StrEnum):
    """Whether what was seen is what was declared."""

    HELD = "held"
    BROKEN = "broken"
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True)
class Observation:
    """One fact: what happened, and in which words the other side said so."""

    outcome: Outcome
    detail: str
    pairs: tuple[str, ...] = ()
    """Of a probe that stands for many channels: those of which this was seen, if not of all."""
    needs_key_of: str = ""
    """The issuer for want of whose private key the attempt could not be made."""


def served(detail: str, pairs: Iterable[str] = ()) -> Observation:
    """The attempt got through (on these channels, if the probe stands for many)."""
    return Observation(Outcome.SERVED, detail, tuple(pairs))


def refused(detail: str) -> Observation:
    """The attempt was turned away by what was attacked (not by the absence of it)."""
    return Observation(Outcome.REFUSED, detail)


def not_run(detail: str, pairs: Iterable[str] = ()) -> Observation:
    """The attempt could not be made (on these channels); this never counts as held."""
    return Observation(Outcome.NOT_RUN, detail, tuple(pairs))


def no_key(issuer: str) -> Observation:
    """The attempt takes a token of that issuer, and nobody lent the key to sign one."""
    detail = (
        f"it takes a token of issuer {issuer}: lend its private key with "
        f"--token-key {issuer}=FILE, or leave such probes out with --without-tokens"
    )
    return Observation(Outcome.NOT_RUN, detail, needs_key_of=issuer)


ATTEMPTS_A_DEADLINE = 20
"""What one deadline of the prover is for."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack, or one permitted use, tried for real against a running channel."""

    id: str
    """Stable, dotted: ``tls.no-client-certificate``."""
    enforcer: str
    channel: str
    """``storefront -> orders``, also for pairs that were not declared; ``outside -> gateway``."""
    kind: ProbeKind
    attempt: str
    """One line that a person understands: what is tried."""
    expected: Outcome
    run: Callable[[Arena], Awaitable[Observation]] = field(repr=False)
    pairs: tuple[str, ...] = ()
    """The channels that it stands for, where one look answers for many: ``channel`` has a ``*``
    then. What was seen names those for which it differs."""
    patience: float = 1.0
    """How many times the prover's deadline it may take."""

    deadline_seconds: float | None = None
    """How long it may take, where it says so itself."""

    waits: bool = False
    """Whether it does little but wait: it begins before the others, which work meanwhile."""

    costly: bool = False
    """Whether it takes so much work that ``verify --sample`` may try it on a few channels only."""

    narrowed: Callable[[Collection[str]], "Probe"] | None = field(default=None, repr=False)
    """The same for some of its ``pairs``; where it is costly and stands for many."""

    def waiting(self) -> "Probe":
        """The same probe, as one that waits."""
        return replace(self, waits=True)

    def standing_for(self, pairs: Iterable[str]) -> "Probe":
        """The same probe, for these channels, one attempt each."""
        every = tuple(pairs)
        return replace(self.attempting(len(every)), pairs=every)

    def attempting(self, times: int) -> "Probe":
        """The same probe, with the patience that so many attempts one after another take."""
        return replace(self, patience=max(1.0, times / ATTEMPTS_A_DEADLINE))


@dataclass(frozen=True, slots=True)
class Deep:
    """How far a search for attacks that nobody listed may go."""

    seed: int
    seconds: float
    """For each search; they run at the same time."""
    cases: int | None = None
    """At most so many attacks a search, so that a test always tries the same."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What no probe tries, said in the first screen of every report."""

    enforcer: str
    channel: str
    """As a probe's; ``every channel`` where it is not one channel's matter."""
    what: str
    """One line: what is not tried, and why."""
