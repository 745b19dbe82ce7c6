"""A server over its own TLS: what it serves, for a failed reload is often only logged; and its
operator, who comes with its own identity."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from cryptography import x509

from watertight.enforcers.resource import BUNDLE, CERTIFICATE, PRIVATE_KEY, ServerHost, ServerPlan
from watertight.errors import WatertightError

HANDSHAKE_SECONDS = 5.0
DEADLINE_SECONDS = 10.0
POLL_SECONDS = 0.05

Prelude: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What a protocol says before TLS begins; raises OSError if the server does not want TLS."""


def own_identity(credentials: Path) -> ssl.SSLContext:
    """For a client that shows these credential files, and trusts their roots alone, by TLS 1.3.

    The directory is a link, swapped at each rotation: all three are of where it leads now. Raises
    ``OSError``, of which ``ssl.SSLError`` is one.
    """
    own = credentials.resolve(strict=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(own / BUNDLE)
    context.load_cert_chain(own / CERTIFICATE, own / PRIVATE_KEY)
    return context


async def look_at_leaf(plan: ServerPlan, host: ServerHost, prelude: Prelude | None = None) -> None:
    """Whether the server serves the leaf of its credential file, verified up to our roots.

    Raises WatertightError.
    """
    credentials = host.placement.credentials(plan.resource)
    leaf = x509.load_pem_x509_certificate((credentials / CERTIFICATE).read_bytes())
    try:
        served = await _served(plan, host, credentials / BUNDLE, prelude)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise WatertightError(
            f"{plan.resource} does not serve TLS as it should: {error or 'no answer'}."
        ) from error
    if served.serial_number != leaf.serial_number:
        raise WatertightError(
            f"{plan.resource} serves the certificate {served.serial_number:x} "
            f"and not the one of its file, {leaf.serial_number:x}."
        )


async def until_served(plan: ServerPlan, host: ServerHost, prelude: Prelude | None = None) -> None:
    """Returns once :func:`look_at_leaf` is content. Raises what it raised last, at the deadline."""
    await until_content(lambda: look_at_leaf(plan, host, prelude))


async def until_content(tried: Callable[[], Awaitable[None]]) -> None:
    """Tries until it raises no WatertightError. Raises the last one, at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            await tried()
        except WatertightError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


async def _served(
    plan: ServerPlan, host: ServerHost, roots: Path, prelude: Prelude | None
) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(roots)
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        reader, writer = await asyncio.open_connection(sock=await host.connect(plan.port))
        try:
            if prelude is not None:
                await prelude(reader, writer)
            await writer.start_tls(context, server_hostname=plan.resource)
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            # Without the farewell of TLS: the server is about to say that it wanted a certificate,
            # and OpenSSL would tell that to whichever session of this thread reads next.
            writer.transport.abort()
    return x509.load_der_x509_certificate(der)
