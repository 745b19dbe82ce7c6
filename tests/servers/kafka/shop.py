"""A shop's events on one broker: who publishes, who reads, who does both in transactions."""

SHOP = """
trust_domain: shop.internal
services:
  orders: {}
  orders-eu: {}
  billing: {}
  mailer: {}
  lobby: {}
  stranger: {}
resources:
  events:
    kind: kafka
    port: {port}
    topics:
      orders.placed: {partitions: 2, retention: 1h, retention_size: 64MiB}
      invoices: {retention: 30d, max_message_size: 2MiB}
      customers: {compacted: true}
channels:
  - {from: orders, to: events, publish: [orders.placed], consume: [customers]}
  - {from: orders-eu, to: events, publish: [orders.placed]}
  - from: billing
    to: events
    consume: [orders.placed]
    publish: [invoices]
    transactions: true
    publish_rate: 8MiB
  - {from: mailer, to: events, consume: [invoices]}
  - {from: lobby, to: events, connections: 24}
"""
"""``lobby`` is granted nothing, ``stranger`` has no channel; two names begin alike."""
