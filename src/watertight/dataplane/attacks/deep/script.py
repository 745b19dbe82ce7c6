"""A counterexample as a line that a person can run: ``curl`` where it can say it, else Python."""

import shlex
from collections.abc import Sequence

from watertight.dataplane.attacks.deep.grammar import Sent, SentFramed

SEVERAL = 2


def as_command(sent: Sent | SentFramed, host: str, port: int, *, tls: str = "") -> str:
    """One line of shell; ``tls``: the server's name, for the gateway."""
    if isinstance(sent, SentFramed):
        return _framed(sent, host, port, tls)
    return _curl(sent, host, port, tls=tls) or _python(sent.pieces, host, port, tls=tls)


def _curl(sent: Sent, host: str, port: int, *, tls: str) -> str:
    """None of curl's own headers, no normalised path; empty if curl cannot say it."""
    if len(sent.pieces) != 1 or sent.requests != 1 or not isinstance(sent.pieces[0], bytes):
        return ""
    head, separator, body = sent.pieces[0].partition(b"\r\n\r\n")
    try:
        line, *fields = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        return ""
    words = line.split(" ")
    told = [field.partition(":")[::2] for field in fields]
    strange = not separator or len(words) != SEVERAL + 1 or words[2] != "HTTP/1.1"
    strange = strange or any(not name or name != name.strip() for name, _ in told)
    names = [name.lower() for name, _ in told]
    framed = {"content-length", "transfer-encoding"} & set(names)
    if strange or not f"{head.decode()}{body.decode('latin-1')}".replace("\r\n", "").isprintable():
        return ""
    if names.count("host") != 1 or (framed and (framed != {"content-length"} or not body)):
        return ""
    argv = ["curl", "-sik", "--http1.1", "-X", words[0], "--request-target", words[1]]
    for name, value in told:
        argv += ["-H", f"{name}:{value}" if value.strip() else f"{name};"]
    if body:
        argv += ["--data-binary", body.decode("latin-1")]
    scheme = "https" if tls else "http"
    return shlex.join([*argv, f"{scheme}://{tls or host}:{port}/"])


def _python(pieces: Sequence[bytes | float], host: str, port: int, *, tls: str) -> str:
    lines = ["import socket,ssl,time", f"s=socket.create_connection(({host!r},{port}))"]
    if tls:
        lines.append(f"s=ssl._create_unverified_context().wrap_socket(s,server_hostname={tls!r})")
    lines += [
        f"s.sendall({piece!r})" if isinstance(piece, bytes) else f"time.sleep({piece})"
        for piece in pieces
    ]
    lines += ["s.settimeout(3)", "print(s.recv(65536))"]
    return f"python3 -c {shlex.quote(';'.join(lines))}"


def _framed(sent: SentFramed, host: str, port: int, tls: str) -> str:
    """With the h2 library, which checks nothing if asked to."""
    unchecked = "validate_outbound_headers=False,normalize_outbound_headers=False"
    lines = [
        "import socket,ssl,h2.config as g,h2.connection as n",
        "c=ssl._create_unverified_context();c.set_alpn_protocols(['h2'])",
        f"s=c.wrap_socket(socket.create_connection(({host!r},{port})),server_hostname={tls!r})",
        f"h=n.H2Connection(g.H2Configuration({unchecked}))",
        "h.initiate_connection()",
        f"h.send_headers(1,{sent.fields!r},end_stream={not sent.body})",
        *([f"h.send_data(1,{sent.body!r},end_stream=True)"] if sent.body else []),
        "s.sendall(h.data_to_send())",
        "print(s.recv(65536))",
    ]
    return f"python3 -c {shlex.quote(';'.join(lines))}"
