"""A real Envoy that says which path templates match a path: the judge of our own matcher."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from watertight.dataplane.binary import envoy_binary
from watertight.dataplane.compile import path_matchers
from watertight.dataplane.compile.http import AMBIGUOUS_PATH

_TYPE = "type.googleapis.com/envoy.extensions."
START_SECONDS = 20


@contextmanager
def envoy_oracle(
    directory: Path, templates: Sequence[str], *, keeps_slashes: bool = False
) -> Iterator["Oracle"]:
    """Runs Envoy with one virtual host a template; ends it whatever happens.

    ``keeps_slashes``: as a gateway that has a route which takes ``%2F`` and ``//`` as they are.
    """
    config = directory / "envoy.json"
    bootstrap = _bootstrap(directory / "l", templates, keeps_slashes=keeps_slashes)
    config.write_text(json.dumps(bootstrap), encoding="utf-8")
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
    process = subprocess.Popen([envoy_binary(), "--config-path", config, *options])
    try:
        oracle = Oracle(directory / "l", templates)
        oracle.wait(process)
        yield oracle
    finally:
        process.kill()
        process.wait()


class Oracle:
    """Asks the running Envoy."""

    def __init__(self, address: Path, templates: Sequence[str]) -> None:
        self.address = address
        self.templates = templates

    def wait(self, process: "subprocess.Popen[bytes]") -> None:
        """Until Envoy listens; raises if it ends or never does."""
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert process.poll() is None, "Envoy refused its configuration"
            assert time.monotonic() < deadline, "Envoy does not listen"
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            # The file is there from bind() on; only listen() accepts.
            return connection.connect_ex(str(self.address)) == 0

    def matching(self, path: str) -> set[str] | None:
        """The templates that match; None if Envoy refuses the request outright."""
        statuses = {t: self._status(f"t{n}", path) for n, t in enumerate(self.templates)}
        if set(statuses.values()) == {400}:
            return None
        assert set(statuses.values()) <= {200, 404}, statuses
        return {template for template, status in statuses.items() if status == 200}

    def _status(self, host: str, path: str) -> int:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.address))
            head = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode())
            with HTTPResponse(connection) as response:
                response.begin()
                return response.status


def _bootstrap(address: Path, templates: Sequence[str], *, keeps_slashes: bool) -> dict[str, Any]:
    router = {"@type": f"{_TYPE}filters.http.router.v3.Router"}
    manager = {
        "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "oracle",
        "normalize_path": True,
        "merge_slashes": not keeps_slashes,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED" if keeps_slashes else "REJECT_REQUEST",
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": [_host(n, t) for n, t in enumerate(templates)]},
    }
    listener = {
        "name": "oracle",
        "address": {"pipe": {"path": str(address)}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener]}}


def _host(number: int, template: str) -> dict[str, Any]:
    match: dict[str, Any] = {"safe_regex": {"regex": path_matchers.claimed(template)}}
    if path_matchers.is_literal(template):
        match = {"path": template}
    never = (path_matchers.ESCAPED_BACKSLASH, path_matchers.DOTS_AT_ESCAPED_SLASH)
    refused = [
        {
            "match": {
                "prefix": "/",
                "headers": [{"name": ":path", "string_match": {"safe_regex": {"regex": pattern}}}],
            },
            "direct_response": {"status": 400},
        }
        for pattern in never
    ]
    ambiguous = {"match": AMBIGUOUS_PATH, "direct_response": {"status": 400}}
    route = {"match": match, "direct_response": {"status": 200}}
    return {"name": f"t{number}", "domains": [f"t{number}"], "routes": [ambiguous, *refused, route]}
