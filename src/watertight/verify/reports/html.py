"""The proof as one page that needs nothing else: no network, no fonts, no files beside it.

Everything that came from the declaration or from the other side is escaped, and a content
security policy lets run only the one script and the one style sheet that we wrote (by hash).
"""

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib.resources import files

from watertight.attack.probe import Verdict
from watertight.verify.reports.matrix import Cell, Matrix, matrix_of
from watertight.verify.results import Evidence, Result, printable

WORDS = {Verdict.HELD: "held", Verdict.BROKEN: "broken", Verdict.NOT_RUN: "not run"}


def escape(text: str) -> str:
    """Text that is nothing but text, and hides nothing from whoever reads the source."""
    return html.escape(printable(text))


def to_html(evidence: Evidence, *, made_at: str = "") -> str:
    """The whole page. ``made_at`` is shown as it is given."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Proof of {escape(evidence.trust_domain)}</title><style>{style}</style></head>"
        f"<body><main>{_banner(evidence, made_at)}{_findings(evidence)}"
        f"{_gaps(evidence)}"
        f"{_matrix(matrix_of(evidence))}{_probes(evidence.results)}</main>"
        f"<script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _banner(evidence: Evidence, made_at: str) -> str:
    s = evidence.summary
    if s["broken"]:
        kind, words = "broken", f"{s['broken']} of {s['probes']} probes are broken"
    elif s["not_run"] or not s["probes"]:
        kind, words = "not_run", f"{s['not_run']} of {s['probes']} probes could not be run"
    elif evidence.is_whole:
        kind, words = "held", "Everything that was declared works, and nothing else does"
    else:
        kind = "not_run"
        words = f"Part of a proof ({evidence.part}): all {s['probes']} probes held"
    tiles = "".join(
        f'<div class="tile {name if s[name] else "none"}"><b>{s[name]}</b>'
        f"{name.replace('_', ' ')}</div>"
        for name in ("channels", "probes", "held", "broken", "not_run")
    )
    return (
        f'<header class="banner {kind}"><h1>{escape(words)}</h1>'
        f'<div class="soft">trust domain {escape(evidence.trust_domain)} · '
        f"{evidence.seconds:.1f} s{' · ' + escape(made_at) if made_at else ''}</div></header>"
        f'<div class="tiles">{tiles}</div>'
    )


def _findings(evidence: Evidence) -> str:
    return "".join(
        f'<div class="finding"><b>{escape(f.code)}</b> {escape(f.message)} {escape(f.remedy)}</div>'
        for f in evidence.findings
    )


def _gaps(evidence: Evidence) -> str:
    if not evidence.gaps:
        return ""
    rows = "".join(
        f"<tr><td>{escape(what)}</td><td>{escape(', '.join(channels))}</td>"
        f"<td>{escape(enforcer)}</td></tr>"
        for (enforcer, what), channels in evidence.gaps_by_reason().items()
    )
    return (
        '<h2>Not attacked</h2><div class="scroll"><table class="list"><thead><tr><th>what</th>'
        f"<th>on</th><th>by</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _matrix(matrix: Matrix) -> str:
    head = "".join(f"<th>{escape(target)}</th>" for target in matrix.targets)
    rows = "".join(
        f"<tr><th>{escape(source)} →</th>"
        + "".join(_cell(matrix.cells.get((source, target))) for target in matrix.targets)
        + "</tr>"
        for source in matrix.sources
    )
    legend = "".join(f'<span><i class="cell {kind}"></i>{text}</span>' for kind, text in LEGEND)
    return (
        "<h2>Who reaches whom</h2>"
        f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table><div class="legend soft">{legend}</div></div>'
    )


LEGEND = (
    ("declared", "declared: works, and only as granted"),
    ("sealed", "not declared: every attempt was refused"),
    ("broken", "not what was declared"),
    ("not_run", "not proven"),
)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return '<td><div class="cell self"></div></td>'
    kind = WORDS[cell.verdict].replace(" ", "_")
    if cell.verdict is Verdict.HELD:
        kind = "declared" if cell.declared else "sealed"
    label = {"declared": "open", "sealed": "sealed"}.get(kind, WORDS[cell.verdict])
    return (
        f'<td><button class="cell {kind}" data-channel="{escape(cell.channel)}" '
        f'aria-pressed="false">{label}<small>{cell.held} of {cell.probes}</small></button></td>'
    )


def _probes(results: Sequence[Result]) -> str:
    options = "".join(f'<option value="{v.value}">{WORDS[v]}</option>' for v in Verdict)
    ordered = sorted(results, key=lambda r: r.verdict is Verdict.HELD)
    return (
        '<h2>Every probe</h2><div class="tools">'
        '<input id="text" type="search" placeholder="filter" aria-label="filter">'
        f'<select id="verdict" aria-label="verdict"><option value="">all</option>{options}</select>'
        '<button id="all">show all</button><span id="count" class="soft"></span></div>'
        '<div class="scroll"><table class="list"><thead><tr><th>verdict</th><th>probe</th>'
        "<th>channel</th><th>what was tried</th><th>expected</th><th>what was seen</th><th>ms</th>"
        f"</tr></thead><tbody>{''.join(map(_row, ordered))}</tbody></table></div>"
    )


def _row(r: Result) -> str:
    return (
        f'<tr data-channels="{escape("|".join(r.channels))}" data-verdict="{r.verdict.value}">'
        f'<td><span class="badge {r.verdict.value}">{WORDS[r.verdict]}</span></td>'
        f'<td class="id">{escape(r.id)}</td><td class="channel">{escape(r.channel)}</td>'
        f"<td>{escape(r.attempt)}</td><td>{escape(r.expected)}</td><td>{escape(r.observed)}</td>"
        f'<td class="number">{r.seconds * 1000:.0f}</td></tr>'
    )
