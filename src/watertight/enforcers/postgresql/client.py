"""What a service must know to reach its database, in the words of each ecosystem. Pure."""

from urllib.parse import quote, urlencode

from watertight.enforcers.postgresql.declaration import declared
from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    Client,
    ClientSettings,
)
from watertight.model.system import Channel, System


def client_settings(system: System, channel: Channel, client: Client) -> ClientSettings:
    """The settings of one service for one database."""
    database = declared(system.resources[channel.target]).database
    parameters = {"database": database, "user": channel.source}
    where = {
        "PGHOST": client.host,
        "PGHOSTADDR": client.address,
        "PGPORT": str(client.port),
        "PGDATABASE": database,
        "PGUSER": channel.source,
    }
    tls = {"sslmode": "disable"} if client.originate else _tls(client)
    environment = {
        **where,
        **{f"PG{key.replace('_', '').upper()}": value for key, value in tls.items()},
        "PGGSSENCMODE": "disable",
        f"{channel.target.replace('-', '_').upper()}_URL": _url(parameters, client, tls),
    }
    name = f"{channel.target}.jdbc.properties"
    return ClientSettings(parameters, environment, {name: _jdbc(parameters, client)})


def _tls(client: Client) -> dict[str, str]:
    """libpq's own words; it opens the files anew for each connection, so rotation needs nothing."""
    return {
        "sslmode": "verify-full",
        "sslcert": str(client.credentials / CERTIFICATE),
        "sslkey": str(client.credentials / PRIVATE_KEY),
        "sslrootcert": str(client.credentials / BUNDLE),
        "ssl_min_protocol_version": "TLSv1.3",
    }


def _url(parameters: dict[str, str], client: Client, tls: dict[str, str]) -> str:
    """A connection URI that libpq, asyncpg and SQLAlchemy read alike (manual, section 34.1.1)."""
    user, database = quote(parameters["user"], safe=""), quote(parameters["database"], safe="")
    query = urlencode(tls, safe="/")
    return f"postgresql://{user}@{client.host}:{client.port}/{database}?{query}"


def _jdbc(parameters: dict[str, str], client: Client) -> str:
    """The driver's properties; it reads PEM keys, and must be told that ours are elliptic."""
    properties = {
        "url": f"jdbc:postgresql://{client.host}:{client.port}/{parameters['database']}",
        "user": parameters["user"],
        "gssEncMode": "disable",
    }
    if client.originate:
        properties["sslmode"] = "disable"
    else:
        tls = _tls(client)
        properties |= {key: tls[key] for key in ("sslmode", "sslcert", "sslkey", "sslrootcert")}
        properties["pemKeyAlgorithm"] = "EC"
    lines = (f"{key}={_escaped(value)}" for key, value in properties.items())
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    """As java.util.Properties reads it."""
    return "".join("\\" + c if c in "\\:=#!" else c for c in value)
