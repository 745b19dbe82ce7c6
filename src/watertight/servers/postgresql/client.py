"""What a service must know to reach its database, in the words of each ecosystem. Pure."""

from urllib.parse import quote, urlencode

from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    Client,
    ClientSettings,
)
from watertight.model.system import Channel, System
from watertight.servers.postgresql.declaration import declared

PRIVATE_KEY_DER = "private_key.der"
"""PKCS #8, which is what stands beside the PEM."""


def client_settings(system: System, channel: Channel, client: Client) -> ClientSettings:
    """The settings of one service for one database."""
    database = declared(system.resources[channel.target]).database
    parameters = {"database": database, "user": channel.source}
    where = {
        "PGHOST": client.host,
        # lib/pq up to 1.10 does not start when it sees this one.
        **({} if client.named else {"PGHOSTADDR": client.address}),
        "PGPORT": str(client.port),
        "PGDATABASE": database,
        "PGUSER": channel.source,
    }
    tls = {"sslmode": "disable"} if client.originate else _tls(client)
    jdbc = _jdbc(parameters, client)
    stem = channel.target.replace("-", "_").upper()
    environment = {
        **where,
        **{f"PG{key.upper()}": value for key, value in tls.items()},
        **({} if client.originate else {"PGSSLMINPROTOCOLVERSION": "TLSv1.3"}),
        f"{stem}_URL": _url(parameters, client, tls),
        f"{stem}_JDBC_URL": _jdbc_url(jdbc),
    }
    name = f"{channel.target}.jdbc.properties"
    return ClientSettings(parameters, environment, {name: _properties(jdbc)})


def _tls(client: Client) -> dict[str, str]:
    """libpq's own words; it opens the files anew for each connection, so rotation needs nothing.

    No more than these: of what else libpq knows, pgx takes each for a setting of the server, and
    lib/pq refuses to start. (The server takes nothing below TLS 1.3, and no GSS encryption.)
    """
    return {
        "sslmode": "verify-full",
        "sslcert": str(client.credentials / CERTIFICATE),
        "sslkey": str(client.credentials / PRIVATE_KEY),
        "sslrootcert": str(client.credentials / BUNDLE),
    }


def _url(parameters: dict[str, str], client: Client, tls: dict[str, str]) -> str:
    """A connection URI that libpq, asyncpg, SQLAlchemy, pgx, lib/pq and node-postgres read alike
    (manual, section 34.1.1)."""
    user, database = quote(parameters["user"], safe=""), quote(parameters["database"], safe="")
    query = urlencode(tls, safe="/")
    return f"postgresql://{user}@{client.host}:{client.port}/{database}?{query}"


def _jdbc(parameters: dict[str, str], client: Client) -> dict[str, str]:
    """The driver's properties. Every version of it reads a key as DER, and only new ones as PEM."""
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
        properties["sslkey"] = str(client.credentials / PRIVATE_KEY_DER)
    return properties


def _jdbc_url(properties: dict[str, str]) -> str:
    url, *rest = properties.items()
    return f"{url[1]}?{urlencode(rest, safe='/')}"


def _properties(properties: dict[str, str]) -> str:
    lines = (f"{key}={_escaped(value)}" for key, value in properties.items())
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    """As java.util.Properties reads it."""
    return "".join("\\" + c if c in "\\:=#!" else c for c in value)
