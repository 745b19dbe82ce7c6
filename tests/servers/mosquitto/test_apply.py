"""A real broker becomes what is declared, stays it, and says what it is not."""

import json
import signal
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.ports import free_port
from tests.rig import Rig, not_held, running_server, with_channels
from tests.servers.mosquitto.shop import SHOP
from watertight.attack.login import Login, as_itself
from watertight.attack.probe import Outcome, Verdict
from watertight.attack.wire import Closed
from watertight.servers.mosquitto.attacks.cases import publishes
from watertight.servers.mosquitto.attacks.dialect import DISCONNECT, MosquittoDialect, packets
from watertight.servers.mosquitto.compile import CONFIGURATION, OPENSSL, SECURITY
from watertight.servers.mosquitto.operator import operating
from watertight.servers.mosquitto.server import Mosquitto
from watertight.servers.mosquitto.session import OTHER_OPERATOR

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(Mosquitto(), SHOP) as running:
        yield running


FAMILIES = ("grants", "identity", "limits", "pairs", "ports", "reach", "sessions", "tls", "use")
ANYBODY = {
    "identity.expired",
    "identity.foreign-authority",
    "identity.longer-common-name",
    "identity.no-common-name",
    "identity.not-yet-valid",
    "identity.other-common-name",
    "identity.other-workload",
    "identity.self-signed",
    "identity.server-only-usage",
    "identity.upper-case",
    "ports.unknown",
    "sessions.resumption-after-revoke",
    "tls.no-certificate",
    "tls.version-1.2",
}


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig) -> tuple[str, ...]:
    return (await rig.enforcer.apply(rig.plan, rig.host)).changed


async def by_hand(rig: Rig, *commands: Mapping[str, Any]) -> None:
    async with operating(rig.plan, rig.host) as operator:
        answers = await operator.ask(*commands)
    assert not [answer for answer in answers if "error" in answer]


def may(topic: str, *, read: bool = False) -> list[Mapping[str, Any]]:
    kinds = ("subscribePattern", "publishClientReceive") if read else ("publishClientSend",)
    return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind in kinds]


def login(rig: Rig, service: str) -> Login:
    return Login(rig.system, rig.system.resources[rig.resource], service)


async def broken(rig: Rig, channel: str, *families: str) -> set[str]:
    """Which probes of a channel break, of these families or of all."""
    results = await rig.run(
        [
            probe
            for probe in rig.probes
            if probe.channel == channel and probe.id.split(".")[0] in (families or FAMILIES)
        ]
    )
    return {r.id for r in results if r.verdict is Verdict.BROKEN}


async def test_every_probe_holds_on_the_broker_as_it_is_applied(rig: Rig) -> None:
    assert await apply(rig) == ()
    assert await drift(rig) == []
    results = await rig.run(rig.probes)
    assert not_held(results) == {}
    assert len(results) >= 150


async def weakened(rig: Rig, **more: list[Mapping[str, Any]]) -> None:
    """The broker with these rights besides, by service; with none where the list is empty."""
    security = json.loads(rig.plan.files[SECURITY])
    for role in security["roles"]:
        if role["rolename"] in more:
            given = more[role["rolename"]]
            role["acls"] = [*role["acls"], *given] if given else []
    await rig.host.write({**rig.plan.files, SECURITY: json.dumps(security)})
    await rig.host.stop()
    await rig.host.start()


async def test_what_is_changed_by_hand_is_found_and_taken_back(rig: Rig) -> None:
    await by_hand(
        rig,
        {"command": "createRole", "rolename": "spy", "acls": may("#", read=True)},
        {"command": "createClient", "username": "spy", "roles": [{"rolename": "spy"}]},
        {"command": "createGroup", "groupname": "spies", "roles": [{"rolename": "spy"}]},
        {
            "command": "setDefaultACLAccess",
            "acls": [{"acltype": "publishClientReceive", "allow": True}],
        },
    )
    found = await drift(rig)
    for what in ("role spy is not declared", "user spy is not declared", "group spies is not"):
        assert any(what in line for line in found)
    assert any(line.startswith("default access publishClientReceive") for line in found)
    assert set(await apply(rig)) == set(found)
    assert await drift(rig) == []


async def test_rights_that_nobody_declared_bite_and_are_taken_back(rig: Rig) -> None:
    every = ["#", "$SYS/#", "$CONTROL/#", "$watertight/#"]
    rights = [acl for topic in every for read in (True, False) for acl in may(topic, read=read)]
    await weakened(rig, sensors=[*rights, *may("$share/#", read=True)], doors=[])
    found = await drift(rig)
    assert any(line.startswith("role sensors: rights") for line in found)
    assert {
        "grants.older-protocol",
        "grants.read",
        "grants.read-from-broker",
        "grants.shared",
        "grants.wildcard",
        "grants.write",
        "grants.write-to-broker",
        "login.user-name",
        "pairs.older-protocol",
        "pairs.qos-2",
        "pairs.will",
    } - await broken(rig, "sensors -> field", "grants", "login", "pairs") == set()
    assert "use.read" in await broken(rig, "doors -> field", "use")
    await apply(rig)
    await weakened(rig, sensors=[])
    assert "use.write" in await broken(rig, "sensors -> field", "use")
    await apply(rig)
    assert await drift(rig) == []


