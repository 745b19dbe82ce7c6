"""PostgreSQL over a channel: psycopg (its pool, or one connection), asyncpg, SQLAlchemy.

Who the server is: asyncpg checks the DNS name and the SPIFFE ID. psycopg speaks TLS through libpq,
which knows no SPIFFE ID: it checks the DNS name (``verify-full``) against our bundle alone, and our
authority gives that name to that server alone.

How old certificates leave: connections are replaced once the service has a newer SVID; in a pool
the idle ones within seconds, the others when they come back to it; in an engine when they are next
taken from its pool. What a connection is in the middle of, it finishes.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

from watertight.sdk.credentials import Credentials, CredentialSet
from watertight.sdk.endpoints import Endpoint, find
from watertight.sdk.opening import OPEN_SECONDS, driver_of, persistently, unavailable
from watertight.sdk.rotation import RotatingContext, retiring

if TYPE_CHECKING:
    import asyncpg
    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

KIND = "postgresql"
_MadeWith: TypeAlias = WeakKeyDictionary[Any, CredentialSet | None]
"""A driver's connection → the credentials that were current when it began to be made."""


@asynccontextmanager
async def pool(
    name: str,
    /,
    *,
    min_size: int = 1,
    max_size: int = 10,
    kwargs: Mapping[str, Any] | None = None,
    open_seconds: float = OPEN_SECONDS,
    **options: Any,
) -> "AsyncIterator[AsyncConnectionPool[AsyncConnection]]":
    """A psycopg pool, filled to ``min_size``, open while the block runs.

    ``kwargs`` go to each connection (``row_factory`` …), ``options`` to the pool. Raises
    :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        from psycopg import AsyncConnection, Error  # noqa: PLC0415
        from psycopg_pool import AsyncConnectionPool, PoolTimeout  # noqa: PLC0415
    credentials = _credentials(endpoint)

    def connection_kwargs() -> dict[str, Any]:
        return {**_defaults(endpoint), **(kwargs or {}), **_psycopg(endpoint, credentials)}

    async def try_one() -> None:
        async with await AsyncConnection.connect(**connection_kwargs()):
            pass

    # The pool would only say that it took too long; one connection says why.
    await persistently(endpoint, try_one, (Error,), open_seconds)
    opened: AsyncConnectionPool[AsyncConnection] = AsyncConnectionPool(
        kwargs=connection_kwargs,
        min_size=min_size,
        max_size=max_size,
        open=False,
        # Connections end when there is a newer SVID (see `retiring`), not after an hour.
        **{"max_lifetime": inf, "name": endpoint.name, **options},
    )
    async with opened, retiring(credentials, opened.drain):
        try:
            await opened.wait(open_seconds)
        except PoolTimeout as error:
            raise unavailable(endpoint, error) from error
        yield opened


@asynccontextmanager
async def asyncpg_pool(
    name: str,
    /,
    *,
    min_size: int = 1,
    max_size: int = 10,
    open_seconds: float = OPEN_SECONDS,
    **options: Any,
) -> "AsyncIterator[asyncpg.Pool]":
    """An asyncpg pool, filled to ``min_size``, open while the block runs.

    ``options`` go to ``asyncpg.create_pool``. Raises :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        import asyncpg  # noqa: PLC0415
    credentials = _credentials(endpoint)
    settings = {"application_name": endpoint.service, **options.pop("server_settings", {})}
    arguments = _asyncpg(endpoint, credentials)

    async def create() -> asyncpg.Pool:
        return await asyncpg.create_pool(
            min_size=min_size,
            max_size=max_size,
            server_settings=settings,
            **arguments,
            **options,
        )

    failures = (asyncpg.PostgresError, asyncpg.InterfaceError)
    opened = await persistently(endpoint, create, failures, open_seconds)
    async with opened, retiring(credentials, opened.expire_connections):
        yield opened


def connect(name: str, /, **kwargs: Any) -> "Connection":
    """One blocking psycopg connection; ``kwargs`` as for ``psycopg.connect``.

    Raises :class:`~watertight.sdk.ChannelError`, and what psycopg raises.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        import psycopg  # noqa: PLC0415
    ours = _psycopg(endpoint, _credentials(endpoint))
    return psycopg.connect(**{**_defaults(endpoint), **kwargs, **ours})


def dsn(name: str) -> str:
    """The channel as a connection URI of libpq, for software that takes nothing else.

    It stays right over rotations: the files are read at each connect, through the link that leads
    to the newest. A connect in the very moment of a rotation may meet a certificate and another's
    key; libpq refuses those, and the next try succeeds. The pools and engines here know no such
    moment.
    """
    endpoint = find(name, KIND)
    parameters = _libpq(endpoint, str(endpoint.credentials))
    user, database = (quote(parameters.pop(key), safe="") for key in ("user", "dbname"))
    host = parameters.pop("host")
    port = parameters.pop("port")
    query = urlencode(_defaults(endpoint) | parameters, quote_via=quote, safe="/.")
    return f"postgresql://{user}@{host}:{port}/{database}?{query}"


def engine(name: str, /, **options: Any) -> "Engine":
    """A SQLAlchemy engine on psycopg; ``options`` as for ``create_engine``.

    Raises :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        import psycopg  # noqa: PLC0415
        from sqlalchemy import create_engine  # noqa: PLC0415
    credentials = _credentials(endpoint)
    made_with: _MadeWith = WeakKeyDictionary()

    def creator() -> psycopg.Connection:
        before = _now(credentials)
        arguments = {**_defaults(endpoint), **_psycopg(endpoint, credentials)}
        connection = psycopg.connect(**arguments)
        made_with[connection] = before
        return connection

    made = create_engine("postgresql+psycopg://", creator=creator, **options)
    _retire_at_checkout(made, credentials, made_with)
    return made


