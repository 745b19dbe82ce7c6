"""nats-py as the SDK uses it: strict TLS with the service's own SVID, its inbox, its consumer."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client as NATSClient
from nats.errors import SecureConnRequiredError

from tests.rig import Rig
from watertight.enforcers.resource import Client


class StrictNATS(NATSClient):
    """The stock client goes on in the clear where the server does not ask for TLS."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if not info.get("tls_required"):
            raise SecureConnRequiredError
        await super()._process_info(info, initial_connection)


@dataclass
class Session:
    """A client that is connected, and the errors that the server told it."""

    nats: NATSClient
    settings: dict[str, str]
    errors: list[str] = field(default_factory=list)


async def flushed(*sessions: Session) -> None:
    """Until the server has done all that each has asked.

    nats-py 2.16 sends a PING past what it still holds back: the second comes behind it.
    """
    for session in (*sessions, *sessions):
        await session.nats.flush()


@asynccontextmanager
async def connected(rig: Rig, service: str, **options: Any) -> AsyncIterator[Session]:
    """A session of ``service``, exactly as its settings say."""
    channel = rig.system.channel(service, rig.resource)
    assert channel is not None
    credentials = rig.host.placement.credentials(service).resolve()
    place = Client(rig.resource, "127.0.0.1", rig.host.port, credentials)
    told = dict(rig.enforcer.client(rig.system, channel, place).parameters)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(credentials / "bundle.pem")
    context.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")
    session = Session(StrictNATS(), told)

    async def note(error: Exception) -> None:
        session.errors.append(str(error))

    await session.nats.connect(
        f"tls://127.0.0.1:{rig.host.port}",
        tls=context,
        tls_hostname=rig.resource,
        tls_handshake_first=told["tls_first"] == "true",
        inbox_prefix=told["inbox_prefix"].encode(),
        error_cb=note,
        **{"allow_reconnect": False, "connect_timeout": 5, **options},
    )
    try:
        yield session
    finally:
        await session.nats.close()
