"""What a proof found: the value that every report renders and the evidence signs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from watertight.attack.probe import Gap, Observation, Outcome, Probe, Verdict
from watertight.errors import ExitCode
from watertight.model.findings import Finding
from watertight.model.system import NOWHERE, Position


@dataclass(frozen=True, slots=True)
class Result:
    """One probe and what came of it. ``at`` is where its channel is declared."""

    id: str
    enforcer: str
    channel: str
    kind: str
    attempt: str
    expected: str
    observed: str
    verdict: Verdict
    seconds: float
    at: Position = field(default=NOWHERE)
    pairs: tuple[str, ...] = ()
    """The channels that it stands for, if not for ``channel`` alone."""
    seen_on: tuple[str, ...] = ()
    """Those of them that the verdict is about; empty: all."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that it tells of."""
        return self.pairs or (self.channel,)

    def verdict_on(self, channel: str) -> Verdict:
        """What became of one of its channels."""
        return self.verdict if not self.seen_on or channel in self.seen_on else Verdict.HELD

    def as_dict(self) -> dict[str, Any]:
        """The JSON of DESIGN.md section 10; ``pairs`` only where there are any."""
        return {
            "id": self.id,
            "enforcer": self.enforcer,
            "channel": self.channel,
            "kind": self.kind,
            "attempt": self.attempt,
            "expected": self.expected,
            "observed": self.observed,
            "verdict": self.verdict.value,
            "seconds": self.seconds,
            **({"pairs": self.pairs} if self.pairs else {}),
            **({"seen_on": self.seen_on} if self.seen_on else {}),
        }


def printable(text: str) -> str:
    """The text with control characters spelled out: what the other side says may hold any."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def judge(expected: Outcome, observed: Outcome) -> Verdict:
    """Held only if what was seen is what was declared; unseen is never held."""
    if observed is Outcome.NOT_RUN:
        return Verdict.NOT_RUN
    return Verdict.HELD if observed is expected else Verdict.BROKEN


@dataclass(frozen=True, slots=True)
class Evidence:
    """All results of one run. ``findings`` are what makes the proof itself weaker."""

    trust_domain: str
    seconds: float
    channels: int
    results: tuple[Result, ...]
    findings: tuple[Finding, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """What was not attacked at all."""
    selection: str = "*"
    """Which probes were chosen to run; anything but ``*`` is part of a proof, and says so."""

    sample: str = ""
    """The options by which costly attacks were tried on some channels only."""

    @property
    def is_whole(self) -> bool:
        """Whether every probe that follows from the declaration was among these."""
        return self.selection == "*" and not self.sample

    @property
    def part(self) -> str:
        """What it is, if it is not whole; for people."""
        chosen = f"only {self.selection}" if self.selection != "*" else ""
        return ", ".join(text for text in (chosen, self.sample) if text)

    def count(self, verdict: Verdict) -> int:
        """How many probes ended so."""
        return sum(r.verdict is verdict for r in self.results)

    def gaps_by_reason(self) -> Mapping[tuple[str, str], list[str]]:
        """(Enforcer, what was not attacked) → the channels that it is said of."""
        grouped: dict[tuple[str, str], list[str]] = {}
        for gap in self.gaps:
            grouped.setdefault((gap.enforcer, gap.what), []).append(gap.channel)
        return grouped

    @property
    def exit_code(self) -> ExitCode:
        """Good only if there were probes and every one held."""
        proven = self.results and self.count(Verdict.HELD) == len(self.results)
        return ExitCode.GOOD if proven else ExitCode.FOUND_WRONG

    @property
    def summary(self) -> Mapping[str, int]:
        """The counts that a person asks for first."""
        return {
            "channels": self.channels,
            "probes": len(self.results),
            **{v.value: self.count(v) for v in Verdict},
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON of DESIGN.md section 10."""
        return {
            "trust_domain": self.trust_domain,
            "seconds": round(self.seconds, 3),
            **({} if self.is_whole else {"selection": self.selection, "part": self.part}),
            "summary": dict(self.summary),
            "not_attacked": [asdict(gap) for gap in self.gaps],
            "findings": [
                {
                    "code": f.code,
                    "message": f.message,
                    "remedy": f.remedy,
                    "severity": f.severity.value,
                    "at": str(f.at),
                }
                for f in self.findings
            ],
            "probes": [r.as_dict() for r in self.results],
        }


def result(probe: Probe, seen: Observation, seconds: float, at: Position = NOWHERE) -> Result:
    """The result of one probe: what was seen, held against what was expected."""
    return Result(
        id=probe.id,
        enforcer=probe.enforcer,
        channel=probe.channel,
        kind=probe.kind,
        attempt=probe.attempt,
        expected=probe.expected.value,
        observed=seen.detail,
        verdict=judge(probe.expected, seen.outcome),
        seconds=round(seconds, 4),
        at=at,
        pairs=probe.pairs,
        seen_on=seen.pairs,
    )
