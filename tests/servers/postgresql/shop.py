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
CREATE OR REPLACE FUNCTION tally(VARIADIC numbers int[]) RETURNS bigint LANGUAGE sql
    AS $$ SELECT sum(n) FROM unnest(numbers) n $$;
CREATE OR REPLACE FUNCTION same(thing anyelement) RETURNS anyelement LANGUAGE sql
    AS $$ SELECT thing $$;
CREATE OR REPLACE FUNCTION labels(prefix text, VARIADIC rest text[]) RETURNS text LANGUAGE sql
    AS $$ SELECT prefix || array_to_string(rest, ',') $$;
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
    kind: postgresql
    port: {port}
    database: orders
    schema: db/schema.sql
    extensions: [citext]
    connections: 60
channels:
  - from: orders
    to: orders-db
    tables: {orders: [select, insert, update], customers: {select: [id, name], update: [name]}}
    sequences: {tickets: [usage]}
    functions: {greet: [execute]}
    connections: 20
  - from: billing
    to: orders-db
    tables: {sales.totals: [select], customers: [select, insert, update, delete, truncate]}
    sequences: {tickets: [select, update]}
    functions: {place: [execute], tally: [execute], labels: [execute], same: [execute]}
    temporary: true
    advisory_locks: true
    statement_timeout: none
  - from: migrator
    to: orders-db
    schemas: {stock: [create, usage]}
    tables: {customers: {references: [id]}}
"""
