"""Messages by librdkafka: sent with what the environment says, and heard with what its file says.

    python confluent.py send TEXT…
    python confluent.py hear TEXT…

Handed to ``python -c`` as text, so it imports nothing of the tests.
"""

import os
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer

SECONDS = 30.0


def send(*texts: str) -> None:
    """Prints what came of each; None: it was acknowledged."""
    told = {
        "bootstrap.servers": os.environ["EVENTS_BOOTSTRAP_SERVERS"],
        "security.protocol": "ssl",
        "ssl.ca.location": os.environ["EVENTS_CA"],
        "ssl.certificate.location": os.environ["EVENTS_CERT"],
        "ssl.key.location": os.environ["EVENTS_KEY"],
    }
    ends: list[object] = []
    producer = Producer(told)
    for text in texts:
        producer.produce("invoices", text, on_delivery=lambda error, _: ends.append(error))
    producer.flush(SECONDS)
    print("sent", *ends)


def hear(*texts: str) -> None:
    """Prints what was not heard."""
    file = Path(os.environ["WATERTIGHT_CHANNELS"]).with_name("events.librdkafka.conf")
    written = dict(line.split("=", 1) for line in file.read_text().splitlines())
    consumer = Consumer({**written, "auto.offset.reset": "earliest"})
    consumer.subscribe(["invoices"])
    missing, deadline = set(texts), time.monotonic() + SECONDS
    while missing and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is not None and not message.error():
            missing.discard((message.value() or b"").decode())
    consumer.close()
    print("missing", *missing)


{"send": send, "hear": hear}[sys.argv[1]](*sys.argv[2:])
