"""The proof for programs: the JSON of DESIGN.md section 10."""

import json

from watertight.verify.results import Evidence


def to_json(evidence: Evidence) -> str:
    """One JSON object, indented, in the order in which the probes were listed."""
    return json.dumps(evidence.as_dict(), indent=1) + "\n"