async def test_an_operator_without_rights_is_found_and_has_them_back(rig: Rig) -> None:
    await weakened(rig, field=[])
    assert OTHER_OPERATOR in await drift(rig)
    await rig.host.write(rig.plan.files)
    assert await drift(rig) == [OTHER_OPERATOR]
    assert await apply(rig) == (OTHER_OPERATOR, "started")
    assert await drift(rig) == []


async def test_files_that_were_changed_by_hand_are_found_bite_and_are_taken_back(rig: Rig) -> None:
    right = rig.plan.files[CONFIGURATION]
    weak = right.replace("retain_available false", "retain_available true")
    weak = weak.replace("max_packet_size 65536", "max_packet_size 100000")
    weak = weak.replace("use_username_as_clientid true\n", "").replace("1.3", "1.2")
    files = {**rig.plan.files, CONFIGURATION: weak, OPENSSL: ""}
    await rig.host.write(files)
    await rig.host.stop()
    await rig.host.start()
    assert await drift(rig) == [f"{name} was changed by hand" for name in (CONFIGURATION, OPENSSL)]
    assert await broken(rig, "sensors -> field") >= {
        "limits.message",
        "limits.retained",
        "pairs.client-id",
        "tls.version-1.2",
    }
    assert set(await apply(rig)) == {CONFIGURATION, OPENSSL, "started"}
    assert await drift(rig) == []


@pytest.mark.slow
async def test_a_broker_that_lets_anybody_in_is_found(rig: Rig) -> None:
    own = rig.host.placement.credentials(rig.resource)
    port, more = rig.plan.port, free_port()
    tls = f"certfile {own}/certificate.pem\nkeyfile {own}/private_key.pem\n"
    lax = f"allow_anonymous true\nlistener {port} 127.0.0.1\n"
    for text, bitten in (
        (lax + tls + f"listener {more} 127.0.0.1\n", ANYBODY),
        (lax, {"tls.plaintext"}),
    ):
        await rig.host.write({**rig.plan.files, CONFIGURATION: text})
        await rig.host.stop()
        await rig.host.start()
        found = await broken(rig, "sensors -> field") | await broken(rig, "anyone -> field")
        assert bitten - found == set()
        assert bitten == {"tls.plaintext"} or "reach.doors" in await broken(
            rig, "stranger -> field"
        )
    assert CONFIGURATION in await apply(rig)


async def test_a_new_leaf_is_served_and_no_session_is_lost(rig: Rig) -> None:
    wire = await as_itself(rig.arena, MosquittoDialect(), login(rig, "sensors"))
    pid = rig.host.pid
    await rig.keeper.rotate_issuer()
    rig.deliver()
    await rig.enforcer.rotate(rig.plan, rig.host)
    assert rig.host.pid == pid
    assert (await publishes("alarms")(wire)).outcome is Outcome.SERVED
    await wire.close()


async def test_a_new_root_is_taken_by_a_restart(rig: Rig) -> None:
    pid = rig.host.pid
    sequence = rig.keeper.prepare_root()
    rig.deliver()
    await rig.host.signal(signal.SIGHUP)  # which it does not read its roots at
    await rig.enforcer.rotate(rig.plan, rig.host)
    restarted = rig.host.pid
    assert restarted != pid
    await rig.keeper.activate_root(sequence)
    rig.deliver()
    await rig.enforcer.rotate(rig.plan, rig.host)
    await (await as_itself(rig.arena, MosquittoDialect(), login(rig, "sensors"))).close()


async def test_a_revoked_service_is_cut_and_can_do_nothing(rig: Rig) -> None:
    left = rig.compile(with_channels(rig.system, "panel", "doors", "lobby"))
    wire = await as_itself(rig.arena, MosquittoDialect(), login(rig, "sensors"))
    assert await rig.enforcer.revoke(left, rig.host, "sensors") == 1
    assert (await packets(wire).next()).kind == DISCONNECT
    with pytest.raises(Closed):
        await packets(wire).next()
    await rig.enforcer.apply(left, rig.host)
    with pytest.raises(Closed):
        await as_itself(rig.arena, MosquittoDialect(), login(rig, "sensors"))
    await apply(rig)
    await (await as_itself(rig.arena, MosquittoDialect(), login(rig, "sensors"))).close()
