"""What a client of a MongoDB server must be told. Pure."""

from watertight.enforcers.resource import BUNDLE, COMBINED, Client, ClientSettings
from watertight.model.system import Channel, System
from watertight.servers.mongodb.declaration import declared

X509 = "MONGODB-X509"


def client_settings(system: System, channel: Channel, client: Client) -> ClientSettings:
    """``…_URL`` is all that the drivers of Python, Node and Go need: they read both files.

    Java's driver takes the URL without its files, and ``…_CA`` and ``…_PEM`` in code. One of ours
    knows who comes by his certificate alone; a mongod that others run is asked to.
    """
    resource = system.resources[channel.target]
    database = declared(resource).database
    variable = channel.target.upper().replace("-", "_")
    roots, own = client.credentials / BUNDLE, client.credentials / COMBINED
    options = {
        "tls": "true",
        "tlsCAFile": str(roots),
        "tlsCertificateKeyFile": str(own),
        "directConnection": "true",
        # Neither of the two tries a write again that a driver would.
        "retryWrites": "false",
    }
    if resource.external:
        options |= {"authMechanism": X509, "authSource": "$external"}
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return ClientSettings(
        {"database": database, **({"mechanism": X509} if resource.external else {})},
        {
            f"{variable}_URL": f"mongodb://{client.host}:{client.port}/{database}?{query}",
            f"{variable}_HOST": client.host,
            f"{variable}_PORT": str(client.port),
            f"{variable}_DATABASE": database,
            f"{variable}_CA": str(roots),
            f"{variable}_PEM": str(own),
        },
    )
