"""What a running Envoy says of itself, over its admin socket: counters, read only."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

from watertight.errors import WatertightError
from watertight.unix_http import async_transport

TIMEOUT_SECONDS = 2.0
HANGS_SECONDS = 5.0
"""Who says nothing for so long hangs; a proxy that is only busy answers sooner."""
CIPHER = ".ssl.ciphers."
GROUP = ".ssl.curves."


class ProxyUnreachable(WatertightError):
    """A proxy's admin socket does not answer."""


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """One listener's counters: live connections, and what was negotiated on it so far."""

    active_connections: int = 0
    ciphers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


async def answers(socket: Path) -> bool:
    """Whether a proxy says anything at all: one that hangs keeps its connections."""
    try:
        await stats(socket, "^server.uptime$", timeout_seconds=HANGS_SECONDS)
    except ProxyUnreachable:
        return False
    return True


async def stats(
    socket: Path, pattern: str, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> dict[str, int]:
    """Counters and gauges whose name matches ``pattern``. Raises :class:`ProxyUnreachable`."""
    transport = async_transport(socket)
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://envoy", timeout=timeout_seconds
        ) as client:
            answer = await client.get("/stats", params={"filter": pattern, "format": "json"})
            answer.raise_for_status()
            listed = json.loads(answer.text)["stats"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise ProxyUnreachable(
            f"The proxy at {socket} does not answer ({type(error).__name__})."
        ) from error
    return {entry["name"]: entry["value"] for entry in listed if "value" in entry}


async def connections(socket: Path, doors: Iterable[Path]) -> int:
    """How many connections the listeners on these Unix sockets have now."""
    found = await stats(socket, r"^listener\..*\.downstream_cx_active$")
    return sum(found.get(f"{_prefix(door)}downstream_cx_active", 0) for door in doors)


def _prefix(door: Path) -> str:
    return f"listener.{str(door).replace(':', '_')}."


async def listener_facts(socket: Path, door: Path) -> ListenerFacts:
    """The facts of the listener on one Unix socket."""
    prefix = _prefix(door)
    counters = {
        name: value
        for name, value in (await stats(socket, r"^listener\.")).items()
        if name.startswith(prefix)
    }

    def seen(kind: str) -> tuple[str, ...]:
        return tuple(
            sorted(
                name.split(kind)[1] for name, value in counters.items() if kind in name and value
            )
        )

    active = counters.get(f"{prefix}downstream_cx_active", 0)
    return ListenerFacts(active, seen(CIPHER), seen(GROUP))
