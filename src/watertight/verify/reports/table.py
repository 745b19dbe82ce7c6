"""The proof for a person at a terminal: what did not hold first, then one line a channel."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from watertight.attack.probe import Verdict
from watertight.verify.results import Evidence, Result, printable

CHANNELS_SHOWN = 3
STYLES = {Verdict.HELD: "green", Verdict.BROKEN: "bold red", Verdict.NOT_RUN: "yellow"}


def to_table(evidence: Evidence, *, every: bool = False) -> RenderableType:
    """Something for a rich console; with ``every``, all probes and not only those not held."""
    shown = [r for r in evidence.results if every or r.verdict is not Verdict.HELD]
    parts: list[RenderableType] = []
    if shown:
        parts.append(_probes(shown))
    parts.append(_channels(evidence))
    findings = (printable(f"{f.code}: {f.message} {f.remedy}") for f in evidence.findings)
    parts += [Text(finding, style="yellow") for finding in findings]
    if evidence.gaps:
        parts.append(_gaps(evidence))
    parts.append(_summary(evidence))
    return Group(*parts)


def _probes(results: list[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("verdict", "probe", "channel", "attempt", "observed"):
        table.add_column(column, overflow="fold")
    for r in results:
        cells = (r.verdict.value, r.id, r.channel, r.attempt, r.observed)
        # Text, never markup: what the other side answered is not ours.
        table.add_row(
            *(
                Text(printable(cell), style=STYLES[r.verdict] if i == 0 else "")
                for i, cell in enumerate(cells)
            )
        )
    return table


def _channels(evidence: Evidence) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("channel")
    for verdict in Verdict:
        table.add_column(verdict.value, justify="right")
    for channel in dict.fromkeys(r.channel for r in evidence.results):
        row: list[Text] = [Text(channel)]
        for verdict in Verdict:
            count = sum(r.channel == channel and r.verdict is verdict for r in evidence.results)
            row.append(
                Text(str(count) if count else "·", style=STYLES[verdict] if count else "dim")
            )
        table.add_row(*row)
    return table


def _gaps(evidence: Evidence) -> Text:
    """What no probe tried: an empty list here would be the best proof, and never is one.

    No table: where a line has no end, as in a file, its cells would be as wide as the longest.
    """
    text = Text("not attacked", style="bold")
    for (enforcer, what), channels in evidence.gaps_by_reason().items():
        shown = ", ".join(channels[:CHANNELS_SHOWN])
        if more := len(channels) - CHANNELS_SHOWN:
            shown += f" and {more} more" if more > 0 else ""
        text.append("\n  " + printable(f"{shown} ({enforcer}): {what}"), style="not bold")
    return text


def _summary(evidence: Evidence) -> Text:
    s = evidence.summary
    text = Text(
        f"{s['probes']} probes on {s['channels']} channels in {evidence.seconds:.1f} s: "
        f"{s['held']} held, {s['broken']} broken, {s['not_run']} not run."
    )
    if not evidence.is_whole:
        text.append(f" Part of a proof: {printable(evidence.part)}.")
    text.stylize("green" if s["held"] == s["probes"] and s["probes"] else "bold red")
    return text
