"""A shop's sensors and doors on one broker: who writes, who reads."""

SHOP = """
trust_domain: shop.internal
services:
  sensors: {}
  panel: {}
  doors: {}
  lobby: {}
  stranger: {}
resources:
  field:
    kind: mosquitto
    port: {port}
    max_message_size: 64KiB
channels:
  - {from: sensors, to: field, write: [sensors/+/celsius, alarms], read: [settings/sensors]}
  - {from: panel, to: field, read: ["sensors/#", alarms], write: ["settings/#"]}
  - {from: doors, to: field, read: [alarms, settings/doors]}
  - {from: lobby, to: field}
"""
"""``lobby`` is granted nothing, ``stranger`` has no channel."""
