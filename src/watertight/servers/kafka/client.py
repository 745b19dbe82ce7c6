"""What a client of a Kafka broker must be told. Pure."""

from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    COMBINED,
    PRIVATE_KEY,
    Client,
    ClientSettings,
)
from watertight.model.system import Channel, System


def client_settings(system: System, channel: Channel, client: Client) -> ClientSettings:  # noqa: ARG001
    """For ``watertight.sdk``; in parts; and as files of properties.

    ``…_CONFIG`` is for librdkafka (confluent-kafka of Python, Node, Go and .NET), ``…_PROPERTIES``
    for Java's own client; kafkajs, franz-go and kafka-python take the parts in code.
    """
    variable = channel.target.upper().replace("-", "_")
    servers = f"{client.host}:{client.port}"
    own = client.credentials
    group = channel.source
    native = {
        "bootstrap.servers": servers,
        "security.protocol": "SSL",
        "group.id": group,
        "ssl.endpoint.identification.algorithm": "https",
    }
    librdkafka = native | {
        "ssl.ca.location": str(own / BUNDLE),
        "ssl.certificate.location": str(own / CERTIFICATE),
        "ssl.key.location": str(own / PRIVATE_KEY),
        "allow.auto.create.topics": "false",
    }
    java = native | {
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(own / BUNDLE),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(own / COMBINED),
        "ssl.enabled.protocols": "TLSv1.3",
        "allow.auto.create.topics": "false",
    }
    files = {
        f"{channel.target}.librdkafka.conf": librdkafka,
        f"{channel.target}.properties": java,
    }
    return ClientSettings(
        {"group": group},
        {
            f"{variable}_BOOTSTRAP_SERVERS": servers,
            f"{variable}_GROUP": group,
            f"{variable}_CA": str(own / BUNDLE),
            f"{variable}_CERT": str(own / CERTIFICATE),
            f"{variable}_KEY": str(own / PRIVATE_KEY),
        },
        {
            name: "".join(f"{key}={value}\n" for key, value in settings.items())
            for name, settings in files.items()
        },
    )
