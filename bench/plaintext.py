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

from tests.sdk.process import Running, directory_for, free_port, stopped_at_the_end
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
    configuration = directory / "rabbitmq.conf"
    configuration.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    (directory / "env.conf").touch()
    (directory / "enabled_plugins").write_text("[].\n")
    for file in directory.iterdir():
        file.chmod(0o644)
    epmd_port = free_port()
    environment = {
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_CONFIG_FILE": str(configuration),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "env.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "none.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false "
        "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "LANG": "C.UTF-8",
    }
    # Erlang would start it as a daemon, which nobody ends.
    epmd = ["/usr/bin/epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
    names = Running(epmd, directory, owner(), {}, epmd_port, signal.SIGTERM)
    server = Running([str(program)], directory, owner(), environment, port, signal.SIGTERM)
    async with stopped_at_the_end(names), stopped_at_the_end(server):
        await names.start()
        await server.start(seconds=90)
        yield {"host": "127.0.0.1", "port": port, "login": "guest", "password": "guest"}
