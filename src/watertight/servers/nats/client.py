"""What a client of a NATS server must be told. Pure."""

from collections.abc import Mapping

from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    Client,
    ClientSettings,
)
from watertight.model.system import Channel, System
from watertight.servers.nats.declaration import grants, server


def client_settings(system: System, channel: Channel, client: Client) -> ClientSettings:
    """For ``watertight.sdk``, and in the variables of the command ``nats``.

    ``NATS_INBOX_PREFIX`` is for programs that hand it to their client.

    ``consumers`` names the durable consumer of each stream: ``ORDERS=mailer AUDIT=mailer``.
    """
    wanted = server(system.resources[channel.target])
    prefix = f"_INBOX.{channel.source}"
    parameters: Mapping[str, str] = {
        "user": system.spiffe_id(channel.source),
        "inbox_prefix": prefix,
        "tls_first": "true" if wanted.tls_first else "false",
        "consumers": " ".join(f"{name}={channel.source}" for name in grants(channel).consume),
    }
    url = f"tls://{client.host}:{client.port}"
    variable = channel.target.upper().replace("-", "_")
    return ClientSettings(
        parameters,
        {
            f"{variable}_URL": url,
            "NATS_URL": url,
            "NATS_CERT": str(client.credentials / CERTIFICATE),
            "NATS_KEY": str(client.credentials / PRIVATE_KEY),
            "NATS_CA": str(client.credentials / BUNDLE),
            "NATS_INBOX_PREFIX": prefix,
        },
    )
