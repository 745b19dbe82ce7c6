"""The proof for programs: the JSON of DESIGN.md section 10."""

import json

from watertight.verify.results import Evidence


def to_json(evidence: Evidence) -> str:
    """One JSON object, in the order in which the probes were listed, a line each.

    To indent ten thousands of them takes the standard library seconds.
    """
    document = evidence.as_dict()
    probes = ",\n".join(f"  {json.dumps(probe)}" for probe in document.pop("probes"))
    head = json.dumps(document, indent=1).removesuffix("\n}")
    return f'{head},\n "probes": [\n{probes}\n ]\n}}\n'
