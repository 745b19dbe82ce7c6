"""MariaDB over a channel: connections of PyMySQL, logged in by certificate alone.

How old certificates leave: each connection uses the newest SVID when it is made, and stays for as
long as its program holds it. A revoked service is cut off by the server.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, TypeVar

from watertight.sdk.credentials import Credentials
from watertight.sdk.endpoints import Endpoint, find
from watertight.sdk.opening import OPEN_SECONDS, driver_of, persistently
from watertight.sdk.rotation import RotatingContext

if TYPE_CHECKING:
    from pymysql import Connection

KIND = "mariadb"

T = TypeVar("T")


class Database:
    """Makes connections to the channel's database. May be shared by threads."""

    def __init__(self, endpoint: Endpoint, options: dict[str, Any]) -> None:
        self._endpoint, self._options = endpoint, options
        self._context = RotatingContext(Credentials(endpoint), endpoint.host)

    def connect(self) -> "Connection[Any]":
        """A new connection, for blocking code; whoever asks closes it.

        ``sqlalchemy.create_engine("mysql+pymysql://", creator=database.connect)`` makes a pool of
        them. Raises ``pymysql.MySQLError``.
        """
        import pymysql  # noqa: PLC0415

        return pymysql.connect(
            host=self._endpoint.address,
            port=self._endpoint.port,
            user=self._endpoint.parameter("user"),
            database=self._endpoint.parameter("database"),
            ssl=self._context,
            **self._options,
        )

    async def run(self, work: "Callable[[Connection[Any]], T]") -> T:
        """What ``work`` makes of a connection of its own, in a thread: committed if it returns.

        Raises what it raises, and ``pymysql.MySQLError``; nothing is committed then.
        """
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: "Callable[[Connection[Any]], T]") -> T:
        with closing(self.connect()) as connection:
            done = work(connection)
            connection.commit()
            return done


@asynccontextmanager
async def database(
    name: str, /, *, open_seconds: float = OPEN_SECONDS, **options: Any
) -> AsyncIterator[Database]:
    """The database of a channel, once its server is there.

    ``options`` go to ``pymysql.connect``. Raises :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        from pymysql import OperationalError  # noqa: PLC0415
    opened = Database(endpoint, options)

    async def look() -> None:
        (await asyncio.to_thread(opened.connect)).close()

    await persistently(endpoint, look, (OperationalError,), open_seconds)
    yield opened


DRIVERS = {"pymysql": database}
"""Who opens a channel, by driver; the first is the one that is taken."""
