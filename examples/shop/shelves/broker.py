"""A client of the broker of shelves, from what stands in a service's environment."""

import os

import paho.mqtt.client as mqtt


def connected() -> mqtt.Client:
    """It connects again by itself, with the files as they are then."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.tls_set(os.environ["FIELD_CA"], os.environ["FIELD_CERT"], os.environ["FIELD_KEY"])
    client.connect(os.environ["FIELD_HOST"], int(os.environ["FIELD_PORT"]))
    return client
