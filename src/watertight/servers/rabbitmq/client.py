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
    """For ``watertight.sdk``; as a URI; and in parts, for clients that refuse a URI's parameters.

    ``…_URL`` is read by RabbitMQ's own clients (rabbitmq.com/docs/uri-query-parameters) and, for
    its ``auth`` and ``cafile``, by aio-pika. pika and amqplib take ``…_AMQP_URL``, and in code the
    three files and the mechanism EXTERNAL.
    """
    host = quote(channel.target, safe="")
    variable = channel.target.upper().replace("-", "_")
    parameters = {"virtual_host": channel.target, "user": system.spiffe_id(channel.source)}
    scheme = "amqp" if client.originate else "amqps"
    plain = f"{scheme}://{client.host}:{client.port}/{host}"
    query = {"auth_mechanism": "external", "auth": "external"}
    files: dict[str, str] = {}
    if not client.originate:
        files = {
            "CA": str(client.credentials / BUNDLE),
            "CERT": str(client.credentials / CERTIFICATE),
            "KEY": str(client.credentials / PRIVATE_KEY),
        }
        query |= {
            "cacertfile": files["CA"],
            "cafile": files["CA"],
            "certfile": files["CERT"],
            "keyfile": files["KEY"],
            "verify": "verify_peer",
            "server_name_indication": client.host,
        }
    return ClientSettings(
        parameters,
        {
            f"{variable}_URL": f"{plain}?{urlencode(query, safe='/')}",
            f"{variable}_AMQP_URL": plain,
            **{f"{variable}_{name}": path for name, path in files.items()},
        },
    )
