"""PostgreSQL does what every kind of server must; its probes are bitten in test_sabotage.py."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.rig import Rig
from tests.servers.postgresql.rig import FILES, as_operator, shop_database
from tests.servers.postgresql.sabotages import SABOTAGES
from tests.servers.postgresql.shop import SHOP
from tests.servers.postgresql.test_sabotage import DOORS, NOT_OURS, STARTED
from watertight.attack.login import Login
from watertight.attack.tls import TLSWire
from watertight.enforcers.resource import ServerPlan
from watertight.model.load import load_text
from watertight.servers.postgresql.attacks.dialect import DIALECT
from watertight.servers.postgresql.attacks.session import SSL_REQUEST, Session
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer
from watertight.testing import Conformance
from watertight.testing.open_door import open_door

OURS = {probe for sabotage in SABOTAGES for probe in sabotage.breaks}


class TestConformance(Conformance):
    enforcer = PostgreSQLEnforcer
    declaration = SHOP
    beside = FILES
    dialect = DIALECT
    by_hand = {
        "GRANT DELETE ON orders TO orders": (
            "not declared: DELETE on TABLE public.orders for orders"
        ),
        "REVOKE SELECT ON orders FROM orders": (
            "missing: SELECT on TABLE public.orders for orders"
        ),
        "CREATE ROLE spy LOGIN PASSWORD 'x'": "not declared: role spy",
        "ALTER SYSTEM SET log_connections = off": "ALTER SYSTEM set log_connections",
    }
    weakenings = ()
    elsewhere = dict.fromkeys(OURS | NOT_OURS | DOORS | STARTED, "test_sabotage.py, test_memory.py")

    @classmethod
    def server(cls) -> AbstractAsyncContextManager[Rig]:
        return shop_database()

    @classmethod
    def door(cls, rig: Rig, service: str) -> AbstractAsyncContextManager[None]:
        return open_door(rig, service, knock=SSL_REQUEST, answer=b"S")

    async def do(self, rig: Rig, *things: Any) -> None:
        await as_operator(rig, *things)

    async def speak(self, rig: Rig, session: TLSWire, login: Login) -> None:
        assert not (await Session(session).query("SELECT 1")).sqlstate

    def refused(self, rig: Rig) -> Sequence[ServerPlan]:
        """A table that is not there, and less for somebody."""
        other = SHOP.replace("{orders: [select, insert, update]", "{order: [select]")
        return [rig.compile(load_text(other.replace("{port}", str(rig.host.port))))]
