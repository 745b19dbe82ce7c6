"""The proof as JUnit XML, which every CI system shows: one test case a probe."""

from xml.etree import ElementTree as ET

from watertight.attack.probe import Verdict
from watertight.verify.results import Evidence, Result, printable


def to_junit(evidence: Evidence) -> str:
    """A ``testsuites`` document. Broken is a failure; not_run is an error, never a skip.

    CI systems show skipped tests as green, and what could not be tried was not proven.
    """
    totals = {
        "tests": str(len(evidence.results)),
        "failures": str(evidence.count(Verdict.BROKEN)),
        "errors": str(evidence.count(Verdict.NOT_RUN)),
        "time": f"{evidence.seconds:.3f}",
    }
    root = ET.Element("testsuites", {"name": "watertight verify", **totals})
    for (enforcer, what), channels in evidence.gaps_by_reason().items():
        if root.find("properties") is None:
            ET.SubElement(root, "properties")
        value = printable(f"{enforcer}: {what}: {', '.join(channels)}")
        ET.SubElement(root[0], "property", name="not attacked", value=value)
    for channel in dict.fromkeys(r.channel for r in evidence.results):
        results = [r for r in evidence.results if r.channel == channel]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=channel,
            tests=str(len(results)),
            failures=str(sum(r.verdict is Verdict.BROKEN for r in results)),
            errors=str(sum(r.verdict is Verdict.NOT_RUN for r in results)),
        )
        for result in results:
            _case(suite, result)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, result: Result) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        name=printable(f"{result.id}: {result.attempt}"),
        classname=printable(f"{result.enforcer}.{result.channel}"),
        time=f"{result.seconds:.4f}",
        file=result.at.file,
        line=str(result.at.line),
    )
    if result.verdict is Verdict.HELD:
        return
    tag = "failure" if result.verdict is Verdict.BROKEN else "error"
    message = f"expected {result.expected}, observed: {result.observed}"
    ET.SubElement(case, tag, message=printable(message), type=result.verdict.value)
