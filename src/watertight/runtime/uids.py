"""Unprivileged users of our own: one for each app and each proxy, when root starts them.

The numbers stand in no /etc/passwd: 1,900,000,000 to 2,100,000,000, above what systemd gives to
containers and below 2^31 (systemd.io/UIDS-GIDS). Each system has a block of 4,096; who has which
number is written down beside the declaration, for files belong to it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from watertight.errors import WatertightError
from watertight.runtime.files import write_atomically
from watertight.runtime.pod_wire import Credentials

FIRST_UID = 1_900_000_000
BLOCK = 4_096
_BLOCKS = 48_000


@dataclass(frozen=True, slots=True)
class Users:
    """Who runs as whom. ``proxies`` is the group that all proxies of the system share."""

    proxies: int
    numbers: dict[str, int]

    def app(self, service: str) -> Credentials:
        """The user of a service's app, with a group of its own."""
        number = self.numbers[f"app:{service}"]
        return Credentials(number, number)

    def proxy(self, workload: str) -> Credentials:
        """The user of a workload's proxy."""
        return Credentials(self.numbers[f"proxy:{workload}"], self.proxies)


class TooManyUsersError(WatertightError):
    """The block of a system is used up."""

    def __init__(self, record: Path) -> None:
        super().__init__(
            f"All {BLOCK} user numbers of this system are taken ({record}).",
            remedy="Split the system, or remove the record together with `.watertight/data`.",
        )


class BrokenUserRecordError(WatertightError):
    """The record cannot be trusted."""

    def __init__(self, record: Path) -> None:
        super().__init__(
            f"{record} is not a record of users.",
            remedy="Restore it, or remove it together with `.watertight/data`.",
        )


def allotted(record: Path, system: str, workloads: Iterable[str]) -> Users:
    """The users of every workload: those recorded, then new ones. Records nothing.

    A number is never given to another name, also when its service is gone.
    """
    numbers = _read(record)
    if "proxies" not in numbers:
        number = int.from_bytes(hashlib.sha256(system.encode()).digest()[:8]) % _BLOCKS
        numbers["proxies"] = FIRST_UID + number * BLOCK
    first = numbers["proxies"]
    following = max(numbers.values()) + 1
    for workload in sorted(workloads):
        for name in (f"app:{workload}", f"proxy:{workload}"):
            if name not in numbers:
                numbers[name] = following
                following += 1
    if following > first + BLOCK:
        raise TooManyUsersError(record)
    return Users(first, {name: n for name, n in numbers.items() if name != "proxies"})


def keep(record: Path, users: Users) -> None:
    """Records them, before anything belongs to one."""
    numbers = {"proxies": users.proxies, **users.numbers}
    if numbers != _read(record):
        write_atomically(record, json.dumps(numbers, indent=1).encode())


def _read(record: Path) -> dict[str, int]:
    try:
        numbers = json.loads(record.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BrokenUserRecordError(record) from error
    last = FIRST_UID + _BLOCKS * BLOCK
    if not isinstance(numbers, dict) or not all(
        isinstance(n, int) and FIRST_UID <= n < last for n in numbers.values()
    ):
        raise BrokenUserRecordError(record)
    return numbers
