"""PostgreSQL for the attacks that every server has: how TLS is asked for, and a login."""

import ssl
from dataclasses import dataclass

from watertight.attack.login import Busy, Login
from watertight.attack.make import ProbeMaker
from watertight.attack.wire import Closed, Wire
from watertight.servers.postgresql.attacks.session import SSL_REQUEST, Session
from watertight.servers.postgresql.declaration import KIND, declared

MAKE = ProbeMaker(KIND)


@dataclass(slots=True)
class PostgreSQLDialect:
    """Implements ``attack.login.Dialect``; the fields make it ask for what it should not get."""

    enforcer: str = KIND
    alpn: tuple[str, ...] = ("postgresql",)
    lowest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    tells_who: bool = True
    database: str | None = None
    """Another than the declared one."""
    role: str | None = None
    """Another than the service's own."""
    replication: str | None = None
    """``true`` or ``database``: a session that copies everything there is."""
    direct: bool = False
    """TLS from the first byte, as since PostgreSQL 17."""
    search_path: str | None = "pg_catalog"
    """Where names without a schema are looked for; None: where the role's sessions would look.

    There another service may have put its own, and who asks in such a session qualifies every name
    and operator. The startup message goes before what the role or the database has set.
    """

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """Asks for TLS. Raises ``Closed`` if the server has none, ``Busy`` if nobody answers."""
        if not secure or self.direct:
            return
        await wire.send(SSL_REQUEST)
        try:
            answer = await Session(wire).byte()
        except Closed as full:  # the server itself always answers; its door has no place
            raise Busy(str(full)) from full
        if answer != b"S":
            raise Closed(f"answered {answer!r} to the request for TLS")

    async def login(self, wire: Wire, login: Login) -> None:
        """Logs in and has a query answered. Raises as ``Session``."""
        parameters = {
            "user": self.role or login.service,
            "database": self.database or declared(login.resource).database,
        }
        if self.search_path is not None:
            parameters["options"] = f"-c search_path={self.search_path}"
        if self.replication:
            parameters["replication"] = self.replication
        session = Session(wire)
        await session.log_in(parameters)
        asked = "IDENTIFY_SYSTEM" if self.replication else "SELECT 1"
        answer = await session.query(asked)
        if answer.sqlstate:
            raise Closed(f"logged in, and then: {answer}")


DIALECT = PostgreSQLDialect()
DIRECT = PostgreSQLDialect(direct=True)
AS_IT_BEGINS = PostgreSQLDialect(search_path=None)
"""Sessions with the search path that the service's own have."""
