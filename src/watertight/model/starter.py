"""The declaration that ``watertight init`` writes: it loads, lints clean, and explains itself."""

STARTER = """\
# watertight.yaml: your services, and the channels between them.
# What is not declared here does not work. Try: watertight lint, watertight up, watertight verify.

# Every service gets the identity spiffe://<trust domain>/<name of the service>.
trust_domain: example.internal

services:
  web:
    # The command that starts it, word by word (no shell). It binds 127.0.0.1 only.
    run: [python3, -m, http.server, "8000", --bind, 127.0.0.1]
    listens: {http: 8000}          # http, grpc or tcp
    ready: /                       # answers 2xx once the service is ready
  orders:
    run: [python3, -m, http.server, "8001", --bind, 127.0.0.1]
    listens: {http: 8001}
    # directory: orders            # where the command starts, relative to this file
    # environment: {LOG_LEVEL: info}

channels:
  # web may read orders, and nothing else. Inside web, orders is http://orders:8001
  # (also in the environment variable ORDERS_URL).
  # `*` stands for one segment of the path, a final `**` for one or more.
  - {from: web, to: orders, allow: [GET /orders, GET /orders/*], timeout: 2s}
  # Without `allow` a channel says only who may talk:
  # - {from: web, to: orders}

# Where the outside comes in, over HTTPS.
gateway:
  hostname: localhost
  listen: 127.0.0.1:8443
  routes:
    # The first route that matches takes the request. `require` is never left out:
    # `anyone`, or a token: {issuer: main, scopes: [orders:read]} with `main` under `issuers`.
    - {path: /, to: web, require: anyone, limit: {per: address, rate: 100/s}}
    - {path: /**, to: web, require: anyone, limit: {per: address, rate: 100/s}}
"""
