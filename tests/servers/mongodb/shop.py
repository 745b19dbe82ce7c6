"""A shop's orders and bills in one database: who finds and changes what."""

SHOP = """
trust_domain: shop.internal
services:
  orders: {}
  billing: {}
  lobby: {}
  stranger: {}
resources:
  store: {kind: mongodb, port: {port}, database: shop, collections: [orders, bills, audit.log]}
channels:
  - from: orders
    to: store
    collections: {orders: [find, insert, update, remove, index], audit.log: [insert]}
  - from: billing
    to: store
    collections: {orders: [find], bills: [find, insert, update]}
  - {from: lobby, to: store}
"""
"""``lobby`` is granted nothing, ``stranger`` has no channel."""