def async_engine(name: str, /, *, driver: str = "psycopg", **options: Any) -> "AsyncEngine":
    """An asyncio SQLAlchemy engine on psycopg, or on asyncpg (``driver="asyncpg"``).

    ``options`` as for ``create_async_engine``. Raises :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        if driver == "asyncpg":
            import asyncpg  # noqa: PLC0415
        else:
            import psycopg  # noqa: PLC0415
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415
    credentials = _credentials(endpoint)
    made_with: _MadeWith = WeakKeyDictionary()

    async def connected() -> Any:
        if driver == "asyncpg":
            return await asyncpg.connect(
                server_settings={"application_name": endpoint.service},
                **_asyncpg(endpoint, credentials),
            )
        arguments = _defaults(endpoint) | _psycopg(endpoint, credentials)
        return await psycopg.AsyncConnection.connect(**arguments)

    async def creator() -> Any:
        before = _now(credentials)
        connection = await connected()
        made_with[connection] = before
        return connection

    made = create_async_engine(f"postgresql+{driver}://", async_creator=creator, **options)
    _retire_at_checkout(made.sync_engine, credentials, made_with)
    return made


def _credentials(endpoint: Endpoint) -> Credentials | None:
    return None if endpoint.originate else Credentials(endpoint)


def _defaults(endpoint: Endpoint) -> dict[str, str]:
    """What a caller may set otherwise."""
    return {"application_name": endpoint.service}


def _psycopg(endpoint: Endpoint, credentials: Credentials | None) -> dict[str, Any]:
    """For one connect now: libpq reads the files one by one, so no link may stand in between."""
    return dict(_libpq(endpoint, str(credentials.current().directory) if credentials else ""))


def _libpq(endpoint: Endpoint, directory: str) -> dict[str, str]:
    """Everything that says where to, who we are and whom to trust, whatever PG… variables say."""
    where = {
        "host": endpoint.host,
        "hostaddr": endpoint.address,
        "port": str(endpoint.port),
        "dbname": endpoint.parameter("database"),
        "user": endpoint.parameter("user"),
        "gssencmode": "disable",
    }
    if endpoint.originate:
        return where | {"sslmode": "disable"}
    return where | {
        "sslmode": "verify-full",
        "sslrootcert": f"{directory}/bundle.pem",
        "sslcert": f"{directory}/certificate.pem",
        "sslkey": f"{directory}/private_key.pem",
        "ssl_min_protocol_version": "TLSv1.3",
    }


def _asyncpg(endpoint: Endpoint, credentials: Credentials | None) -> dict[str, Any]:
    return {
        "host": endpoint.address,
        "port": endpoint.port,
        "database": endpoint.parameter("database"),
        "user": endpoint.parameter("user"),
        "ssl": RotatingContext(credentials, endpoint.host) if credentials else False,
    }


def _now(credentials: Credentials | None) -> CredentialSet | None:
    return None if credentials is None else credentials.current()


def _retire_at_checkout(
    made: "Engine", credentials: Credentials | None, made_with: _MadeWith
) -> None:
    """Has the engine replace a connection that was made with an older SVID, when it is next taken.

    ``made_with`` says what there was *before* each connect: files may change while it lasts, and
    a connection that is taken for newer than it is would stay until they change again. One that
    was made for this very checkout serves it: an engine tries twice, and then gives up.
    """
    if credentials is None:
        return
    from sqlalchemy import event  # noqa: PLC0415
    from sqlalchemy.exc import DisconnectionError  # noqa: PLC0415

    def retire(_connection: object, record: Any, _proxy: object) -> None:
        if KIND not in record.info:
            record.info[KIND] = made_with[record.driver_connection]
        elif record.info[KIND] is not credentials.current():
            raise DisconnectionError("The service has a newer SVID.")

    event.listen(made, "checkout", retire)


DRIVERS = {"psycopg": pool, "asyncpg": asyncpg_pool}
"""Who opens a channel, by driver; the first is the one that is taken."""
