"""Mosquitto does what every kind of server must, and each of its probes bites."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.ports import free_port
from tests.rig import Rig
from tests.servers.mosquitto.shop import SHOP
from watertight.attack.login import Login
from watertight.attack.tls import TLSWire
from watertight.enforcers.resource import ServerPlan
from watertight.servers.mosquitto.attacks.dialect import (
    PUBACK,
    REFUSED,
    MosquittoDialect,
    packets,
    publish,
)
from watertight.servers.mosquitto.compile import CONFIGURATION, OPENSSL, SECURITY
from watertight.servers.mosquitto.declaration import OWN
from watertight.servers.mosquitto.operator import operating
from watertight.servers.mosquitto.server import Mosquitto
from watertight.servers.mosquitto.session import OTHER_OPERATOR
from watertight.testing import Conformance, Weakening

EVERY = ("#", "$SYS/#", "$CONTROL/#", "$watertight/#")


def may(topic: str, *, read: bool = False) -> list[Mapping[str, Any]]:
    kinds = ("subscribePattern", "publishClientReceive") if read else ("publishClientSend",)
    return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind in kinds]


EVERYTHING = [acl for topic in EVERY for read in (True, False) for acl in may(topic, read=read)]


def with_rights(service: str, *rights: Mapping[str, Any]) -> Callable[[Any], dict[str, str]]:
    """A service has these besides; or none at all, where there are none."""

    def files(right: Mapping[str, str]) -> dict[str, str]:
        security = json.loads(right[SECURITY])
        [role] = [r for r in security["roles"] if r["rolename"] == service]
        role["acls"] = [*role["acls"], *rights] if rights else []
        return {SECURITY: json.dumps(security)}

    return files


def lax(right: Mapping[str, str]) -> dict[str, str]:
    text = right[CONFIGURATION]
    for old, new in (
        ("retain_available false", "retain_available true"),
        ("max_packet_size 65536", "max_packet_size 100000"),
        ("use_username_as_clientid true\n", ""),
        ("1.3", "1.2"),
    ):
        assert old in text
        text = text.replace(old, new)
    return {CONFIGURATION: text, OPENSSL: ""}


def with_another_port(right: Mapping[str, str]) -> dict[str, str]:
    return {CONFIGURATION: f"{right[CONFIGURATION]}listener {free_port()} 127.0.0.1\n"}


class TestConformance(Conformance):
    enforcer = Mosquitto
    declaration = SHOP
    dialect = MosquittoDialect()
    refusal = "does not start"
    one_by_one = True  # who connects ends the session of the same name
    by_hand = {
        json.dumps({"command": "createRole", "rolename": "spy", "acls": may("#", read=True)}): (
            "role spy is not declared"
        ),
        json.dumps({"command": "createClient", "username": "spy"}): "user spy is not declared",
        json.dumps({"command": "createGroup", "groupname": "spies"}): "group spies is not declared",
        json.dumps(
            {
                "command": "setDefaultACLAccess",
                "acls": [{"acltype": "publishClientReceive", "allow": True}],
            }
        ): "default access publishClientReceive",
        json.dumps(
            {
                "command": "addRoleACL",
                "rolename": "sensors",
                "acltype": "publishClientSend",
                "topic": "#",
                "allow": True,
            }
        ): "role sensors: rights",
    }
    weakenings = (
        Weakening(
            "every right",
            breaks=frozenset(
                {
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
                }
            ),
            files=with_rights("sensors", *EVERYTHING, *may("$share/#", read=True)),
        ),
        Weakening(
            "no right to read",
            breaks=frozenset({"use.read"}),
            channel="doors -> field",
            files=with_rights("doors"),
        ),
        Weakening(
            "no right to write",
            breaks=frozenset({"use.write", "use.read"}),
            files=with_rights("sensors"),
        ),
        Weakening(
            "wider bounds and older TLS",
            breaks=frozenset(
                {"limits.message", "limits.retained", "pairs.client-id", "tls.version-1.2"}
            ),
            holds=frozenset({"grants.read", "grants.write"}),
            files=lax,
        ),
        Weakening(
            "another port",
            breaks=frozenset({"ports.unknown"}),
            channel="anyone -> field",
            files=with_another_port,
        ),
    )

    async def do(self, rig: Rig, *things: Any) -> None:
        async with operating(rig.plan, rig.host) as operator:
            answers = await operator.ask(*map(json.loads, things))
        assert not [answer for answer in answers if "error" in answer]

    async def speak(self, rig: Rig, session: TLSWire, login: Login) -> None:
        await session.send(publish(OWN + login.service, qos=1))
        seen = await packets(session).answer()
        assert seen.kind == PUBACK
        assert seen.reason < REFUSED

    def refused(self, rig: Rig) -> Sequence[ServerPlan]:
        """A file with which it does not start, and rights for somebody."""
        files = {
            **rig.plan.files,
            **with_rights("lobby", *EVERYTHING)(rig.plan.files),
            CONFIGURATION: f"{rig.plan.files[CONFIGURATION]}no_such_option true\n",
        }
        return [replace(rig.plan, files=files)]

    async def test_it_answers_however_often_it_is_looked_at(self, rig: Rig) -> None:
        """With `memory_limit`, it let nobody in after the fifth look, if nothing else happened."""
        await rig.restart_with({})
        for _ in range(20):
            assert await self.drift(rig) == []

    async def test_an_operator_without_rights_is_found_and_has_them_back(self, rig: Rig) -> None:
        await rig.restart_with(with_rights(rig.resource)(rig.plan.files))
        assert OTHER_OPERATOR in await self.drift(rig)
        await rig.host.write(rig.plan.files)
        assert await self.drift(rig) == [OTHER_OPERATOR]
        assert await self.apply(rig) == (OTHER_OPERATOR, "started")
        assert await self.drift(rig) == []
