"""Whether a chain of certificates leads to a root that we trust (RFC 5280 section 6).

Path building and validation are the library's (``cryptography.x509.verification``, the profile of
the Web PKI); on top stand SPIFFE's rules for X.509-SVIDs, by the same named checks with which we
look at our own. The library knows no Ed25519 chains: those are refused here.
"""

import contextlib
import datetime as dt
import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from watertight.identity import recheck
from watertight.identity.errors import UntrustedChain
from watertight.identity.path_rules import check_path
from watertight.identity.spiffe import SPIFFEID
from watertight.identity.svid import TrustBundle

MAX_CHAIN_DEPTH = 8
"""Intermediates between a leaf and its root; ours has one."""

MAX_CERTIFICATES = 32
"""A longer chain from a peer is an attack on the path builder."""


PeerName = x509.DNSName | x509.IPAddress


def verify_svid(
    chain: Sequence[x509.Certificate],
    bundles: Mapping[str, TrustBundle],
    now: dt.datetime,
    *,
    expected: SPIFFEID | None = None,
) -> SPIFFEID:
    """The SPIFFE ID that a peer's chain (leaf first) proves.

    ``bundles`` maps trust domains to their roots: the peer's own trust domain chooses the bundle,
    so that one domain cannot speak for another (W12). Raises ``CredentialRejected`` (X1 to X7) or
    ``UntrustedChain``.
    """
    if not chain:
        raise UntrustedChain("The peer presented no certificate.")
    spiffe_id = recheck.check_leaf(chain[0])
    bundle = bundles.get(spiffe_id.trust_domain)
    if bundle is None or not bundle.authorities:
        raise UntrustedChain(f"The trust domain {spiffe_id.trust_domain} is not trusted here.")
    if expected is not None and spiffe_id != expected:
        raise UntrustedChain(f"The peer is {spiffe_id}, not {expected}.")
    path = verify_client_path(chain[0], chain[1:], bundle.authorities, now)
    for authority in path[1:]:
        recheck.check_peer_authority(authority, spiffe_id.trust_domain)
    return spiffe_id


def verify_client_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: dt.datetime,
    *,
    max_depth: int = MAX_CHAIN_DEPTH,
) -> tuple[x509.Certificate, ...]:
    """A valid path from a client's leaf to a root, both included. Raises ``UntrustedChain``."""
    with _refusals():
        verifier = _policy(intermediates, roots, now, max_depth).build_client_verifier()
        path = tuple(verifier.verify(leaf, list(intermediates)).chain)
        check_path(path)
        return path


def verify_server_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: dt.datetime,
    name: PeerName,
    *,
    max_depth: int = MAX_CHAIN_DEPTH,
) -> tuple[x509.Certificate, ...]:
    """The same for a server that was dialled as ``name``, which its SAN must hold (RFC 9525)."""
    with _refusals():
        verifier = _policy(intermediates, roots, now, max_depth).build_server_verifier(name)
        path = tuple(verifier.verify(leaf, list(intermediates)))
        check_path(path)
        return path


def _policy(
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: dt.datetime,
    max_depth: int,
) -> PolicyBuilder:
    if len(intermediates) > MAX_CERTIFICATES:
        raise UntrustedChain(f"The chain has more than {MAX_CERTIFICATES} certificates.")
    if not roots:
        raise UntrustedChain("There is no root to trust.")
    # The library takes a naive time to be UTC.
    moment = now.astimezone(dt.UTC).replace(tzinfo=None)
    return PolicyBuilder().store(Store(list(roots))).time(moment).max_chain_depth(max_depth)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except VerificationError as error:
        raise UntrustedChain(f"No valid path leads to a trusted root: {error}.") from None
    except (ValueError, x509.DuplicateExtension) as error:
        # The parser is lazy: a malformed certificate is first met here.
        raise UntrustedChain(f"A certificate of the chain does not parse: {error}.") from None


def peer_name(text: str) -> PeerName:
    """A DNS name, or an address if it reads as one."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
