"""An Envoy that knows nothing but where to ask for its secrets."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from tests.identity.doors.polling import eventually
from watertight.enforcers.envoy.binary import envoy_binary
from watertight.identity.svid import X509SVID

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_ECHO = "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"
_HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
GREETING = b"hello"


def _sds(name: str) -> dict[str, Any]:
    """One secret, asked for at the identity door (config_source.proto)."""
    grpc = {"envoy_grpc": {"cluster_name": "identity"}}
    source = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc]}
    return {
        "name": name,
        "sds_config": {"resource_api_version": "V3", "api_config_source": source},
    }


def _listener(path: Path, certificate: str, roots: str, caller: str) -> dict[str, Any]:
    exact = {"san_type": "URI", "matcher": {"exact": caller}}
    tls = {
        "@type": _TLS,
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [_sds(certificate)],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [exact]},
                "validation_context_sds_secret_config": _sds(roots),
            },
        },
    }
    return {
        "name": certificate,
        "stat_prefix": "mtls",
        "address": {"pipe": {"path": str(path)}},
        "filter_chains": [
            {
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": tls,
                },
                "filters": [{"name": "echo", "typed_config": {"@type": _ECHO}}],
            }
        ],
    }


def bootstrap(directory: Path, door: Path, certificate: str, roots: str, caller: str) -> Any:
    """One mTLS listener, with its secrets from ``door``, for exactly one caller."""
    http2 = {"@type": _HTTP, "explicit_http_config": {"http2_protocol_options": {}}}
    address = {"endpoint": {"address": {"pipe": {"path": str(door)}}}}
    identity = {
        "name": "identity",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {_HTTP.rpartition("/")[2]: http2},
        "load_assignment": {
            "cluster_name": "identity",
            "endpoints": [{"lb_endpoints": [address]}],
        },
    }
    return {
        "node": {"id": "orders", "cluster": "orders"},
        "admin": {"address": {"pipe": {"path": str(directory / "admin.sock")}}},
        "static_resources": {
            "listeners": [_listener(directory / "mtls.sock", certificate, roots, caller)],
            "clusters": [identity],
        },
    }


class Envoy:
    """A running one, as its admin interface and its callers see it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def statistics(self, pattern: str) -> dict[str, int]:
        """Counters whose name matches; empty while the admin interface does not answer."""
        transport = httpx.AsyncHTTPTransport(uds=str(self._directory / "admin.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            try:
                text = (await client.get("/stats", params={"filter": pattern})).text
            except httpx.TransportError:
                return {}
        return {
            name: int(value) for name, value in re.findall(r"^(\S+): (\d+)$", text, re.MULTILINE)
        }

    async def greets(self, svid: X509SVID, roots: bytes) -> tuple[bytes, x509.Certificate]:
        """What it echoes to a caller with this SVID, and with which certificate it does so."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # A SPIFFE ID is what names the server: see the caller.
        context.load_verify_locations(cadata=roots.decode())
        own = self._directory / "caller.pem"
        own.touch(mode=0o600)
        own.write_bytes(svid.chain_pem() + svid.private_key_pem())
        context.load_cert_chain(own)
        reader, writer = await asyncio.open_unix_connection(
            self._directory / "mtls.sock", ssl=context, server_hostname="orders"
        )
        try:
            writer.write(GREETING)
            said = await reader.read(len(GREETING))
            presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.transport.abort()
        return said, x509.load_der_x509_certificate(presented)


@asynccontextmanager
async def running(directory: Path, configuration: Any) -> AsyncIterator[Envoy]:
    """Runs an Envoy until the end of the block."""
    file = directory / "bootstrap.json"
    file.write_text(json.dumps(configuration))
    process = await asyncio.create_subprocess_exec(
        envoy_binary(),
        *("--config-path", file, "--disable-hot-restart", "--concurrency", "1"),
        *("--log-path", directory / "envoy.log", "--drain-time-s", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually((directory / "mtls.sock").is_socket)
        yield Envoy(directory)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
