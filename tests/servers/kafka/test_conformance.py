"""Kafka does what every kind of server must; its probes are bitten in test_sabotage.py."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.rig import Rig
from tests.servers.kafka.shop import SHOP
from tests.servers.kafka.test_sabotage import EVERYTHING, SIBLINGS, USES
from watertight.attack.login import Login
from watertight.attack.tls import TLSWire
from watertight.attack.wire import Closed
from watertight.enforcers.resource import ServerPlan
from watertight.servers.facts import Fact
from watertight.servers.kafka.attacks.dialect import NO, KafkaDialect, asked, verdict
from watertight.servers.kafka.attacks.requests import find
from watertight.servers.kafka.compile import NODE
from watertight.servers.kafka.facts import ACL, TOPIC
from watertight.servers.kafka.operator import BROKER_CONFIG, SET, TOPIC_CONFIG, Operator, operator
from watertight.servers.kafka.server import Kafka
from watertight.testing import Conformance


def does(name: str, *arguments: Any) -> Callable[[Operator], Awaitable[Any]]:
    """One request of the operator's."""
    return lambda asking: getattr(asking, name)(*arguments)


class TestConformance(Conformance):
    enforcer = Kafka
    declaration = SHOP
    dialect = KafkaDialect()
    by_hand = {
        does("create_acls", [ACL(2, "*", 3, "User:*", "*", 2, 3)]): (
            "access User:* Allow All topic is * from * is not declared"
        ),
        does("delete_all_acls", "User:mailer"): (
            "access User:mailer Allow Read topic is invoices from * is missing"
        ),
        does("create_topic", "spy", 1, {}): "topic spy is not declared",
        does("alter", TOPIC_CONFIG, "invoices", [("retention.ms", SET, "1")]): (
            "topic invoices: retention.ms is '1' and not '2592000000'"
        ),
        does("alter_quota", (("user", "orders"),), {"consumer_byte_rate": None}): (
            "quota of user orders: consumer_byte_rate is not set and not '67108864'"
        ),
        does("alter_quota", (("user", None),), {"consumer_byte_rate": 1e9}): (
            "quota of user <default> is not declared"
        ),
        does("alter", BROKER_CONFIG, NODE, [("log.cleaner.threads", SET, "2")]): (
            "setting log.cleaner.threads 1 is not declared"
        ),
        does("alter", BROKER_CONFIG, "", [("message.max.bytes", SET, "99")]): (
            "setting message.max.bytes is not declared"
        ),
    }
    weakenings = ()
    elsewhere = dict.fromkeys(EVERYTHING | USES | SIBLINGS | {"ports.unknown"}, "test_sabotage.py")

    async def do(self, rig: Rig, *things: Any) -> None:
        async with operator(rig.plan, rig.host) as asking:
            for thing in things:
                await thing(asking)

    async def speak(self, rig: Rig, session: TLSWire, login: Login) -> None:
        await self.dialect.login(session, login)

    def refused(self, rig: Rig) -> Sequence[ServerPlan]:
        """A topic of fewer partitions than it has."""
        fewer = frozenset(
            Fact(f.kind, f.key, tuple((k, "1" if k == "partitions" else v) for k, v in f.value))
            if f.kind == TOPIC
            else f
            for f in rig.plan.grants.facts
        )
        return [replace(rig.plan, grants=replace(rig.plan.grants, facts=fewer))]

    async def is_out(self, rig: Rig, session: TLSWire, login: Login) -> None:
        """A broker ends nobody's session: who is revoked may do nothing in his."""
        try:
            code = verdict(find(login.service), await asked(session, find(login.service)))
        except Closed:
            return
        assert code in NO
