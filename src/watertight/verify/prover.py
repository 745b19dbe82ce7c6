"""The prover: runs every probe against the running system and says what held.

It knows no protocol. A probe tells a fact (:class:`Observation`); the verdict is made here, and
whatever keeps a probe from telling one, an error of its own included, is ``not_run``.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from watertight.attack.arena import Arena
from watertight.attack.patience import (
    EVERY_SECONDS,
    keep_measuring,
    measure,
    patience,
)
from watertight.attack.places import Place, Places
from watertight.attack.probe import Gap, Observation, Probe, not_run
from watertight.errors import WatertightError
from watertight.model.findings import Finding
from watertight.model.system import NOWHERE, Position, System
from watertight.verify.results import Evidence, Result, result

CONCURRENCY = 32
WITHOUT_TOKENS = "--without-tokens"
"""The option that leaves out what takes a token that nobody can sign."""
DEADLINE_SECONDS = 20.0


class DuplicateProbe(WatertightError):
    """Two probes would answer to the same name on the same channel: one would hide the other."""


async def prove(  # noqa: PLR0913 - bounds and reporting, each with a default
    arena: Arena,
    probes: Iterable[Probe],
    *,
    concurrency: int = CONCURRENCY,
    on_result: Callable[[Result], None] | None = None,
    deadline_seconds_per_probe: float = DEADLINE_SECONDS,
    findings: Sequence[Finding] = (),
    gaps: Sequence[Gap] = (),
    selection: str = "*",
    sample: str = "",
    without_tokens: bool = False,
) -> Evidence:
    """Runs all probes, at most ``concurrency`` at once, and gathers the evidence in their order.

    ``on_result`` is called as each one ends; ``selection`` says which probes were chosen, if not
    all that the declaration calls for, and ``sample`` how they were drawn. With
    ``without_tokens`` no result is given of what takes a token that nobody can sign: it is listed
    as not attacked. Raises
    :class:`DuplicateProbe` before anything runs.
    """
    listed = _distinct(probes)
    started = time.monotonic()
    places = Places(concurrency)
    positions = _positions(arena.system)
    left_out: dict[Probe, str] = {}

    async def one(probe: Probe, place: Place) -> Result:
        with place.kept():
            begun = time.monotonic()
            deadline = probe.deadline_seconds or deadline_seconds_per_probe * probe.patience
            seen = await _observe(arena, probe, deadline)
        if without_tokens and seen.needs_key_of:
            left_out[probe] = seen.needs_key_of
        at = positions.get(probe.channel, NOWHERE)
        found = result(probe, seen, time.monotonic() - begun, at)
        if on_result is not None and probe not in left_out:
            on_result(found)
        return found

    await measure()
    async with asyncio.TaskGroup() as group:
        measuring = group.create_task(keep_measuring())
        tasks: dict[int, asyncio.Task[Result]] = {}
        for number in _longest_first(listed):
            tasks[number] = group.create_task(one(listed[number], await places.take()))
        await asyncio.gather(*tasks.values())
        measuring.cancel()
    return Evidence(
        trust_domain=arena.system.trust_domain,
        seconds=time.monotonic() - started,
        channels=len(arena.system.channels),
        results=tuple(
            tasks[number].result() for number, probe in enumerate(listed) if probe not in left_out
        ),
        findings=tuple(findings),
        gaps=(*gaps, *_without_tokens(left_out)),
        selection=selection,
        sample=" ".join(filter(None, (sample, WITHOUT_TOKENS if left_out else ""))),
    )


def _without_tokens(left_out: Mapping[Probe, str]) -> Iterator[Gap]:
    """Each channel with all kinds of probes that could not be made for want of an issuer's key."""
    names: dict[tuple[str, str, str], set[str]] = {}
    for probe, issuer in left_out.items():
        names.setdefault((probe.enforcer, probe.channel, issuer), set()).add(probe.id)
    for (enforcer, channel, issuer), ids in names.items():
        what = f"{', '.join(sorted(ids))}: what takes a token of issuer {issuer}, left out"
        yield Gap(enforcer, channel, f"{what} by {WITHOUT_TOKENS}")


async def _observe(arena: Arena, probe: Probe, quiet_seconds: float) -> Observation:
    """Its time is as long as the host is slow while it runs: what it waits for is, too."""
    attempt = asyncio.ensure_future(probe.run(arena))
    began, allowed_seconds = time.monotonic(), 0.0
    try:
        while not attempt.done():
            allowed_seconds = max(allowed_seconds, patience(quiet_seconds))
            left = allowed_seconds - (time.monotonic() - began)
            if left <= 0:
                return not_run(f"no answer within {allowed_seconds:.3g} s")
            await asyncio.wait({attempt}, timeout=min(left, EVERY_SECONDS))
        return attempt.result()
    except TimeoutError:
        return not_run("no answer")
    except Exception as error:  # noqa: BLE001 - a probe that fails has proven nothing, and says so
        return not_run(f"{type(error).__name__}: {error}")
    finally:
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)


def _longest_first(probes: Sequence[Probe]) -> Sequence[int]:
    """The order to begin in: whoever takes long would else be waited for alone at the end."""

    def turn(number: int) -> tuple[bool, float]:
        probe = probes[number]
        return not probe.waits, -(probe.deadline_seconds or DEADLINE_SECONDS * probe.patience)

    return sorted(range(len(probes)), key=turn)


def _distinct(probes: Iterable[Probe]) -> tuple[Probe, ...]:
    listed = tuple(probes)
    seen: set[tuple[str, str, str]] = set()
    for probe in listed:
        key = (probe.id, probe.channel, probe.attempt)
        if key in seen:
            raise DuplicateProbe(f"Two probes {probe.id} on {probe.channel} are the same.")
        seen.add(key)
    return listed


def _positions(system: System) -> dict[str, Position]:
    positions = {c.name: c.at for c in system.channels}
    if system.gateway is not None:
        positions["outside -> gateway"] = system.gateway.at
        positions |= {f"gateway -> {r.target}": r.at for r in system.gateway.routes}
    return positions
