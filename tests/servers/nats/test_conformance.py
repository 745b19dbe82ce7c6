"""NATS does what every kind of server must, and each of its probes bites."""

import json
import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.rig import Rig, not_held, running_server
from tests.servers.nats.sabotages import CLAIMS, MAILER, SABOTAGES, USES
from tests.servers.nats.shop import OLD_SHOP, SHOP
from watertight.attack.login import Login
from watertight.attack.tls import TLSWire
from watertight.enforcers.resource import ServerPlan
from watertight.servers.nats.attacks.dialect import NATSDialect, converse
from watertight.servers.nats.compile import CONFIGURATION
from watertight.servers.nats.operator import operator
from watertight.servers.nats.server import NATS
from watertight.testing import Conformance, Weakening

CONSUMER, STREAM = "$JS.API.CONSUMER", "$JS.API.STREAM"
EMPTY = {"name": "EMPTY", "subjects": ["empty"], "storage": "file", "max_bytes": 1 << 20}
AUDIT = {"name": "AUDIT", "subjects": ["audit.*", "spy.>"], "max_bytes": 7}
CONSUMER_GONE = (f"{CONSUMER}.DELETE.ORDERS.mailer", "null")
SPY = {
    "stream_name": "ORDERS",
    "config": {"durable_name": "spy", "ack_policy": "none", "deliver_subject": "leak"},
}


class TestConformance(Conformance):
    enforcer = NATS
    declaration = SHOP
    dialect = NATSDialect(tls_first=True, lowest_tls=ssl.TLSVersion.TLSv1_3)
    by_hand = {
        (f"{STREAM}.CREATE.EMPTY", json.dumps(EMPTY)): "stream EMPTY is not declared",
        (f"{STREAM}.UPDATE.AUDIT", json.dumps(AUDIT)): (
            "stream AUDIT: max_bytes is '7' and not '67108864'"
        ),
        CONSUMER_GONE: "consumer ORDERS mailer is missing",
        (f"{CONSUMER}.DURABLE.CREATE.ORDERS.spy", json.dumps(SPY)): (
            "consumer ORDERS spy is not declared"
        ),
    }
    weakenings = (
        *SABOTAGES,
        *USES,
        Weakening(
            "a missing consumer",
            (CONSUMER_GONE,),
            frozenset({"use.consume"}),
            channel=MAILER,
            others="use",
        ),
    )
    beyond_door = frozenset({"tls.greeting", "identity.claimed-password", *CLAIMS})

    async def do(self, rig: Rig, *things: Any) -> None:
        async with operator(rig.plan, rig.host) as session:
            for subject, text in things:
                body = json.loads(text)
                if ".UPDATE." in subject:
                    body = {**rig.plan.grants.streams[body["name"]], **body}
                assert "error" not in await session.ask(subject, body)

    async def speak(self, rig: Rig, session: TLSWire, login: Login) -> None:
        assert (await converse(session, "")).errors == ()

    def refused(self, rig: Rig) -> Sequence[ServerPlan]:
        """A file that cannot be loaded."""
        text = rig.plan.files[CONFIGURATION]
        return [replace(rig.plan, files={CONFIGURATION: f"{text}no_such_key: 1\n"})]


async def test_all_probes_hold_on_an_older_server() -> None:
    async with running_server(NATS(), OLD_SHOP) as old:
        results = await old.run(old.probes)
        assert not_held(results) == {}
        assert len(results) >= 500
