"""The reachability matrix: who was tried against whom, and what came of all of it together."""

from collections.abc import Mapping
from dataclasses import dataclass

from watertight.attack.probe import Outcome, Verdict
from watertight.verify.results import Evidence, Result


@dataclass(frozen=True, slots=True)
class Cell:
    """All probes on one ordered pair. ``verdict`` is the worst of theirs."""

    channel: str
    declared: bool
    """Whether anything on this pair is expected to be served."""
    probes: int
    held: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows are sources in order of first mention, ``outside`` first; columns are targets."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]


def matrix_of(evidence: Evidence) -> Matrix:
    """The matrix of everything that was probed. A probe's channel is ``source -> target``."""
    pairs: dict[tuple[str, str], list[Result]] = {}
    for result in evidence.results:
        for channel in result.channels:
            source, _, target = channel.partition(" -> ")
            pairs.setdefault((source, target), []).append(result)
    sources = sorted(dict.fromkeys(source for source, _target in pairs), key=_outside_first)
    targets = {target for _source, target in pairs}
    return Matrix(
        sources=tuple(sources),
        targets=(*(s for s in sources if s in targets), *sorted(targets - set(sources))),
        cells={pair: _cell(" -> ".join(pair), results) for pair, results in pairs.items()},
    )


def _outside_first(name: str) -> int:
    order = ("outside", "anyone", "gateway")
    return order.index(name) if name in order else len(order)


def _cell(channel: str, results: list[Result]) -> Cell:
    verdicts = [r.verdict_on(channel) for r in results]
    worst = next(v for v in (Verdict.BROKEN, Verdict.NOT_RUN, Verdict.HELD) if v in verdicts)
    return Cell(
        channel=channel,
        declared=any(r.expected == Outcome.SERVED.value for r in results),
        probes=len(results),
        held=verdicts.count(Verdict.HELD),
        verdict=worst,
    )
