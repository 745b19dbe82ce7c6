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


STORE = """\
trust_domain: a.internal
services:
  orders: {run: [python3, -c, pass]}
  reports: {run: [python3, -c, pass]}
resources:
  db: {kind: postgresql, database: old}
  other: {kind: postgresql, database: old}
channels:
  - {from: orders, to: db, tables: {orders: [select]}}
  - {from: reports, to: other, tables: {orders: [select]}}
"""


def test_another_name_of_a_database_starts_its_users_anew_and_leaves_data_behind(
    tmp_path: Path,
) -> None:
    (tmp_path / STATE_DIRECTORY).mkdir()
    Store(tmp_path / STATE_DIRECTORY).set_current(load_text(STORE, "watertight.yaml"))
    file = tmp_path / "watertight.yaml"
    file.write_text(STORE)
    said = _plan(file)
    assert "started anew" not in said
    assert "stays behind" not in said
    file.write_text(STORE.replace("database: old", "database: new", 1))
    said = _plan(file)
    assert "~ service orders is started anew: what it is told of db changes" in said
    assert "~ data of db stays behind in old: nothing of it is moved to new" in said
    assert "service reports" not in said
    assert "data of other" not in said


def test_another_port_starts_who_uses_it_anew_and_leaves_no_data_behind(tmp_path: Path) -> None:
    (tmp_path / STATE_DIRECTORY).mkdir()
    Store(tmp_path / STATE_DIRECTORY).set_current(load_text(STORE, "watertight.yaml"))
    file = tmp_path / "watertight.yaml"
    file.write_text(STORE.replace("postgresql, database", "postgresql, port: 6543, database", 1))
    said = _plan(file)
    assert "~ service orders is started anew: what it is told of db changes" in said
    assert "service reports" not in said
    assert "stays behind" not in said


def test_data_of_a_resource_that_goes_by_that_name_no_more_stays_behind(tmp_path: Path) -> None:
    (tmp_path / STATE_DIRECTORY).mkdir()
    Store(tmp_path / STATE_DIRECTORY).set_current(load_text(STORE, "watertight.yaml"))
    file = tmp_path / "watertight.yaml"
    file.write_text(STORE.replace(" db", " books"))
    said = _plan(file)
    assert "data of db stays behind" in said
    assert "data of other" not in said


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
