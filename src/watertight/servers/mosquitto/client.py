"""What a client of a Mosquitto broker must be told, and an administrator. Pure."""

import json
from collections.abc import Mapping

from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    Client,
    ClientSettings,
)
from watertight.model.system import Channel, Resource, System
from watertight.servers.mosquitto.compile import (
    CONFIGURATION,
    NO_RESUMPTION,
    OPENSSL,
    SECURITY,
    grants_of,
    settings,
)

DIRECTORY = "/etc/mosquitto"


def client_settings(channel: Channel, client: Client) -> ClientSettings:
    """``…_URL`` is read by MQTT.js and Eclipse Paho (Go, Java); the paths go to their TLS options.

    The client id is the service's name, whatever the client says.
    """
    variable = channel.target.upper().replace("-", "_")
    scheme = "mqtt" if client.originate else "mqtts"
    told = {
        f"{variable}_URL": f"{scheme}://{client.host}:{client.port}",
        f"{variable}_HOST": client.host,
        f"{variable}_PORT": str(client.port),
        f"{variable}_CLIENT_ID": channel.source,
    }
    if not client.originate:
        told |= {
            f"{variable}_CA": str(client.credentials / BUNDLE),
            f"{variable}_CERT": str(client.credentials / CERTIFICATE),
            f"{variable}_KEY": str(client.credentials / PRIVATE_KEY),
        }
    return ClientSettings({"client_id": channel.source}, told)


def render(system: System, resource: Resource) -> Mapping[str, str]:
    """For a broker that others run: configuration, who may do what, and OpenSSL's own settings.

    Mosquitto reads the last by the variable ``OPENSSL_CONF``. Its operator is whoever has a
    certificate with the resource's name.
    """
    tls = f"{DIRECTORY}/tls"
    papers = (f"{tls}/{BUNDLE}", f"{tls}/{CERTIFICATE}", f"{tls}/{PRIVATE_KEY}")
    return {
        CONFIGURATION: settings(resource, str(resource.port), papers, f"{DIRECTORY}/{SECURITY}"),
        SECURITY: json.dumps(grants_of(system, resource).security, indent=1) + "\n",
        OPENSSL: NO_RESUMPTION,
    }
