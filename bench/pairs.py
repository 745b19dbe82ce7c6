"""What a team would build by hand: two nginx or two HAProxy with mutual TLS 1.3 between them.

Each pair is caller's proxy → mTLS → callee's proxy → backend, one worker a process, upstream
connections kept alive, as their manuals advise. The pairs run over TCP loopback, as they would
between hosts, and over Unix sockets, as Watertight's do on one host.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from bench.certificates import Certificates
from bench.load import PATH
from bench.tools import find
from tests.ports import free_port

Transport = Literal["tcp", "unix"]
READY_SECONDS = 10.0
BODY = "x" * 100


def _accepts(address: str) -> bool:
    path = address.removeprefix("unix:")
    try:
        if path != address:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        else:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(argv: Sequence[str], directory: Path, address: str) -> Iterator[None]:
    """One server process that accepts on ``address``; stopped at the end, whatever happens."""
    log = directory / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _accepts(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[0]} does not serve {address}: {log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _nginx(directory: Path, name: str, servers: str) -> list[str]:
    user = "user root;\n" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"  {kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = directory / f"{name}.conf"
    file.write_text(
        f"daemon off;\nworker_processes 1;\npid {directory}/{name}.pid;\nerror_log stderr warn;\n"
        f"{user}events {{ worker_connections 4096; }}\n"
        f"http {{\n  access_log off;\n  keepalive_requests 100000000;\n{temporary}{servers}}}\n"
    )
    return [find("nginx") or "nginx", "-c", str(file), "-p", str(directory), "-e", "stderr"]


@contextlib.contextmanager
def backend(directory: Path) -> Iterator[str]:
    """The service behind every row: nginx that answers 200 and 100 bytes; yields its address."""
    address = f"127.0.0.1:{free_port()}"
    server = f'  server {{ listen {address}; location / {{ return 200 "{BODY}"; }} }}\n'
    with running(_nginx(directory, "backend", server), directory, address):
        yield address


def _between(directory: Path, name: str, transport: Transport) -> str:
    return f"unix:{directory}/{name}.sock" if transport == "unix" else f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def nginx_pair(
    directory: Path, certificates: Certificates, upstream: str, transport: Transport
) -> Iterator[str]:
    """Two nginx (``proxy_ssl_*`` and ``ssl_verify_client``); yields the caller's address."""
    middle = _between(directory, "nginx", transport)
    front = f"127.0.0.1:{free_port()}"
    ca, own, peer = certificates.authority, certificates.caller, certificates.callee
    callee = f"""
  upstream app {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen {middle} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate {peer.certificate}; ssl_certificate_key {peer.private_key};
    ssl_client_certificate {ca}; ssl_verify_client on;
    if ($ssl_client_s_dn != "CN=caller") {{ return 403; }}
    location / {{ return 403; }}
    location = {PATH} {{
      limit_except GET {{ deny all; }}
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-Client-Cert $ssl_client_s_dn;
    }}
  }}
"""
    caller = f"""
  upstream callee {{ server {middle}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen {front};
    location / {{
      proxy_pass https://callee; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate {own.certificate};
      proxy_ssl_certificate_key {own.private_key}; proxy_ssl_trusted_certificate {ca};
      proxy_ssl_verify on; proxy_ssl_name callee; proxy_ssl_server_name on;
    }}
  }}
"""
    with (
        running(_nginx(directory, "nginx-callee", callee), directory, middle),
        running(_nginx(directory, "nginx-caller", caller), directory, front),
    ):
        yield front


def _haproxy(directory: Path, name: str, sections: str) -> list[str]:
    file = directory / f"{name}.cfg"
    file.write_text(
        "global\n  nbthread 1\n  maxconn 4096\n"
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n"
        f"  http-reuse always\n{sections}"
    )
    return [find("haproxy") or "haproxy", "-db", "-f", str(file)]


@contextlib.contextmanager
def haproxy_pair(
    directory: Path, certificates: Certificates, upstream: str, transport: Transport
) -> Iterator[str]:
    """Two HAProxy (``verify required`` at both ends); yields the caller's address."""
    middle = _between(directory, "haproxy", transport)
    front = f"127.0.0.1:{free_port()}"
    ca, own, peer = certificates.authority, certificates.caller, certificates.callee
    place = middle.replace("unix:", "unix@")
    callee = (
        f"frontend in\n  bind {place} ssl crt {peer.combined} ca-file {ca} verify required"
        f" ssl-min-ver TLSv1.3\n"
        "  http-request deny unless { ssl_c_s_dn(cn) -m str caller }\n"
        f"  http-request deny unless METH_GET {{ path {PATH} }}\n"
        "  http-request set-header X-Forwarded-Client-Cert %[ssl_c_s_dn]\n"
        f"  default_backend app\nbackend app\n  server app {upstream}\n"
    )
    caller = (
        f"frontend in\n  bind {front}\n  default_backend callee\n"
        f"backend callee\n  server callee {place} ssl verify required ca-file {ca}"
        f" crt {own.combined} verifyhost callee sni str(callee) ssl-min-ver TLSv1.3\n"
    )
    with (
        running(_haproxy(directory, "haproxy-callee", callee), directory, middle),
        running(_haproxy(directory, "haproxy-caller", caller), directory, front),
    ):
        yield front
