"""The whole thing, as a person uses it: up, traffic, proof, rotation, revocation, change."""

import asyncio
import json
import re
import stat
import time
from typing import Any

import pytest

from tests.system import load
from tests.system.running import RunningSystem
from watertight.attack.patience import measure, patience
from watertight.control.client import AdminClient, Refused

CUT_SECONDS = 5.0
"""Of a quiet machine; how long it takes, `make bench` measures."""
LOAD_SECONDS = 20
HTTP_CHANNEL = {
    "kind": "http",
    "host": "orders",
    "port": 8081,
    "method": "GET",
    "path": "/orders/1",
    "rate": 120,
    "connections": 8,
}
POLICY_CHANNEL = {
    **HTTP_CHANNEL,
    "host": "payments",
    "port": 8083,
    "method": "POST",
    "path": "/charges",
    "body": json.dumps({"customer": "ada", "amount": 1.0}),
}
TUNNEL_CHANNEL = {**HTTP_CHANNEL, "host": "mailer", "port": 8084, "path": "/"}
TCP_CHANNEL = {**HTTP_CHANNEL, "kind": "tcp", "host": "stock", "port": 8085, "line": "COUNT cup"}
GRPC_CHANNEL = {
    **HTTP_CHANNEL,
    "kind": "grpc",
    "host": "catalogue",
    "port": 8082,
    "path": "/shop.Catalogue/List",
}
EVERY_PATH: tuple[tuple[str, dict[str, Any]], ...] = (
    ("storefront", HTTP_CHANNEL),
    ("orders", POLICY_CHANNEL),
    ("orders", TUNNEL_CHANNEL),
    ("orders", TCP_CHANNEL),
    ("restocker", TCP_CHANNEL),
    ("storefront", GRPC_CHANNEL),
)
"""Each data path and protocol, at 720 requests/s in all."""


async def under_load(
    system: RunningSystem, seconds: float, *meanwhile: tuple[str, ...], share: float = 1
) -> dict[str, Any]:
    """Load on every channel while commands run one after the other; the sums of what came back.

    ``share``: of the rate of :data:`EVERY_PATH`.
    """

    async def disturb() -> None:
        for command in meanwhile:
            await asyncio.to_thread(system.on, *command)

    async with asyncio.TaskGroup() as group:
        loads = [
            group.create_task(
                system.load(name, {**plan, "seconds": seconds, "rate": plan["rate"] * share})
            )
            for name, plan in EVERY_PATH
        ]
        loads.append(group.create_task(gateway_load(system, seconds, share)))
        group.create_task(disturb())
    results = [task.result() for task in loads]
    assert all(result["sent"] for result in results), results
    return {
        "sent": sum(result["sent"] for result in results),
        "lost": sum(result["lost"] for result in results),
        "errors": [result["errors"] for result in results if result["errors"]],
    }


def expect_load(result: dict[str, Any], least: float) -> None:
    """Says so where the machine could not make the load under which all else has held by now."""
    if result["sent"] < least:
        pytest.skip(
            f"This machine is too slow for this test: it sent {result['sent']} requests in the "
            f"time for {least:.0f}, of which none was lost."
        )


async def gateway_load(system: RunningSystem, seconds: float, share: float) -> dict[str, Any]:
    """From outside, over HTTPS."""
    plan = {
        **HTTP_CHANNEL,
        "host": "127.0.0.1",
        "port": system.gateway_port,
        "server_name": "shop.example",
        "ca": str(system.state / "ca.pem"),
        "path": "/",
        "rate": 8 * share,
        "connections": 2,
        "seconds": seconds,
    }
    return await load.main(plan)


def test_traffic_flows_as_declared(running_shop: RunningSystem) -> None:
    running_shop.drive_traffic()


@pytest.mark.timeout(900)
def test_the_proof_holds(running_shop: RunningSystem) -> None:
    """At least 150 probes, all held, none not run; the evidence is signed and checks out."""
    key = running_shop.project.parent / ".login" / "signing-key.json"
    done = running_shop.watertight(
        *("verify", str(running_shop.project), "-o", "json", "--token-key", f"main={key}")
    )
    summary = json.loads(done.stdout)["summary"]
    assert summary["probes"] >= 150
    assert (summary["held"], summary["broken"], summary["not_run"]) == (summary["probes"], 0, 0)
    latest = running_shop.state / "evidence" / "latest.json"
    running_shop.watertight("verify", str(running_shop.project), "--check-evidence", str(latest))


