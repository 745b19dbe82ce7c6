"""Every report says what happened, and nothing that the other side said gets to run in it."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tests.verify.results import ALL_HELD, EMPTY, MIXED, NASTY, result
from watertight.attack.probe import Verdict
from watertight.errors import ExitCode
from watertight.verify.reports import to_html, to_json, to_junit, to_sarif, to_table
from watertight.verify.reports.matrix import matrix_of
from watertight.verify.results import Evidence


def printed(evidence: Evidence, *, every: bool = False) -> str:
    console = Console(width=240, record=True, file=None, quiet=False, no_color=True)
    with console.capture() as capture:
        console.print(to_table(evidence, every=every))
    return capture.get()


def test_exit_status_is_good_only_if_there_are_probes_and_all_held() -> None:
    assert ALL_HELD.exit_code is ExitCode.GOOD
    assert MIXED.exit_code is ExitCode.FOUND_WRONG
    assert EMPTY.exit_code is ExitCode.FOUND_WRONG


def test_the_json_is_that_of_the_design() -> None:
    body = json.loads(to_json(MIXED))
    assert body["trust_domain"] == "shop.internal"
    assert body["seconds"] == 4.2
    assert body["summary"] == {"channels": 2, "probes": 3, "held": 1, "broken": 1, "not_run": 1}
    assert body["probes"][0] == {
        "id": "tls.plaintext",
        "enforcer": "envoy",
        "channel": "storefront -> orders",
        "kind": "attack",
        "attempt": "tls.plaintext is tried",
        "expected": "refused",
        "observed": "alert certificate_required",
        "verdict": "held",
        "seconds": 0.004,
    }
    assert body["findings"][0]["code"] == "WT-V1"


def test_the_table_shows_what_did_not_hold_and_takes_no_markup_from_outside() -> None:
    shown = printed(MIXED)
    assert "grants.path" in shown
    assert "reach.name" in shown
    assert "tls.plaintext" not in shown
    assert "[red]bold[/red]" in shown
    assert "\x1b" not in shown
    assert "1 held, 1 broken, 1 not run" in shown
    assert "tls.plaintext" in printed(MIXED, every=True)


def test_junit_counts_what_was_not_run_as_an_error_and_never_as_skipped() -> None:
    root = ET.fromstring(to_junit(MIXED))  # noqa: S314 - our own
    assert root.attrib["tests"] == "3"
    assert root.attrib["failures"] == "1"
    assert root.attrib["errors"] == "1"
    assert not root.findall(".//skipped")
    (failure,) = root.findall(".//failure")
    assert "<script>" in failure.attrib["message"]


def test_sarif_points_at_the_line_of_the_declaration() -> None:
    run = json.loads(to_sarif(MIXED))["runs"][0]
    kinds = [(r["kind"], r["level"]) for r in run["results"]]
    assert kinds == [("pass", "none"), ("fail", "error"), ("open", "none"), ("fail", "warning")]
    where = run["results"][1]["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "watertight.yaml"
    assert where["region"] == {"startLine": 12, "startColumn": 5}
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {r["ruleId"] for r in run["results"]} <= rules


def test_the_page_needs_nothing_from_elsewhere_and_escapes_everything() -> None:
    page = to_html(MIXED)
    assert page.count("<script>") == 1
    assert NASTY not in page
    assert page.replace("\n", "").isprintable()
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    assert not re.search(r"(src|href)=|url\(|@import|https?://", page)
    assert "default-src &#x27;none&#x27;" in page


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (ALL_HELD, "Everything that was declared works, and nothing else does"),
        (MIXED, "1 of 3 probes are broken"),
        (EMPTY, "0 of 0 probes could not be run"),
        (replace(ALL_HELD, selection="tls.*"), "Part of a proof (only tls.*): all 2 probes held"),
        (
            replace(ALL_HELD, sample="--sample 3 --seed 4"),
            "Part of a proof (--sample 3 --seed 4): all 2 probes held",
        ),
    ],
)
def test_the_page_says_the_verdict_first(evidence: Evidence, words: str) -> None:
    assert f"<h1>{words}</h1>" in to_html(evidence)


def test_part_of_a_proof_says_so_everywhere() -> None:
    some = replace(ALL_HELD, sample="--sample 3 --seed 4")
    assert json.loads(to_json(some))["part"] == "--sample 3 --seed 4"
    assert "Part of a proof: --sample 3 --seed 4." in printed(some)
    part = replace(ALL_HELD, selection="tls.*")
    assert json.loads(to_json(part))["selection"] == "tls.*"
    assert not {"selection", "part"} & json.loads(to_json(ALL_HELD)).keys()
    assert "Part of a proof: only tls.*" in printed(part)


def test_the_matrix_takes_the_worst_verdict_of_a_pair() -> None:
    cells = matrix_of(MIXED).cells
    assert cells["storefront", "orders"].verdict == "broken"
    assert cells["orders", "mailer"].verdict == "not_run"
    assert matrix_of(ALL_HELD).cells["storefront", "orders"].declared
    assert not cells["orders", "mailer"].declared


def test_a_probe_of_many_channels_tells_of_each_of_them() -> None:
    """What it saw of one of them says nothing against the others."""
    pairs = ("orders -> mailer", "orders -> stock")
    broken = result("reach.name", "orders -> *", Verdict.BROKEN, "mailer took the connection")
    found = replace(broken, pairs=pairs, seen_on=pairs[:1])
    matrix = matrix_of(Evidence("shop.internal", 1.0, 2, (found,)))
    verdicts = {target: cell.verdict for (_, target), cell in matrix.cells.items()}
    assert verdicts == {"mailer": Verdict.BROKEN, "stock": Verdict.HELD}
    assert found.as_dict()["pairs"] == pairs
    assert 'data-channels="orders -&gt; mailer|orders -&gt; stock"' in to_html(
        Evidence("shop.internal", 1.0, 2, (found,))
    )


def test_every_report_says_what_was_not_attacked() -> None:
    shown = printed(MIXED)
    assert shown.index("not attacked") < shown.index("1 held, 1 broken")
    assert "a -> b, a -> c, a -> d and 2 more" in shown
    assert "the server itself" in shown
    body = json.loads(to_json(MIXED))
    assert len(body["not_attacked"]) == 6
    assert body["not_attacked"][-1] == {
        "enforcer": "nats",
        "channel": "anyone -> bus",
        "what": "the server itself",
    }
    page = to_html(MIXED)
    assert page.index("Not attacked") < page.index("Who reaches whom")
    assert "a -&gt; b, a -&gt; c, a -&gt; d, a -&gt; e, a -&gt; f" in page
    (run,) = json.loads(to_sarif(MIXED))["runs"]
    notes = [n["message"]["text"] for n in run["invocations"][0]["toolExecutionNotifications"]]
    assert "Not attacked by nats: the server itself (anyone -> bus)" in notes
    properties = ET.fromstring(to_junit(MIXED)).findall("properties/property")  # noqa: S314 - ours
    assert [p.get("name") for p in properties] == ["not attacked"] * 2


def test_a_report_without_gaps_says_nothing_of_them() -> None:
    assert "ot attacked" not in printed(ALL_HELD) + to_html(ALL_HELD) + to_junit(ALL_HELD)
