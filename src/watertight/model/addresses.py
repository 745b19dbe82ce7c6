"""The loopback address on which a service finds another one, by name.

Inside a caller's network namespace each callee has a loopback address of its own, so that two
callees may use the same port. The address is derived from the callee's name alone: adding a
channel never moves another one (a moved listener would cut its connections).
"""

import hashlib
from collections.abc import Iterable

from watertight.model.system import System

FIRST_BLOCK = 64
"""127.64.0.0/10 is ours; apps bind 127.0.0.1, systemd-resolved 127.0.0.53."""


def _address(number: int) -> str:
    return f"127.{FIRST_BLOCK + (number >> 16)}.{(number >> 8) & 0xFF}.{number & 0xFF}"


def loopback_addresses(names: Iterable[str]) -> dict[str, str]:
    """One loopback address a name; the rare collision moves the later name, in sorted order."""
    taken: dict[int, str] = {}
    for name in sorted(set(names)):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) & 0x3FFFFF
        while number in taken:
            number = (number + 1) & 0x3FFFFF
        taken[number] = name
    return {name: _address(number) for number, name in taken.items()}


def callee_addresses(system: System, caller: str, *, shared_network: bool) -> dict[str, str]:
    """Where ``caller`` reaches each thing that it has a channel to: name → loopback address.

    Within a network namespace of its own the callee's name alone decides. On a shared network all
    callers stand side by side, so that each pair has an address.
    """
    if not shared_network:
        return loopback_addresses(channel.target for channel in system.outgoing(caller))
    pairs = loopback_addresses(f"{c.source}>{c.target}" for c in system.channels)
    return {c.target: pairs[f"{caller}>{c.target}"] for c in system.outgoing(caller)}
