"""A shop's jobs on one broker: who publishes, who sends, who reads."""

SHOP = """
trust_domain: shop.internal
services:
  orders: {}
  billing: {}
  packer: {}
  lobby: {}
  clerk: {}
  stranger: {}
resources:
  jobs:
    kind: rabbitmq
    port: {port}
    queues: [invoices, parcels, audit]
    exchanges: {events: topic, news: fanout, desk: direct}
    bindings:
      - {queue: invoices, exchange: events, keys: [orders.placed]}
      - {queue: audit, exchange: events, keys: ["#"]}
      - {queue: audit, exchange: news}
      - {queue: parcels, exchange: desk, keys: [parcels]}
channels:
  - {from: orders, to: jobs, publish: {events: [orders.placed, "orders.*.eu"]}, send: [parcels]}
  - {from: billing, to: jobs, consume: [invoices], publish: {events: ["billing.#"], desk: any}}
  - {from: packer, to: jobs, consume: [parcels]}
  - {from: lobby, to: jobs, connections: 24, channels: 30}
  - {from: clerk, to: jobs, consume: [invoices]}
"""
"""``lobby`` is granted nothing, ``stranger`` has no channel."""
