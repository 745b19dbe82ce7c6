"""Costly attacks on some channels only, for a system so large that all would take too long.

Channels are drawn anew by each seed, so that proofs of many days come to all; what was left out is
in the report, with the seed that left it out.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from watertight.enforcers.contract import Gap, Probe


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
    names: dict[str, set[str]] = {}
    for probe in probes:
        if probe.costly:
            channels.setdefault(_family(probe), set()).add(probe.channel)
            names.setdefault(_family(probe), set()).add(probe.id)
    drawn = {family: _drawn(family, among, sample) for family, among in channels.items()}
    kept, left = [], dict[tuple[str, str, str], None]()
    for probe in probes:
        if not probe.costly or probe.channel in drawn[_family(probe)]:
            kept.append(probe)
        else:
            left[probe.enforcer, probe.channel, _family(probe)] = None
    gaps = [
        Gap(enforcer, channel, f"{', '.join(sorted(names[family]))}: left out by {sample}")
        for enforcer, channel, family in left
    ]
    return kept, gaps


def _family(probe: Probe) -> str:
    return probe.id.partition(".")[0]


def _drawn(family: str, channels: Collection[str], sample: Sample) -> frozenset[str]:
    """The same from one seed, whatever order the probes come in."""

    def lot(channel: str) -> bytes:
        return hashlib.sha256(f"{sample.seed} {family} {channel}".encode()).digest()

    return frozenset(sorted(channels, key=lot)[: sample.channels])
