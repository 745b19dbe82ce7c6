"""The shelves' keeper: reads what lies on each."""

from typing import Any

import paho.mqtt.client as mqtt
from broker import connected


def weighed(_client: mqtt.Client, _nothing: Any, message: mqtt.MQTTMessage) -> None:
    """What a scale told."""
    print(f"keeper: {message.topic} {message.payload.decode()}", flush=True)


def subscribe(client: mqtt.Client, *_: Any) -> None:
    """After each connect: the broker may have been started again."""
    client.subscribe("shelves/#", qos=1)


client = connected()
client.on_connect = subscribe
client.on_message = weighed
client.loop_forever()
