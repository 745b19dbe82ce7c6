"""The picture of a proof shows what the evidence says, also what is bad."""

import base64
import importlib.util
import json
import xml.dom.minidom
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.examples.plain import REPOSITORY


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", REPOSITORY / "examples" / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def probe(channel: str, verdict: str, kind: str = "attack") -> dict[str, Any]:
    return {"channel": channel, "verdict": verdict, "kind": kind}


def drawn(drawing: ModuleType, folder: Path, *probes: dict[str, Any]) -> str:
    result = {
        "trust_domain": "<shop>.internal",
        "seconds": 4.2,
        "summary": {"probes": len(probes), "held": 1, "broken": 1, "not_run": 1},
        "probes": list(probes),
    }
    statement = json.dumps({"predicate": {"result": result}}).encode()
    file = folder / "evidence.json"
    file.write_text(json.dumps({"payload": base64.b64encode(statement).decode()}))
    text: str = drawing.picture(drawing.read(file))
    xml.dom.minidom.parseString(text)  # noqa: S318 - our own text
    return text


def test_each_verdict_is_seen(drawing: ModuleType, tmp_path: Path) -> None:
    text = drawn(
        drawing,
        tmp_path,
        probe("a -> b", "held", "use"),
        probe("b -> a", "held"),
        probe("outside -> gateway", "broken"),
        probe("outside -> gateway", "held", "use"),
        probe("a -> c", "not_run"),
        probe("anyone -> d", "held"),
    )
    assert [
        text.count(f'class="{kind}"/>') for kind in ("open", "sealed", "broken", "not_run")
    ] == [*(1, 1, 1, 1)]
    assert ">1 of 2<" in text
    assert "&lt;shop&gt;.internal" in text
    assert ">d<" not in text


def test_the_committed_picture_shows_a_proof_that_held() -> None:
    text = (REPOSITORY / "docs" / "proof.svg").read_text()
    assert " 0 broken, 0 not run." in text
    assert 'class="broken"' not in text
