"""What a client of the broker of clicks must be told, from a service's environment."""

import os
import ssl

from aiokafka.helpers import create_ssl_context


def settings() -> dict[str, object]:
    """For a producer or consumer of aiokafka."""
    context = create_ssl_context(
        cafile=os.environ["CLICKS_CA"],
        certfile=os.environ["CLICKS_CERT"],
        keyfile=os.environ["CLICKS_KEY"],
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    servers = os.environ["CLICKS_BOOTSTRAP_SERVERS"]
    return {"bootstrap_servers": servers, "security_protocol": "SSL", "ssl_context": context}
