"""How a system ends, and how it does not: Ctrl-C, kill -9, a control plane that comes back."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.runtime.conftest import held_namespaces, processes_that_name, settled
from tests.system.running import REPOSITORY, RunningSystem, SmallSystem
from tests.system.test_shop import expect_load, under_load
from watertight.control.client import AdminClient


def assert_nothing_is_left(system: RunningSystem, run: Path, before: set[str]) -> None:
    # The control process itself is the last to go.
    assert settled(lambda: processes_that_name(system.project)) == {}
    assert not run.exists()
    assert str(run) not in Path("/proc/self/mounts").read_text()
    assert held_namespaces() <= before


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_leaves_nothing_behind(fresh_small: SmallSystem, number: signal.Signals) -> None:
    """Nor does it of the shop and its servers, which the next test ends so."""
    before = held_namespaces()
    fresh_small.start()
    run = (fresh_small.state / "run").resolve()
    assert fresh_small.stop(number) == 0
    assert_nothing_is_left(fresh_small, run, before)


@pytest.mark.timeout(180)
async def test_a_killed_control_process_loses_nothing(fresh_shop: RunningSystem) -> None:
    """Traffic goes on without it; the next ``up`` takes over; then all ends as it should."""
    before = held_namespaces()
    fresh_shop.start()
    run = (fresh_shop.state / "run").resolve()
    inits = {name: fresh_shop.pod_process(name) for name in ("orders", "stock", "gateway")}
    fresh_shop.drive_traffic()
    load = asyncio.ensure_future(under_load(fresh_shop, 20, share=1 / 3))
    await asyncio.sleep(1)
    await asyncio.to_thread(fresh_shop.kill_control)
    await asyncio.to_thread(fresh_shop.drive_traffic)
    await asyncio.to_thread(fresh_shop.start)
    assert "Took over" in fresh_shop.output()
    assert inits == {name: fresh_shop.pod_process(name) for name in inits}
    await asyncio.to_thread(fresh_shop.on, "rotate", "leaf")
    result = await load
    assert result["lost"] == 0, result
    assert await asyncio.to_thread(fresh_shop.stop) == 0
    assert_nothing_is_left(fresh_shop, run, before)
    expect_load(result, 500 * 20 / 3)


def test_down_stops_what_was_detached(fresh_small: SmallSystem) -> None:
    before = held_namespaces()
    fresh_small.watertight("up", "--detach", str(fresh_small.project))
    run = (fresh_small.state / "run").resolve()
    again = fresh_small.watertight("up", "--detach", str(fresh_small.project), expect=3)
    assert "Another `watertight up`" in again.stderr
    assert "Sealed" not in again.stderr
    fresh_small.drive_traffic()
    fresh_small.watertight("down", str(fresh_small.project))
    assert_nothing_is_left(fresh_small, run, before)
    fresh_small.watertight("status", str(fresh_small.project), expect=3)


@pytest.mark.slow
def test_up_says_who_is_still_revoked(fresh_shop: RunningSystem) -> None:
    """A revocation outlives the system."""
    up = ("up", "--detach", str(fresh_shop.project))
    assert "revoked" not in fresh_shop.watertight(*up).stderr
    fresh_shop.on("revoke", "orders")
    fresh_shop.watertight("down", str(fresh_shop.project))
    assert "orders is still revoked" in fresh_shop.watertight(*up).stderr
    fresh_shop.watertight("down", str(fresh_shop.project))


def test_who_stops_waiting_for_a_detached_system_stops_it(fresh_small: SmallSystem) -> None:
    before = held_namespaces()
    # Whoever was started in the background by a shell ignores SIGINT, and so would this.
    default = ("/usr/bin/env", "--default-signal=INT")
    command = [*default, *fresh_small.command("up", "--detach", str(fresh_small.project))]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE) as waiting:
        log = fresh_small.state / "logs" / "up.log"
        deadline = time.monotonic() + 60
        while not (log.exists() and b"ready" in log.read_bytes()):
            assert waiting.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 3
    assert processes_that_name(fresh_small.project) == {}
    assert not (fresh_small.state / "run").exists()
    assert held_namespaces() <= before


def test_a_taken_port_is_one_clear_error_and_leaves_nothing(fresh_shop: RunningSystem) -> None:
    before = held_namespaces()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", fresh_shop.gateway_port))
        taken.listen()
        done = fresh_shop.watertight("up", str(fresh_shop.project), expect=3)
    assert f"127.0.0.1:{fresh_shop.gateway_port}" in done.stderr
    assert "watertight.yaml:" in done.stderr
    assert processes_that_name(fresh_shop.project) == {}
    assert held_namespaces() <= before


def test_a_missing_program_is_one_clear_error(fresh_shop: RunningSystem) -> None:
    text = fresh_shop.declaration.read_text()
    fresh_shop.declaration.write_text(text.replace("[python, stock.py", "[no-such-program, x"))
    done = fresh_shop.watertight("up", str(fresh_shop.project), expect=3)
    assert "no-such-program" in done.stderr
    assert "watertight.yaml:" in done.stderr
    assert processes_that_name(fresh_shop.project) == {}


def test_only_one_control_process_at_a_time(fresh_small: SmallSystem) -> None:
    fresh_small.start()
    done = fresh_small.watertight("up", str(fresh_small.project), expect=3)
    assert str(fresh_small.control_pid()) in done.stderr
    fresh_small.drive_traffic()


@pytest.mark.timeout(120)
def test_short_lives_renew_themselves(fresh_shop: RunningSystem) -> None:
    """With SVIDs of seconds, everything renews in time and traffic goes on."""
    fresh_shop.start("--svid-ttl", "6")
    first = {s["name"]: s["svid_expires_at"] for s in fresh_shop.status()["services"]}
    # From here on without the command, whose start costs more than what it asks.
    client = AdminClient((fresh_shop.state / "run" / "admin.sock").resolve())
    deadline = time.monotonic() + 30
    renewed: set[str] = set()
    while renewed != set(first):
        assert time.monotonic() < deadline
        time.sleep(0.3)
        services = client.get("/status")["services"]
        renewed = {s["name"] for s in services if s["svid_expires_at"] != first[s["name"]]}
    fresh_shop.drive_traffic()


def test_a_pod_that_is_killed_comes_back(fresh_small: SmallSystem) -> None:
    """Its init is killed, and with it the service; the control plane makes it anew."""
    fresh_small.start()
    before = fresh_small.pod_process("web")
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (was_made_anew(fresh_small, before) and is_well(fresh_small)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    fresh_small.drive_traffic()


def test_what_a_proxy_leaves_in_its_directory_leads_nobody_elsewhere(
    fresh_small: SmallSystem,
) -> None:
    """A compromised proxy plants links in the directory that is its own, and its pod dies."""
    fresh_small.start()
    victim = fresh_small.project / "victim"
    victim.write_text("another's", encoding="utf-8")
    victim.chmod(0o600)
    private = fresh_small.state / "run" / "proxies" / "web"
    for name in ("bootstrap.json", ".bootstrap.json.new", "bootstrap.json.new"):
        (private / name).unlink(missing_ok=True)
        (private / name).symlink_to(victim)
    before = fresh_small.pod_process("web")
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (was_made_anew(fresh_small, before) and is_well(fresh_small)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert victim.read_text(encoding="utf-8") == "another's"
    assert victim.stat().st_mode & 0o777 == 0o600


def was_made_anew(system: SmallSystem, before: int) -> bool:
    """Asked first, for it costs less than ``status``."""
    with contextlib.suppress(OSError, ValueError):
        return system.pod_process("web") != before
    return False


def is_well(system: RunningSystem) -> bool:
    """``watertight status`` finds nothing wrong."""
    done = subprocess.run(
        system.command("status", str(system.project), "-o", "json"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0


def test_watching_applies_what_changes_and_says_what_cannot_be(fresh_small: SmallSystem) -> None:
    fresh_small.start("--watch")
    original = fresh_small.declaration.read_text()
    fresh_small.declaration.write_text(original.replace("to: web,", "to: wbe,", 1))
    fresh_small.wait_for_output("the last good one stays in force", deadline_seconds=30)
    fresh_small.drive_traffic()
    fresh_small.declaration.write_text(original + "  # changed\n")
    fresh_small.wait_for_output("Applied the changed declaration.", deadline_seconds=30)
    fresh_small.drive_traffic()
