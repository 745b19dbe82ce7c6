"""Costly attacks on some channels only, for a system so large that all would take too long.

Channels are drawn anew by each seed, so that proofs of many days come to all; what was left out is
in the report, with the seed that left it out.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from watertight.attack.probe import Gap, Probe


@dataclass(frozen=True, slots=True)
class Sample:
    """On how many channels each costly kind of attack is tried."""

    channels: int
    seed: int

    def __str__(self) -> str:
        """As the options that ask for it."""
        return f"--sample {self.channels} --seed {self.seed}"


def sampled(probes: Sequence[Probe], sample: Sample) -> tuple[Sequence[Probe], Sequence[Gap]]:
    """The probes that are run, and what is left out, family by family (``desync``) and channel.

    Uses, and attacks that cost little, are all run.
    """
    channels: dict[str, set[str]] = {}
    for probe in probes:
        if probe.costly:
            channels.setdefault(probe.id, set()).update(_channels(probe))
    # By one lot for a family, so that its attacks are tried on the same channels.
    drawn = {name: _drawn(_family(name), among, sample) for name, among in channels.items()}
    kept, left = list[Probe](), dict[tuple[str, str, str], set[str]]()
    for probe in probes:
        among = drawn[probe.id] if probe.costly else frozenset(_channels(probe))
        if chosen := among.intersection(_channels(probe)):
            kept.append(probe.narrowed(chosen) if probe.costly and probe.narrowed else probe)
        for channel in _channels(probe):
            if channel not in among:
                left.setdefault((probe.enforcer, channel, _family(probe.id)), set()).add(probe.id)
    gaps = [
        Gap(enforcer, channel, f"{', '.join(sorted(names))}: left out by {sample}")
        for (enforcer, channel, _), names in left.items()
    ]
    return kept, gaps


def _channels(probe: Probe) -> Collection[str]:
    """Each of which it may be tried on without the others."""
    return probe.pairs if probe.narrowed else (probe.channel,)


def _family(name: str) -> str:
    return name.partition(".")[0]


def _drawn(family: str, channels: Collection[str], sample: Sample) -> frozenset[str]:
    """The same from one seed, whatever order the probes come in."""

    def lot(channel: str) -> bytes:
        return hashlib.sha256(f"{sample.seed} {family} {channel}".encode()).digest()

    return frozenset(sorted(channels, key=lot)[: sample.channels])
