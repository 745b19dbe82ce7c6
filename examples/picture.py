"""Draws the evidence of a proof as a picture: who was tried against whom, and what came of it.

    python examples/picture.py examples/shop/.watertight/evidence/latest.json > docs/proof.svg

Draws what it is given; `watertight verify --check-evidence` is what checks it.
"""

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

CELL, ROW, LEFT, TOP, GAP = 92, 38, 112, 148, 4
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #16202c }
.title { font-size: 20px; font-weight: 600 } .soft { fill: #5d6b7a } .cell { text-anchor: middle }
.small { font-size: 11px } .right { text-anchor: end } .on { fill: #fff; font-weight: 600 }
.ground { fill: #f6f7f9 } .open { fill: #0b7a52 } .sealed { fill: #e3e8ee }
.broken { fill: #c0242f } .not_run { fill: #b97900 }
"""


def read(file: Path) -> dict[str, Any]:
    """The result inside the signed envelope (DSSE, in-toto statement)."""
    statement = json.loads(base64.b64decode(json.loads(file.read_text())["payload"]))
    result: dict[str, Any] = statement["predicate"]["result"]
    return result


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def cell(x: float, y: float, probes: list[dict[str, Any]]) -> Iterable[str]:
    """One pair: whether it is open as declared, or sealed; and how many probes say so."""
    verdicts = Counter(probe["verdict"] for probe in probes)
    declared = any(probe["kind"] == "use" for probe in probes)
    kind = "open" if declared else "sealed"
    kind = next((v for v in ("broken", "not_run") if verdicts[v]), kind)
    ink = "cell" if kind == "sealed" else "cell on"
    yield f'<rect x="{x}" y="{y}" width="{CELL - GAP}" height="{ROW - GAP}" rx="5" class="{kind}"/>'
    middle = x + (CELL - GAP) / 2
    yield text(middle, y + 15, kind.replace("_", " "), f"{ink} small")
    yield text(middle, y + 28, f"{verdicts['held']} of {len(probes)}", f"{ink} small")


def picture(result: dict[str, Any]) -> str:
    """The whole picture as SVG."""
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for probe in result["probes"]:
        source, _, target = probe["channel"].partition(" -> ")
        if source != "anyone" and target != "host":
            pairs.setdefault((source, target), []).append(probe)
    names = {name for pair in pairs for name in pair}
    edge = [name for name in ("outside", "gateway") if name in names]
    order = [*edge, *sorted(names.difference(edge))]
    sources = [name for name in order if any(name == source for source, _ in pairs)]
    targets = [name for name in order if any(name == target for _, target in pairs)]
    width, height = LEFT + CELL * len(targets) + 16, TOP + ROW * len(sources) + 16
    s = result["summary"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="10" class="ground"/>',
        text(20, 38, f"The proof of {result['trust_domain']}", "title"),
        text(
            20,
            62,
            f"{s['probes']} probes in {result['seconds']:.0f} s: {s['held']} held, "
            f"{s['broken']} broken, {s['not_run']} not run.",
        ),
        text(
            20,
            84,
            "From each row to each column: open, and only as declared; or sealed. "
            "Below, how many of the probes held.",
            "soft",
        ),
    ]
    for column, target in enumerate(targets):
        middle = LEFT + column * CELL + (CELL - GAP) / 2
        parts.append(text(middle, TOP - 12, target, "cell"))
    for row, source in enumerate(sources):
        y = TOP + row * ROW
        parts.append(text(LEFT - 10, y + 21, source, "right"))
        for column, target in enumerate(targets):
            if probes := pairs.get((source, target)):
                parts += cell(LEFT + column * CELL, y, probes)
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(picture(read(Path(sys.argv[1]))))
