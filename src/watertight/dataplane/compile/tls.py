"""mTLS between our own ends: TLS 1.3 only, one exact peer, no resumption.

Sources: ``DownstreamTlsContext``, ``UpstreamTlsContext`` and ``CommonTlsContext`` of Envoy's API;
X509-SVID section 5 for the URI SAN; SPIRE's SDS names for the secrets.
"""

from collections.abc import Sequence

from watertight.dataplane.compile.blocks import ADS, Json, extension
from watertight.model.system import Protocol

OWN_SVID = "default"
"""The SDS name of the proxy's own SVID."""
TRUST_BUNDLE = "ROOTCA"
"""The SDS name of the own trust domain's roots, for Envoy's default validator.

Not ``ALL``, which brings the SPIFFE validator: that one refuses every CA certificate as a leaf
(X509-SVID section 5.2) but takes a certificate of any extended key usage; the default one checks
the usage, and refuses a CA certificate unless its key may also sign handshakes, which no
authority's profile of ours allows. Measured on 1.40; neither does both."""
GATEWAY_CERTIFICATE = "gateway-https"
"""The SDS name of the certificate that the gateway shows to the outside."""

MESH_GROUPS = ("X25519MLKEM768", "X25519")
EDGE_GROUPS = ("X25519MLKEM768", "X25519", "P-256")
SERVER_GROUPS = EDGE_GROUPS
"""Of databases and brokers: an older OpenSSL knows no hybrid, and some servers set P-256 alone."""
EDGE_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""For TLS 1.2 only (TLS 1.3 has its own): forward secret and authenticated, nothing else."""

MAX_INTERMEDIATES = 3
"""Our chains have one; room for one above it and one spare, not for Envoy's default of 100."""


def _secret(name: str) -> Json:
    return {"name": name, "sds_config": dict(ADS)}


ALPN = {Protocol.HTTP: ("http/1.1",), Protocol.GRPC: ("h2",), Protocol.TCP: ()}
"""What is said between proxies, by what the callee speaks."""
UPGRADES = "watertight-upgrade"
"""What a caller's proxy says for a connection that carries an upgrade: see :mod:`.inbound`."""


def _common(peer: str, alpn: Sequence[str], groups: Sequence[str] = MESH_GROUPS) -> Json:
    """Both ends show their SVID and accept exactly one peer.

    The maximum is set as well as the minimum: Envoy's client side stops at TLS 1.2 by default.
    Who is expected comes from policy (here), whom we trust to vouch for it from SDS: the two
    rotate independently of one another (research: SDS rule S7).
    """
    return {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": list(groups),
        },
        "tls_certificate_sds_secret_configs": [_secret(OWN_SVID)],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
                "max_verify_depth": MAX_INTERMEDIATES,
            },
            "validation_context_sds_secret_config": _secret(TRUST_BUNDLE),
        },
        **({"alpn_protocols": list(alpn)} if alpn else {}),
    }


def accept(peer: str, alpn: Sequence[str]) -> Json:
    """The server side: a client certificate is required, and only ``peer``'s will do.

    No session is ever resumed: a resumed one would skip the verification of a certificate that
    may have expired, or been distrusted, since.
    """
    return extension(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=_common(peer, alpn),
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )


def connect(peer: str, server_name: str, alpn: Sequence[str]) -> Json:
    """The client side: only ``peer`` will do."""
    return extension(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=_common(peer, alpn),
        sni=server_name,
        max_session_keys=0,
    )


def originate(peer: str, server_name: str, alpn: Sequence[str]) -> Json:
    """The client side, in place of a client that cannot: to a server of another make."""
    return extension(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=_common(peer, alpn, SERVER_GROUPS),
        sni=server_name,
        max_session_keys=0,
    )


def serve_https() -> Json:
    """The edge: TLS 1.2 or newer, for clients of any kind, without client certificates."""
    return extension(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
                "cipher_suites": list(EDGE_CIPHERS),
                "ecdh_curves": list(EDGE_GROUPS),
            },
            "tls_certificate_sds_secret_configs": [_secret(GATEWAY_CERTIFICATE)],
            "alpn_protocols": ["h2", "http/1.1"],
        },
    )
