"""Opening a channel: the right driver for its kind, imported only now, and a patient first try."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from ssl import SSLCertVerificationError
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from watertight.sdk.endpoints import Endpoint, find
from watertight.sdk.errors import ChannelError, ChannelUnavailable, DriverMissing, WrongKind

if TYPE_CHECKING:
    import asyncpg
    from aio_pika.abc import AbstractRobustConnection
    from aiomqtt import Client as MQTTClient
    from nats.aio.client import Client
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    from watertight.sdk.kafka import Clients
    from watertight.sdk.mariadb import Database
    from watertight.sdk.rotation import RotatingContext

OPEN_SECONDS = 15.0
"""How long a server may take to be there: it may be starting, or restarting, as we are."""
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

T = TypeVar("T")
Opener: TypeAlias = Callable[..., AbstractAsyncContextManager[Any]]
"""Takes the channel's name and the driver's options."""


@overload
def channel(
    name: str, /, *, driver: Literal["psycopg"], **options: Any
) -> "AbstractAsyncContextManager[AsyncConnectionPool[AsyncConnection]]": ...
@overload
def channel(
    name: str, /, *, driver: Literal["asyncpg"], **options: Any
) -> "AbstractAsyncContextManager[asyncpg.Pool]": ...
@overload
def channel(
    name: str, /, *, driver: Literal["nats-py"], **options: Any
) -> "AbstractAsyncContextManager[Client]": ...
@overload
def channel(
    name: str, /, *, driver: Literal["aio-pika"], **options: Any
) -> "AbstractAsyncContextManager[AbstractRobustConnection]": ...
@overload
def channel(
    name: str, /, *, driver: Literal["aiokafka"], **options: Any
) -> "AbstractAsyncContextManager[Clients]": ...
@overload
def channel(
    name: str, /, *, driver: Literal["pymysql"], **options: Any
) -> "AbstractAsyncContextManager[Database]": ...
@overload
def channel(
    name: str, /, *, driver: Literal["aiomqtt"], **options: Any
) -> "AbstractAsyncContextManager[MQTTClient]": ...
@overload
def channel(
    name: str, /, *, driver: str | None = None, **options: Any
) -> AbstractAsyncContextManager[Any]: ...
def channel(
    name: str, /, *, driver: str | None = None, **options: Any
) -> AbstractAsyncContextManager[Any]:
    """The channel to the resource ``name``, open while the block runs.

        async with watertight.channel("orders-db") as pool: ...

    What it gives depends on the resource's kind, and on ``driver`` where there is a choice
    (``DRIVERS`` of ``watertight.sdk.KIND``; the first is the one that is taken):

    ============== ============ ===============================================
    kind           driver       gives
    ============== ============ ===============================================
    ``postgresql`` ``psycopg``  ``psycopg_pool.AsyncConnectionPool`` (default)
    ``postgresql`` ``asyncpg``  ``asyncpg.Pool``
    ``nats``       ``nats-py``  ``nats.aio.client.Client``
    ``rabbitmq``   ``aio-pika`` ``aio_pika.abc.AbstractRobustConnection``
    ``kafka``      ``aiokafka`` ``watertight.sdk.kafka.Clients``
    ``mariadb``    ``pymysql``  ``watertight.sdk.mariadb.Database``
    ``mosquitto``  ``aiomqtt``  ``aiomqtt.Client``
    ============== ============ ===============================================

    ``options`` go to the driver; whom it trusts and who it is are not among them. Raises
    :class:`~watertight.sdk.ChannelError` in its many forms; entering the block raises
    :class:`~watertight.sdk.ChannelUnavailable` if the server is not there, or is another.
    """
    endpoint = find(name)
    drivers = _drivers(endpoint.kind)
    if not drivers:
        raise WrongKind(
            f"The channel {name} leads to a server of kind {endpoint.kind}, for which there is "
            "no client here.",
            remedy="`watertight.sdk.tls_context` and the credential files serve other drivers.",
        )
    chosen = driver or next(iter(drivers))
    if chosen not in drivers:
        raise WrongKind(
            f"{chosen} is not a driver for the channel {name}, of kind {endpoint.kind}.",
            remedy=f"There is {' and '.join(drivers)}.",
        )
    return drivers[chosen](name, **options)


def _drivers(kind: str) -> Mapping[str, Opener]:
    """Who opens a channel to a server of this kind, by driver: what the module of its name says."""
    name = f"{__package__}.{kind}"
    if not kind.isidentifier() or find_spec(name) is None:
        return {}
    module = import_module(name)
    drivers: Mapping[str, Opener] = getattr(module, "DRIVERS", {})
    return drivers if getattr(module, "KIND", None) == kind else {}


def tls_context(name: str) -> "RotatingContext":
    """The TLS context of a channel, for a driver that takes an ``ssl.SSLContext``.

    It presents this service's SVID as it is at each handshake, and accepts only that server; which
    host name the driver asks for does not matter. ``find`` has the address to connect to. Raises
    ChannelError, also where the channel is in the clear on our side (``originate``).
    """
    from watertight.sdk.credentials import Credentials  # noqa: PLC0415
    from watertight.sdk.rotation import RotatingContext  # noqa: PLC0415

    endpoint = find(name)
    if endpoint.originate:
        raise ChannelError(
            f"The service's proxy speaks mTLS for the channel {name}: there is no TLS to set up.",
            remedy=f"Connect to {endpoint.address}:{endpoint.port} in the clear.",
        )
    return RotatingContext(Credentials(endpoint), endpoint.host)


@contextmanager
def driver_of(endpoint: Endpoint) -> Iterator[None]:
    """Around the import of drivers. Raises :class:`DriverMissing` where one is not installed."""
    try:
        yield
    except ImportError as error:
        raise DriverMissing(
            f"The channel {endpoint.name} needs a Python package that is not installed ({error}).",
            remedy=f"`pip install 'watertight-channels[{endpoint.kind}]'` installs it.",
        ) from error


async def persistently(
    endpoint: Endpoint,
    attempt: Callable[[], Awaitable[T]],
    failures: tuple[type[Exception], ...],
    timeout_seconds: float,
) -> T:
    """Awaits ``attempt``, again and again while it raises one of ``failures``, but not for ever.

    A server that is somebody else is not tried again. Raises :class:`ChannelUnavailable`.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    last: Exception | None = None
    caught: tuple[type[Exception], ...] = (*failures, OSError)  # a TimeoutError is an OSError
    while True:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                return await attempt()
        except caught as error:
            left = deadline - time.monotonic() - pause
            last = last if isinstance(error, TimeoutError) and last else error
            if left <= 0 or _is_final(error):
                raise unavailable(endpoint, last) from last
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def unavailable(endpoint: Endpoint, cause: Exception) -> ChannelUnavailable:
    """The error for a server that is not there, or not as it should be."""
    reason = str(cause) or type(cause).__name__
    return ChannelUnavailable(
        f"The channel {endpoint.name} cannot be opened: {reason}",
        remedy="`watertight status` says whether the server runs, and `watertight verify` whether "
        "the channel works.",
    )


def _is_final(error: BaseException) -> bool:
    """Whether another try can only end in the same way: the certificate is not the server's."""
    cause: BaseException | None = error
    seen: set[int] = set()  # drivers raise errors that are their own cause, round some corners
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, SSLCertVerificationError):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False
