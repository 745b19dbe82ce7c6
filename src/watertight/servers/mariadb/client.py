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
from watertight.servers.mariadb.declaration import declared


def client_settings(system: System, channel: Channel, client: Client) -> ClientSettings:
    """In parts, which every driver takes; and as a URL that SQLAlchemy reads with PyMySQL."""
    database = declared(system.resources[channel.target]).database
    stem = channel.target.replace("-", "_").upper()
    papers = {
        "ssl_ca": str(client.credentials / BUNDLE),
        "ssl_cert": str(client.credentials / CERTIFICATE),
        "ssl_key": str(client.credentials / PRIVATE_KEY),
    }
    query = urlencode({**papers, "ssl_check_hostname": "true"}, safe="/")
    user, name = quote(channel.source, safe=""), quote(database, safe="")
    options = {"host": client.host, "port": str(client.port), "user": channel.source}
    options |= {"database": database, **{k.replace("_", "-"): v for k, v in papers.items()}}
    lines = [f"{key}={value}" for key, value in options.items()]
    return ClientSettings(
        {"database": database, "user": channel.source},
        {
            f"{stem}_URL": f"mysql+pymysql://{user}@{client.host}:{client.port}/{name}?{query}",
            f"{stem}_HOST": client.host,
            f"{stem}_PORT": str(client.port),
            f"{stem}_DATABASE": database,
            f"{stem}_USER": channel.source,
            f"{stem}_CA": papers["ssl_ca"],
            f"{stem}_CERT": papers["ssl_cert"],
            f"{stem}_KEY": papers["ssl_key"],
        },
        # For --defaults-extra-file of the command line, and read_default_file of the C client.
        {f"{channel.target}.my.cnf": "\n".join(["[client]", *lines, "ssl-verify-server-cert", ""])},
    )
