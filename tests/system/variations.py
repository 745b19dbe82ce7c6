"""Declarations that a newcomer may well write next, each of which must prove itself."""

from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")

_WEB = """
trust_domain: example.internal
services:
  web:
    run: [python3, -m, http.server, "8000", --bind, 127.0.0.1]
    listens: {http: 8000}
  job:
    run: [sleep, "1000"]
"""
_GATEWAY = """
gateway:
  hostname: localhost
  listen: 127.0.0.1:GATEWAY_PORT
  routes:
"""
_OPEN = "to: web, require: anyone"

EVERY = {
    "nobody is called": """
trust_domain: example.internal
services:
  job: {run: [sleep, "1000"]}
""",
    "only a gateway": f"{_WEB}{_GATEWAY}    - {{path: /, {_OPEN}}}\n",
    "every path and method": f"{_WEB}{_GATEWAY}"
    f"    - {{path: /**, {_OPEN}, methods: [GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS]}}\n",
    "HEAD alone": f"{_WEB}channels: [{{from: job, to: web, allow: [HEAD /, HEAD /x/**]}}]\n"
    f"{_GATEWAY}    - {{path: /, {_OPEN}, methods: [HEAD]}}\n",
    "many methods of one path": f"{_WEB}channels:\n"
    f"  - {{from: job, to: web, allow: [GET /, HEAD /, OPTIONS /**, POST /x]}}\n{_GATEWAY}"
    f"    - {{path: /, {_OPEN}, methods: [GET, HEAD], limit: {{per: address, rate: 1000/s}}}}\n"
    f"    - {{path: /, {_OPEN}, methods: [POST]}}\n"
    f"    - {{path: /a/*, {_OPEN}, methods: [GET, HEAD, OPTIONS], rewrite: /*}}\n"
    f"    - {{path: /**, {_OPEN}, methods: [PUT], timeout: 1s}}\n",
    "no gateway, identity alone": f"{_WEB}channels: [{{from: job, to: web}}]\n",
    "tcp": """
trust_domain: example.internal
services:
  echo: {run: [python3, bytes.py, "7000"], listens: {tcp: 7000}}
  greets: {run: [python3, bytes.py, "7000", hello], listens: {tcp: 7000}}
  leaves: {run: [python3, bytes.py, "7000", hello, close], listens: {tcp: 7000}}
  job: {run: [sleep, "1000"]}
channels:
  - {from: job, to: echo}
  - {from: job, to: greets}
  - {from: job, to: leaves}
  - {from: echo, to: greets}
""",
    "odd but honest apps": """
trust_domain: example.internal
services:
  bare: {run: [python3, bare.py, "8001"], listens: {http: 8001}, private_ports: [9001, 8000]}
  events: {run: [python3, events.py, "8002"], listens: {http: 8002}}
  rpc: {run: [python3, rpc.py, "8003"], listens: {grpc: 8003}}
  everywhere:
    run: [python3, -m, http.server, "8000", --bind, 0.0.0.0]
    listens: {http: 8000}
  six:
    run: [python3, -m, http.server, "8000", --bind, "::"]
    listens: {http: 8000}
  job: {run: [sleep, "1000"]}
channels:
  - {from: job, to: bare, allow: [GET /, HEAD /gone, POST /kept]}
  - {from: job, to: events, allow: [GET /page, GET /ticks]}
  - {from: bare, to: events, retries: 1}
  - {from: job, to: rpc, allow: [a.Echo/Say, a.Echo/Watch]}
  - {from: six, to: rpc}
  - {from: everywhere, to: rpc, allow: [a.Echo/Watch], retries: 1}
  - {from: job, to: everywhere, allow: [HEAD /]}
gateway:
  hostname: localhost
  listen: 127.0.0.1:GATEWAY_PORT
  routes:
    - {path: /gone, to: bare, require: anyone, methods: [GET, HEAD, POST]}
    - {path: /refused, to: bare, require: anyone, rewrite: /}
    - {path: /events/*, to: events, require: anyone, rewrite: /*}
    - {path: /six, to: six, require: anyone, methods: [HEAD]}
""",
}
COMMON: frozenset[str] = frozenset()
"""Run by `make test` too; the others take a minute each."""