@pytest.mark.once
def test_altered_evidence_is_refused(running_shop: RunningSystem) -> None:
    part = running_shop.watertight(
        *("verify", str(running_shop.project), "--only", "tls.no-certificate")
    )
    assert "Part of a proof" in part.stdout
    latest = running_shop.state / "evidence" / "latest.json"
    altered = running_shop.state / "evidence" / "altered.json"
    document = json.loads(latest.read_text())
    payload = document["payload"]
    document["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
    altered.write_text(json.dumps(document))
    altered.chmod(0o644)
    done = running_shop.watertight(
        *("verify", str(running_shop.project), "--check-evidence", str(altered)), expect=1
    )
    assert "signature" in done.stderr
    altered.unlink()


@pytest.mark.once
def test_status_shows_channels_with_their_path(running_shop: RunningSystem) -> None:
    running_shop.drive_traffic()
    document = running_shop.status()
    paths = {(c["from"], c["to"]): c for c in document["channels"]}
    assert paths["storefront", "orders"]["path"] == "http"
    assert paths["orders", "payments"]["path"] == "http"
    assert paths["orders", "stock"]["path"] == "tcp"
    assert "X25519MLKEM768" in paths["orders", "payments"]["groups"]
    assert all(service["proxy"]["connected"] for service in document["services"])


@pytest.mark.once
def test_explain_names_the_line_that_decides(running_shop: RunningSystem) -> None:
    allowed = running_shop.on("explain", "storefront", "orders", "GET", "/orders/7")
    assert re.search(r"watertight\.yaml:\d+:\d+", allowed)
    running_shop.on("explain", "mailer", "orders", expect=1)
    running_shop.on("explain", "storefront", "orders", "DELETE", "/orders/7", expect=1)


@pytest.mark.once
@pytest.mark.timeout(600)
async def test_rotation_under_load_loses_nothing(running_shop: RunningSystem) -> None:
    """Leaf, issuer and root, each twice, under 720 requests/s on every kind of channel."""
    rounds = (("rotate", "leaf"), ("rotate", "issuer"), ("rotate", "root")) * 2
    result = await under_load(running_shop, LOAD_SECONDS, *rounds)
    assert result["lost"] == 0, result
    running_shop.drive_traffic()
    expect_load(result, 500 * LOAD_SECONDS)


async def test_revocation_ends_live_sessions_at_once(running_shop: RunningSystem) -> None:
    """And refuses new ones, and can be taken back."""
    loaded = asyncio.ensure_future(
        running_shop.load("orders", {**TCP_CHANNEL, "seconds": 12, "connections": 3})
    )
    async with asyncio.timeout(30):
        while await asyncio.to_thread(_open_connections, running_shop, "orders", "stock") == 0:
            assert not loaded.done()
    await measure()
    cut = json.loads(
        await asyncio.to_thread(running_shop.on, "revoke", "orders", "--output", "json")
    )
    assert cut["sessions"] >= 1
    assert cut["was_revoked"] is False
    assert cut["seconds"] < patience(CUT_SECONDS)
    assert _open_connections(running_shop, "orders", "stock") == 0
    result = await loaded
    assert result["lost"] > 0
    assert running_shop.status()["channels"][0]["path"] == "revoked"
    said = running_shop.on("explain", "storefront", "orders", "GET", "/orders/7", expect=1)
    assert "`orders` is revoked in the running system" in " ".join(said.split())
    assert json.loads(running_shop.on("revoke", "orders", "-o", "json"))["was_revoked"] is True
    running_shop.on("restore", "orders")
    assert json.loads(running_shop.on("restore", "orders", "-o", "json"))["was_revoked"] is False
    running_shop.drive_traffic()


def _open_connections(system: RunningSystem, source: str, target: str) -> int:
    for channel in system.status()["channels"]:
        if (channel["from"], channel["to"]) == (source, target):
            return int(channel["connections"])
    raise LookupError(source, target)


@pytest.mark.once
@pytest.mark.timeout(400)
async def test_a_change_drops_nothing_that_both_versions_allow(running_shop: RunningSystem) -> None:
    """A grant, a channel and a timeout come and go under load."""
    original = running_shop.declaration.read_text()
    wider = original.replace(
        "allow: [POST /charges], timeout: 5s}",
        "allow: [POST /charges, GET /charges/*], timeout: 4s}",
    ).replace(
        "  - {from: restocker, to: stock}",
        "  - {from: restocker, to: stock}\n  - {from: restocker, to: mailer}",
    )
    assert wider != original

    async def apply(text: str) -> None:
        running_shop.declaration.write_text(text)
        await asyncio.to_thread(running_shop.watertight, "apply", str(running_shop.project))

    async def change() -> None:
        for text in (wider, original, wider, original):
            await apply(text)

    plan = running_shop.watertight("plan", str(running_shop.project)).stdout
    assert plan == ""
    running_shop.declaration.write_text(wider)
    plan = running_shop.watertight("plan", str(running_shop.project)).stdout
    assert "GET /charges/*" in plan
    assert "restocker -> mailer" in plan
    result, _ = await asyncio.gather(under_load(running_shop, 12, share=1 / 3), change())
    assert result["lost"] == 0, result


@pytest.mark.once
def test_a_plan_tells_of_an_edited_schema_file(running_shop: RunningSystem) -> None:
    schema = running_shop.project / "db" / "schema.sql"
    before = schema.read_text()
    schema.write_text(before + "-- a word more\n")
    try:
        plan = running_shop.watertight("plan", str(running_shop.project)).stdout
        applied = running_shop.watertight("apply", str(running_shop.project)).stderr
    finally:
        schema.write_text(before)
    assert plan == "drift orders-db: schema file db/schema.sql: changed, not run yet\n"
    assert "orders-db is ready: 1 change." in applied
    again = running_shop.watertight("apply", str(running_shop.project), "-o", "json").stdout
    assert json.loads(again)["servers"] == {"orders-db": 1}  # as it was before
    assert running_shop.watertight("plan", str(running_shop.project)).stdout == ""


@pytest.mark.once
def test_a_bad_file_leaves_the_good_one_in_force(running_shop: RunningSystem) -> None:
    original = running_shop.declaration.read_text()
    running_shop.declaration.write_text(original.replace("to: stock}", "to: stok}", 1))
    try:
        done = running_shop.watertight("apply", str(running_shop.project), expect=1)
        assert "did you mean" in done.stderr.lower()
        assert re.search(r"watertight\.yaml:\d+:\d+", done.stderr)
    finally:
        running_shop.declaration.write_text(original)
    running_shop.drive_traffic()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rotate", {"what": "everything"}),
        ("/rotate", {}),
        ("/rotate", {"what": "leaf", "workload": "nobody"}),
        ("/revoke", {"workload": "nobody"}),
        ("/revoke", {}),
        ("/restore", {"workload": None}),
        ("/verifier", {"csr": "not a CSR"}),
        ("/verifier", {}),
    ],
)
def test_the_admin_api_refuses_what_makes_no_sense(
    running_shop: RunningSystem, path: str, body: dict[str, Any]
) -> None:
    client = AdminClient((running_shop.state / "run" / "admin.sock").resolve())
    with pytest.raises(Refused) as refusal:
        client.post(path, body)
    assert refusal.value.message
    assert "bug of ours" not in refusal.value.message


def test_a_mode_that_was_changed_by_hand_is_put_right(running_shop: RunningSystem) -> None:
    """Nothing of a whole shop stands out, and what does is put right within seconds."""
    assert "file modes" not in running_shop.status()["drift"]
    authority = running_shop.state / "authority"
    authority.chmod(0o755)
    deadline = time.monotonic() + 60
    while stat.S_IMODE(authority.stat().st_mode) != 0o700:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "file modes" not in running_shop.status()["drift"]


def test_only_the_operator_can_open_the_admin_socket(running_shop: RunningSystem) -> None:
    admin = (running_shop.state / "run" / "admin.sock").resolve()
    assert admin.stat().st_mode & 0o077 == 0
    assert (running_shop.state / "authority").stat().st_mode & 0o077 == 0
    assert running_shop.state.stat().st_mode & 0o077 == 0
