"""What `plan` says besides channels and grants."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.servers.nats.shop import SHOP
from watertight.cli.app import app
from watertight.control.store import Store
from watertight.model.load import load_text
from watertight.runtime.files import STATE_DIRECTORY


def test_a_position_that_would_be_lost_is_told(tmp_path: Path) -> None:
    text = SHOP.replace("{port}", "4222")
    (tmp_path / STATE_DIRECTORY).mkdir()
    Store(tmp_path / STATE_DIRECTORY).set_current(load_text(text, "watertight.yaml"))
    file = tmp_path / "watertight.yaml"
    file.write_text(text)
    lost = "- position of mailer in ORDERS of events: granted again, it gets every message again"
    assert lost not in _plan(file)
    file.write_text(text.replace(", consume: [ORDERS]", ""))
    assert lost in _plan(file)


def _plan(file: Path) -> str:
    result = CliRunner().invoke(app, ("plan", str(file)), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_what_apply_would_refuse_here_is_told_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "watertight.yaml"
    file.write_text("trust_domain: a.internal\nservices: {web: {run: [no-such-program]}}\n")
    said = _plan(file)
    assert "WT-W1441" in said
    assert "On this machine `apply` would refuse it" in said
    assert "+ service web" in said
    result = CliRunner().invoke(app, ("plan", str(file), "-o", "json"))
    document = json.loads(result.stdout)
    assert [absent["code"] for absent in document["absent"]] == ["WT-W1441"]
