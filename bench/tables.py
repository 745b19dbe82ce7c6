"""The figures of ``docs/performance.md``: each bench's JSON as a Markdown table."""

import datetime as dt
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
NOT_RUN = "*Not run.*"


class NoSuchTable(LookupError):
    """The page has no place for this table."""


def replace(page: str, name: str, table: str) -> str:
    """The page with what stands between ``<!-- table: name -->`` and ``<!-- end -->`` replaced."""
    pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        raise NoSuchTable(name)
    return pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", page)


def render(name: str, result: Result | None) -> str:
    """One bench's result as Markdown."""
    return NOT_RUN if result is None else RENDERERS[name](result)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def machine() -> str:
    """The machine, as far as it matters for the figures: nothing that names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    day = dt.datetime.now(dt.UTC).date().isoformat()
    return (
        f"{day}; {os.cpu_count()} cores ({model}), {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}."
    )


def _paths(result: Result) -> str:
    head = ("path", "requests/s", "lowest–highest", "p50 ms", "p99 ms", "errors")
    parts = []
    for mode in dict.fromkeys(row["mode"] for row in result["rows"]):
        rows = [
            (
                row["name"],
                f"{row['requests_per_second']:,.0f}",
                f"{row['lowest']:,.0f}–{row['highest']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                str(row["errors"]),
            )
            for row in result["rows"]
            if row["mode"] == mode
        ]
        parts.append(f"**{mode[0].upper()}{mode[1:]}**\n\n{table(head, rows)}")
    modes = list(next(iter(result["ratios"].values())))
    ratios = [
        (name, *("—" if by[mode] is None else f"{by[mode]:.2f} ×" for mode in modes))
        for name, by in result["ratios"].items()
    ]
    parts.append("**Ratios of throughput**\n\n" + table(("", *modes), ratios))
    memory = result["sidecar_megabytes"]
    sidecars = [
        (f"`{name}`", f"{idle:.0f}", f"{memory['after load'][name]:.0f}")
        for name, idle in memory["idle"].items()
    ]
    parts.append(table(("resident memory of a sidecar, MiB", "idle", "after the load"), sidecars))
    bounds = f"{result['rounds']} rounds of {result['seconds']} s, {result['connections']}"
    return f"{bounds} connections; the median of the rounds.\n\n" + "\n\n".join(parts)


def _latency(result: Result) -> str:
    rows = [
        (
            row["name"],
            *(f"{row[quantile]:.2f}" for quantile in ("p50_ms", "p99_ms")),
            *(f"{row[f'added_{quantile}']:+.2f}" for quantile in ("p50_ms", "p99_ms")),
            str(row["errors"]),
        )
        for row in result["rows"]
    ]
    head = ("path", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms", "errors")
    load = f"{result['per_second']:,} requests/s on {result['connections']} connections"
    rounds = f"{result['rounds']} rounds of {result['seconds']:g} s"
    bounds = f"{rounds}, {load}; the median of the rounds."
    return f"{bounds}\n\n{table(head, rows)}"


def _identity(result: Result) -> str:
    rows = [
        ("authority: validate, sign, check what was signed, record", "issue_per_second"),
        ("with key pair and request", "whole_per_second"),
    ]
    by_clock = table(
        ("X.509-SVIDs (ECDSA P-256), one thread", "per second"),
        [(what, f"{result[key]:,.0f}") for what, key in rows],
    )
    compared = []
    for name, rate in result["per_processor_second"].items():
        version = result["versions"].get(name, "")
        ratio = result["ratios"].get(name)
        shown = f"{ratio:.2f} ×" if ratio else "—"
        compared.append((f"{name} {version}".strip(), f"{rate:,.0f}", shown))
    compared += [(name, "*not measured*", "—") for name in result["not_measured"]]
    head = ("issuer", "SVIDs for a second of one processor", "authority / this")
    return f"{by_clock}\n\n{table(head, compared)}"


def _scale(result: Result) -> str:
    rows = result["rows"]
    lines = (
        ("channels", "channels", "{:,}"),
        ("`up --detach` to sealed, s", "up_to_sealed_seconds", "{:.1f}"),
        ("probes", "probes", "{:,}"),
        ("… held", "held", "{:,}"),
        ("… not run", "not_run", "{:,}"),
        ("seconds of attack", "attack_seconds", "{:,.0f}"),
        ("processor seconds of the prover", "processor_seconds", "{:,.0f}"),
    )
    head = ("services", *(f"{row['services']:,}{_sampled(row['sample'])}" for row in rows))
    return table(
        head, [(what, *(form.format(row[key]) for row in rows)) for what, key, form in lines]
    )


def _sampled(channels: int | None) -> str:
    return "" if channels is None else f", `--sample {channels}`"


def _xds(result: Result) -> str:
    rows = result["rows"]
    lines = (
        ("channels", "channels", "{:,}"),
        ("compile the plan, ms", "compile_seconds", "ms"),
        (
            "all proxies connect, get everything, acknowledge; s",
            "connect_to_acked_seconds",
            "{:.2f}",
        ),
        ("`apply` of one changed grant to acknowledged, ms", "one_grant_apply_seconds", "ms"),
        ("… of which push to acknowledged, ms", "one_grant_push_to_acked_seconds", "ms"),
        ("… proxies that were sent anything", "one_grant_proxies_changed", "{:,}"),
        (
            "`apply` of every grant changed to acknowledged, s",
            "every_grant_apply_seconds",
            "{:.2f}",
        ),
        ("bytes sent to a proxy, mean", "bytes_per_proxy", "{:,.0f}"),
        ("bytes sent to a proxy, most", "largest_bytes_per_proxy", "{:,.0f}"),
    )
    head = ("services", *(f"{row['services']:,}" for row in rows))
    return table(
        head, [(what, *(_number(row[key], form) for row in rows)) for what, key, form in lines]
    )


def _system(result: Result) -> str:
    proof, memory = result["proof"], result["mebibytes"]
    rows = (
        ("`up --detach` to sealed, s", f"{result['up_to_sealed_seconds']:.1f}"),
        ("`apply` of one changed grant, s", f"{result['apply_command_seconds']:.2f}"),
        (
            "`revoke` until sessions are ended and new ones refused, ms",
            f"{result['revoke_seconds'] * 1000:.0f}",
        ),
        ("`verify`: probes", f"{proof['probes']:,}"),
        ("… held", f"{proof['held']:,}"),
        ("… not run", f"{proof['not_run']:,}"),
        ("`verify`: seconds of attack", f"{proof['seconds']:.1f}"),
        ("probes a second", f"{proof['probes_per_second']:.0f}"),
        ("a sidecar's resident memory, MiB", f"{memory['sidecar Rss']:.0f}"),
        ("… its own share (Pss)", f"{memory['sidecar Pss']:.0f}"),
        ("the processes that watch over one service, MiB (Pss)", f"{memory['pod Pss']:.0f}"),
    )
    return table((f"the shop: {proof['channels']} channels, a gateway", "measured"), rows)


def _resources(result: Result) -> str:
    kinds = result["kinds"]
    bounds = f"{result['rounds']} rounds of {result['seconds']} s, {result['clients']}"
    parts = [f"{bounds} clients with one connection each; the median of the rounds."]
    if result["left_out"]:
        parts.append(f"Not installed, so not run: {', '.join(result['left_out'])}.")
    for kind in kinds:
        head = (
            f"{kind['title']} {kind['version']}",
            *(kind["operations"] + "/s", "lowest–highest"),
            *("new sessions/s", "lowest–highest", "ms each"),
        )
        rows = [
            (
                row["name"],
                *_rate(row["work"]),
                *_rate(row["connect"]),
                f"{result['clients'] / row['connect']['per_second'] * 1000:.1f}",
            )
            for row in kind["rows"]
        ]
        parts.append(table(head, rows))
    ratios = [
        (f"{kind['title']}: {name}", f"{by['work']:.2f} ×", f"{by['connect']:.2f} ×")
        for kind in kinds
        for name, by in kind["ratios"].items()
    ]
    parts.append("**Ratios**\n\n" + table(("", "operations", "new sessions"), ratios))
    changes = [
        (words, *(f"{kind['seconds'][what][key] * 1000:,.0f}" for kind in kinds))
        for words, what, key in (
            ("rotated: a new connection sees it", "rotated", "seen"),
            ("… all have acknowledged it", "rotated", "done"),
            ("revoked: its open session is dead", "revoked", "seen"),
            ("… all have acknowledged it", "revoked", "done"),
        )
    ]
    parts.append(table(("ms from the order", *(kind["title"] for kind in kinds)), changes))
    return "\n\n".join(parts)


def _rate(measured: Mapping[str, float]) -> tuple[str, str]:
    lowest, highest = f"{measured['lowest']:,.0f}", f"{measured['highest']:,.0f}"
    return f"{measured['per_second']:,.0f}", f"{lowest}–{highest}"


def _number(value: float, form: str) -> str:
    return f"{value * 1000:,.1f}" if form == "ms" else form.format(value)


RENDERERS: dict[str, Callable[[Result], str]] = {
    "paths": _paths,
    "latency": _latency,
    "identity": _identity,
    "scale": _scale,
    "xds": _xds,
    "system": _system,
    "resources": _resources,
}
