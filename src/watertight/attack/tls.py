"""TLS as an enemy speaks it: any version, any certificate or none, sessions used again.

The handshake runs over a :class:`~watertight.attack.wire.Wire` with OpenSSL's memory
BIOs, so that alerts arrive as facts and a session can be offered again. With TLS 1.3 the server
judges the client's certificate after the client has finished (RFC 8446 section 4.4.2.4), so a
finished handshake proves nothing: callers must exchange bytes before they call it accepted.
"""

import contextlib
import socket
import ssl
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from watertight.attack.arena import Credential
from watertight.attack.patience import patience, patiently
from watertight.attack.wire import CHUNK_BYTES, Closed, Wire

NO_CERTIFICATE = Credential()


class Alert(Closed):
    """The peer refused in TLS's own words (RFC 8446 section 6): the strongest refusal."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the attacker offers. ``versions`` is (lowest, highest)."""

    credential: Credential = NO_CERTIFICATE
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (
        ssl.TLSVersion.TLSv1_3,
        ssl.TLSVersion.TLSv1_3,
    )
    alpn: tuple[str, ...] = ("h2",)
    ciphers: str | None = None
    """OpenSSL cipher string for TLS 1.2 and below."""
    server_name: str | None = None
    roots: bytes | None = None
    """PEM trust anchors to verify the server with; None: not verified, as by an attacker."""

    def context(self) -> ssl.SSLContext:
        """The OpenSSL context of this hello, the same each time; SECLEVEL 0, so that we offer what
        is too weak."""
        return _context(self)


@lru_cache(maxsize=1_024)
def _context(hello: Hello) -> ssl.SSLContext:
    """Kept, since a proof says the same hello at many doors; it holds no session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = hello.roots is not None and hello.server_name is not None
    context.verify_mode = ssl.CERT_NONE if hello.roots is None else ssl.CERT_REQUIRED
    if hello.roots is not None:
        context.load_verify_locations(cadata=hello.roots.decode())
        # What we are given is trusted as it stands, be it a root, an intermediate or a leaf.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 and below, on purpose
        context.minimum_version, context.maximum_version = hello.versions
    context.set_ciphers(hello.ciphers or "ALL:@SECLEVEL=0")
    context.set_alpn_protocols(list(hello.alpn))
    if hello.credential.certificate is not None:
        context.load_cert_chain(hello.credential.certificate, hello.credential.private_key)
    return context


class TLSWire:
    """A wire inside TLS; make it with :func:`handshake`."""

    def __init__(self, outer: Wire, context: ssl.SSLContext, name: str | None) -> None:
        self._outer = outer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._context = context
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    @property
    def tls(self) -> ssl.SSLObject:
        """OpenSSL's own view: version, cipher, ALPN, session, peer certificate."""
        return self._tls

    @property
    def context(self) -> ssl.SSLContext:
        """The context that a session must be used with again."""
        return self._context

    def offer(self, session: ssl.SSLSession) -> None:
        """Offers an earlier session of the same context; before the handshake."""
        self._tls.session = session

    async def handshake(self, timeout_seconds: float) -> None:
        """Finishes our side of the handshake. Raises ``Alert``, ``Closed``, ``TimeoutError``."""
        async with patiently(timeout_seconds):
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fill(timeout_seconds)
                except ssl.SSLError as error:
                    await self._flush_quietly()
                    raise _closed(error) from error
                else:
                    await self._flush()
                    return

    async def send(self, data: bytes) -> None:
        """See :class:`~watertight.attack.wire.Wire`."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise _closed(error) from error
        await self._flush()

    async def receive(self, timeout_seconds: float) -> bytes:
        """See :class:`~watertight.attack.wire.Wire`."""
        async with patiently(timeout_seconds):
            while True:
                try:
                    return self._tls.read(CHUNK_BYTES)
                except ssl.SSLWantReadError:
                    await self._flush()
                    if not await self._fill(timeout_seconds):
                        return b""
                except ssl.SSLZeroReturnError:
                    return b""
                except ssl.SSLError as error:
                    raise _closed(error) from error

    async def close(self) -> None:
        """See :class:`~watertight.attack.wire.Wire`."""
        await self._outer.close()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._outer.send(self._outgoing.read())

    async def _flush_quietly(self) -> None:
        with contextlib.suppress(Closed):
            await self._flush()

    async def _fill(self, timeout_seconds: float) -> bool:
        data = await self._outer.receive(timeout_seconds)
        if not data:
            self._incoming.write_eof()
            if not self._finished():
                raise Closed("closed during the handshake, without an alert")
            return False
        self._incoming.write(data)
        return True

    def _finished(self) -> bool:
        return self._tls.version() is not None


def _closed(error: ssl.SSLError) -> Closed:
    reason = (error.reason or str(error)).lower()
    if "alert" in reason:
        # TLSV13_ALERT_CERTIFICATE_REQUIRED, SSLV3_ALERT_HANDSHAKE_FAILURE …
        return Alert("alert " + reason.partition("alert_")[2])
    return Closed(reason.replace("_", " "))


async def handshake(
    wire: Wire,
    hello: Hello,
    *,
    timeout_seconds: float,
    earlier: TLSWire | None = None,
) -> TLSWire:
    """Performs our side of a TLS handshake over ``wire``, which it closes on failure.

    ``earlier``: a finished connection whose session is offered again, in its own context. Raises
    :class:`Alert`, :class:`~watertight.attack.wire.Closed` or ``TimeoutError``.
    """
    context = earlier.context if earlier else hello.context()
    secure = TLSWire(wire, context, hello.server_name)
    if earlier and earlier.tls.session is not None:
        secure.offer(earlier.tls.session)
    try:
        await secure.handshake(timeout_seconds)
    except BaseException:
        await wire.close()
        raise
    return secure


def alerts(door: Path, hellos: Iterable[Hello], *, timeout_seconds: float) -> list[str]:
    """In which words of TLS a Unix socket refuses each hello, up to the first that it does not.

    Blocks: call it in a thread. It costs a third of what :func:`handshake` does and tells nothing
    of what is not an alert: who is met by a silence, or an end without a word, looks again.
    """
    words: list[str] = []
    for hello in hellos:
        try:
            word = _alert(door, hello, patience(timeout_seconds))
        except OSError:
            break
        if word is None:
            break
        words.append(word)
    return words


def _alert(door: Path, hello: Hello, timeout_seconds: float) -> str | None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_seconds)
        sock.connect(str(door))
        try:
            with hello.context().wrap_socket(sock, server_hostname=hello.server_name) as secure:
                secure.recv(1)
        except ssl.SSLError as error:
            end = _closed(error)
            return str(end) if isinstance(end, Alert) else None
    return None
