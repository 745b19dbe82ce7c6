"""A shop's events on one NATS server: who publishes, who subscribes, who reads a stream."""

SHOP = """
trust_domain: shop.internal
services:
  orders: {}
  mailer: {}
  prices: {}
  lobby: {}
  stranger: {}
resources:
  events:
    kind: nats
    port: {port}
    streams:
      ORDERS: [orders.>]
      AUDIT: {subjects: [audit.*], max_size: 64MiB, max_age: 7d}
channels:
  - from: orders
    to: events
    publish: [orders.placed, audit.orders, price.ask]
    subscribe: [price.changed]
  - {from: mailer, to: events, subscribe: [mail.>], consume: [ORDERS]}
  - from: prices
    to: events
    publish: [price.changed]
    subscribe: [price.ask]
    reply: true
    consume: [AUDIT]
  - {from: lobby, to: events}
"""
"""``lobby`` is granted nothing, ``stranger`` has no channel."""

OLD_SHOP = SHOP.replace("kind: nats", "kind: nats\n    minimum_tls: 1.2")
"""The same for a server that cannot be held to TLS 1.3."""
