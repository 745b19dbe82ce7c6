"""The proof as SARIF 2.1.0, which code hosts show beside the line of the declaration."""

import json
from typing import Any

from watertight import __version__
from watertight.attack.probe import Verdict
from watertight.model.findings import Finding, Severity
from watertight.model.system import NOWHERE, Position
from watertight.verify.results import Evidence, Result

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(evidence: Evidence) -> str:
    """One run; a result for each probe that did not hold (and ``pass`` ones for those that did)."""
    rules = {r.id: {"id": r.id, "shortDescription": {"text": r.id}} for r in evidence.results}
    rules |= {
        f.code: {"id": f.code, "shortDescription": {"text": f.code}} for f in evidence.findings
    }
    run = {
        "tool": {
            "driver": {
                "name": "watertight verify",
                "version": __version__,
                "rules": list(rules.values()),
            }
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {
                        "level": "note",
                        "message": {
                            "text": f"Not attacked by {enforcer}: {what} ({', '.join(channels)})"
                        },
                    }
                    for (enforcer, what), channels in evidence.gaps_by_reason().items()
                ],
            }
        ],
        "results": [
            *(_result(r) for r in evidence.results),
            *(_finding(f) for f in evidence.findings),
        ],
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=1) + "\n"


def _result(result: Result) -> dict[str, Any]:
    kind, level = {
        Verdict.HELD: ("pass", "none"),
        Verdict.BROKEN: ("fail", "error"),
        Verdict.NOT_RUN: ("open", "none"),
    }[result.verdict]
    text = (
        f"{result.channel}: {result.attempt}: expected {result.expected}, "
        f"observed {result.observed} ({result.verdict.value})"
    )
    return {
        "ruleId": result.id,
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": _locations(result.at),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "kind": "fail",
        "level": "error" if finding.severity is Severity.ERROR else "warning",
        "message": {"text": f"{finding.message} {finding.remedy}".strip()},
        "locations": _locations(finding.at),
    }


def _locations(at: Position) -> list[dict[str, Any]]:
    if at == NOWHERE:
        return []
    region = {"startLine": at.line, "startColumn": at.column}
    return [
        {"physicalLocation": {"artifactLocation": {"uri": at.file}, "region": region}},
    ]
