"""A counterexample as a line that a person can run, as the service: Python, without a library."""

import shlex
from collections.abc import Sequence

from watertight.servers.rabbitmq.attacks.sessions import Caller


def as_command(caller: Caller, pieces: Sequence[bytes]) -> str:
    """It reads what ``watertight env`` lists, sends each piece and prints what the broker says."""
    name = caller.login.resource.name
    variable = name.upper().replace("-", "_")
    files = ", ".join(f"e[{f'{variable}_{file}'!r}]" for file in ("CERT", "KEY"))
    lines = (
        "import os,socket,ssl,time,urllib.parse as p",
        "e=os.environ",
        f"u=p.urlsplit(e[{f'{variable}_AMQP_URL'!r}])",
        "s=socket.create_connection((u.hostname,u.port),9)",
        f"t=u.scheme=='amqps' and ssl.create_default_context(cafile=e[{f'{variable}_CA'!r}])",
        f"t and t.load_cert_chain({files})",
        f"s=t.wrap_socket(s,server_hostname={name!r}) if t else s",
        f"[(s.sendall(b),time.sleep(.2),print(s.recv(65536))) for b in {[*pieces]!r}]",
    )
    return f"python3 -c {shlex.quote(';'.join(lines))}"
