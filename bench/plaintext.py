"""Private servers in the clear on loopback: what the channels' servers are compared with.

Each is the same binary as behind the channel, as its user leaves it after the installation, and
runs as an unprivileged user until the block ends.
"""

import os
import pwd
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.sdk.process import Running, directory_for, stopped_at_the_end
from tests.sdk.servers import broker
from watertight.identity.credential_files import Owner

Where = dict[str, Any]
"""What a client must be told, in the words of its library."""
DATABASE = "bench"


def owner() -> Owner | None:
    """Whose the servers' files are; None: ours."""
    if os.geteuid():
        return None
    nobody = pwd.getpwnam("nobody")
    return Owner(nobody.pw_uid, nobody.pw_gid)


@asynccontextmanager
async def postgresql(base: Path, program: Path, schema: str) -> AsyncIterator[Where]:
    """A database with this schema, whose superuser needs no password."""
    directory, port = directory_for(base, "plaintext", owner()), free_port()
    data = directory / "data"
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
    argv = [str(program), "-D", str(data)]
    argv += [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
    server = Running(argv, directory, owner(), {"LC_ALL": "C"}, port, signal.SIGINT)
    async with stopped_at_the_end(server):
        initdb = str(program.with_name("initdb"))
        await server.run(initdb, "-D", str(data), "-U", DATABASE, "-A", "trust", "-E", "UTF8")
        single = (str(program), "--single", "-j", "-D", str(data))
        await server.run(*single, "postgres", stdin=f"CREATE DATABASE {DATABASE};\n\n".encode())
        await server.run(*single, DATABASE, stdin=f"{schema}\n\n".encode())
        await server.start()
        yield {
            "host": "127.0.0.1",
            "port": port,
            "dbname": DATABASE,
            "user": DATABASE,
            "sslmode": "disable",
            "gssencmode": "disable",
        }


@asynccontextmanager
async def nats(base: Path, program: Path) -> AsyncIterator[Where]:
    """A server that asks nobody who they are."""
    directory, port = directory_for(base, "plaintext", owner()), free_port()
    argv = [str(program), "--addr", "127.0.0.1", "--port", str(port)]
    server = Running(argv, directory, owner(), {}, port, signal.SIGTERM)
    async with stopped_at_the_end(server):
        await server.start()
        yield {"host": "127.0.0.1", "port": port}


@asynccontextmanager
async def rabbitmq(base: Path, program: Path) -> AsyncIterator[Where]:
    """A broker with its default user."""
    directory, port = directory_for(base, "plaintext", owner()), free_port()
    files = {
        "rabbitmq.conf": f"listeners.tcp.1 = 127.0.0.1:{port}\n",
        "enabled_plugins": "[].\n",
        "env.conf": "",
    }
    async with broker(program, files, directory, owner(), port):
        yield {"host": "127.0.0.1", "port": port, "login": "guest", "password": "guest"}
