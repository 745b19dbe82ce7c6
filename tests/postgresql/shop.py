"""The declaration under test: three services at one database, and one that may not come near."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL,
    note text
);
CREATE TABLE IF NOT EXISTS customers (id serial PRIMARY KEY, name text NOT NULL, secret text);
CREATE SCHEMA IF NOT EXISTS sales;
CREATE OR REPLACE VIEW sales.totals AS SELECT customer, count(*) AS orders FROM orders GROUP BY 1;
CREATE SEQUENCE IF NOT EXISTS tickets;
CREATE OR REPLACE FUNCTION greet(name text) RETURNS text LANGUAGE sql STRICT IMMUTABLE
    AS $$ SELECT 'hello ' || name $$;
CREATE OR REPLACE FUNCTION place(customer bigint) RETURNS bigint LANGUAGE sql
    AS $$ INSERT INTO orders (customer) VALUES (customer) RETURNING id $$;
"""

SHOP = """
trust_domain: shop.internal
services:
  orders: {}
  billing: {}
  migrator: {}
  lonely: {}
resources:
  orders-db:
    {kind: postgresql, port: {port}, database: orders, schema: db/schema.sql, extensions: [citext]}
channels:
  - from: orders
    to: orders-db
    tables: {orders: [select, insert, update], customers: {select: [id, name], update: [name]}}
    sequences: {tickets: [usage]}
    functions: {greet: [execute]}
  - from: billing
    to: orders-db
    tables: {sales.totals: [select], customers: [select, insert, update, delete, truncate]}
    sequences: {tickets: [select, update]}
    functions: {place: [execute]}
  - {from: migrator, to: orders-db, schemas: {stock: [create, usage]}}
"""
