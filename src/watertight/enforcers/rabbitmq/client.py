"""What a client of a RabbitMQ broker must be told. Pure."""

from urllib.parse import quote, urlencode

from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    Client,
    ClientSettings,
)
from watertight.model.system import Channel, System


def client_settings(system: System, channel: Channel, client: Client) -> ClientSettings:
    """For ``watertight.sdk``, and as a URI (rabbitmq.com/docs/uri-query-parameters)."""
    host = quote(channel.target, safe="")
    variable = f"{channel.target.upper().replace('-', '_')}_URL"
    parameters = {"virtual_host": channel.target, "user": system.spiffe_id(channel.source)}
    if client.originate:
        url = f"amqp://{client.host}:{client.port}/{host}?auth_mechanism=external"
        return ClientSettings(parameters, {variable: url})
    query = urlencode(
        {
            "auth_mechanism": "external",
            "cacertfile": client.credentials / BUNDLE,
            "certfile": client.credentials / CERTIFICATE,
            "keyfile": client.credentials / PRIVATE_KEY,
            "verify": "verify_peer",
            "server_name_indication": client.host,
        },
        safe="/",
    )
    return ClientSettings(
        parameters, {variable: f"amqps://{client.host}:{client.port}/{host}?{query}"}
    )
