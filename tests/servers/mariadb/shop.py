"""A shop's database: who reads and writes which tables."""

SHOP = """
trust_domain: shop.internal
services:
  orders: {}
  billing: {}
  lobby: {}
  stranger: {}
resources:
  store: {kind: mariadb, port: {port}, database: shop, schema: schema.sql}
channels:
  - from: orders
    to: store
    tables: {orders: [select, insert, update, delete], open_orders: [select]}
  - from: billing
    to: store
    tables: {totals: [select], orders: {update: [total]}, bills: [select, insert]}
  - {from: lobby, to: store, connections: 12}
"""
"""``lobby`` is granted nothing, ``stranger`` has no channel."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (id INT PRIMARY KEY, total INT, note TEXT);
CREATE TABLE IF NOT EXISTS bills (id INT PRIMARY KEY);
CREATE OR REPLACE VIEW open_orders AS SELECT id FROM orders;
CREATE OR REPLACE VIEW totals AS SELECT id, total FROM orders;
CREATE TRIGGER IF NOT EXISTS first BEFORE INSERT ON orders FOR EACH ROW
SET NEW.note = TRIM(NEW.note);
"""
FILES = {"schema.sql": SCHEMA}
