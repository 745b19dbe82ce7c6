"""An Envoy that knows nothing but where to ask for its secrets."""

import asyncio
import json
import re
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from tests.identity.serving.polling import eventually
from watertight.dataplane.binary import envoy_binary
from watertight.identity.sds import TYPE_URL
from watertight.identity.svid import X509SVID

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_ECHO = "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"
_HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
GREETING = b"hello"


def from_door(name: str) -> dict[str, Any]:
    """A secret that is asked for at the identity door (``SdsSecretConfig``)."""
    grpc = {"envoy_grpc": {"cluster_name": "identity"}}
    source = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc]}
    return {
        "name": name,
        "sds_config": {"resource_api_version": "V3", "api_config_source": source},
    }


def from_files(scratch: Path, delivered: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Certificate and roots from delivered files, read again whenever these are swapped."""
    current, watched = delivered / "current", {"path": str(delivered)}
    certificate = {
        "certificate_chain": {"filename": str(current / "certificate.pem")},
        "private_key": {"filename": str(current / "private_key.pem")},
        "watched_directory": watched,
    }
    roots = {
        "trusted_ca": {"filename": str(current / "bundle.pem")},
        "watched_directory": watched,
    }
    return (
        _in_file(scratch / "certificate.json", {"tls_certificate": certificate}),
        _in_file(scratch / "roots.json", {"validation_context": roots}),
    )


def _in_file(path: Path, body: dict[str, Any]) -> dict[str, Any]:
    """A secret that stands in a file, and names others (``SdsSecretConfig``)."""
    secret = {"@type": TYPE_URL, "name": path.stem, **body}
    path.write_text(json.dumps({"resources": [secret]}))
    source = {"path": str(path)}
    return {
        "name": path.stem,
        "sds_config": {"resource_api_version": "V3", "path_config_source": source},
    }


def _listener(path: Path, certificate: Any, roots: Any, caller: str) -> dict[str, Any]:
    exact = {"san_type": "URI", "matcher": {"exact": caller}}
    tls = {
        "@type": _TLS,
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [certificate],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [exact]},
                "validation_context_sds_secret_config": roots,
            },
        },
    }
    return {
        "name": "mtls",
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


def bootstrap(directory: Path, door: Path, certificate: Any, roots: Any, caller: str) -> Any:
    """One mTLS listener with these secrets, for exactly one caller; ``door`` is where it asks."""
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
        """As :func:`greeted_by`, of its mTLS listener."""
        return await greeted_by(self._directory / "mtls.sock", svid, roots)


async def greeted_by(path: Path, svid: X509SVID, roots: bytes) -> tuple[bytes, x509.Certificate]:
    """What an echoing mTLS server says to a caller with this SVID, and with which certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # A SPIFFE ID is what names the server: the test compares it.
    context.load_verify_locations(cadata=roots.decode())
    with tempfile.NamedTemporaryFile() as own:
        own.write(svid.chain_pem() + svid.private_key_pem())
        own.flush()
        context.load_cert_chain(own.name)
    reader, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname="orders")
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
