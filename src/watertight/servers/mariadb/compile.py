"""What a MariaDB server must be: its configuration, its accounts, and what each may do. Pure.

Sources: MariaDB manual, "Server System Variables", "CREATE USER", "Securing Connections for Client
and Server"; what each of these lines does was tried on 10.11.19.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from watertight.enforcers.resource import BUNDLE, CERTIFICATE, PRIVATE_KEY
from watertight.model.placement import Placement
from watertight.model.system import Resource, System
from watertight.servers.facts import Fact, fact
from watertight.servers.mariadb.declaration import (
    CLIENT_HOST,
    DOOR_SHARE,
    OUR_DATABASE,
    Grant,
    channel_keys,
    declared,
    stated,
)

CONFIGURATION, OPENSSL = "my.cnf", "openssl.cnf"
DATABASE, SCHEMA, ACCOUNT, GRANT = "database", "schema", "account", "grant"
PLUGIN, FUNCTION = "plugin", "loaded function"
RECORD, DEFINITION = "record of definitions", "definition"
KINDS = (PLUGIN, FUNCTION, DATABASE, SCHEMA, RECORD, DEFINITION, ACCOUNT, GRANT)
OPERATOR = ("the operator", "localhost")
"""Who comes by the Unix socket as the server's own user, by whatever name that user has here."""
INTERNAL = ("mariadb.sys", "localhost")
"""Definer of the server's own views; nobody logs in as it."""
ANYWHERE = "%"
"""The host part at servers that others run: from where a service comes there, its Subject says."""
SESSION_BYTES = 96 << 20
"""What one statement may take: one of 16 MiB, the largest there is (max_allowed_packet), takes four
times as much (9 MiB ended at 32 MiB). User variables it may add to as it likes: see ``watch``."""
SHARED_BYTES = 192 << 20
"""What the server takes for itself, besides InnoDB's buffers (a quarter of its memory)."""
SMALLEST_SHARE_BYTES = 2 * SESSION_BYTES
SORT_BYTES = 2 << 20
NO_TICKETS = """\
openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = defaults
[defaults]
MinProtocol = TLSv1.3
NumTickets = 0
Options = -SessionTicket
"""
"""MariaDB itself has no word for it, and whoever resumes a session shows no certificate: one that
has expired meanwhile would come in. Without the number, OpenSSL hands out tickets all the same, for
sessions that the server remembers (SSL_CTX_set_num_tickets(3))."""


@dataclass(frozen=True, slots=True)
class Account:
    """One service's."""

    name: str
    subject: str
    """As OpenSSL writes it on one line, in the order of the certificate."""
    connections: int
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """What the server must hold, besides its files."""

    database: str
    schema_file: str | None
    share_bytes: int
    """Memory that all sessions of one service may take together."""
    accounts: tuple[Account, ...]
    host: str = CLIENT_HOST
    """Whence the accounts come."""

    @property
    def ours(self) -> bool:
        """Whether we run the server, and all of it is ours to judge."""
        return self.host == CLIENT_HOST


def subject(system: System, service: str) -> str:
    """What stands in a service's SVID.

    The account asks for no ISSUER: the server trusts the roots of this trust domain and no other,
    so an issuer's name says nothing more; and since each new issuer has a name of its own, at a
    rotation it would turn away whoever has not renewed yet.
    """
    return f"/O={system.trust_domain}/OU=services/CN={service}"


def grants_of(system: System, resource: Resource) -> DatabasePlan:
    """See :meth:`~watertight.servers.kind.Server.grants`."""
    wanted = declared(resource)
    accounts = (
        Account(c.source, subject(system, c.source), channel_keys(c).connections, stated(c))
        for c in system.incoming(resource.name)
    )
    ordered = tuple(sorted(accounts, key=lambda a: a.name))
    rest = resource.limits.memory_bytes * 3 // 4 - SHARED_BYTES
    share = max(rest // max(1, len(ordered)), SMALLEST_SHARE_BYTES)
    host = ANYWHERE if resource.external else CLIENT_HOST
    return DatabasePlan(wanted.database, wanted.schema_file, share, ordered, host)


def doors(system: System, resource: Resource) -> Mapping[str, int]:
    """Service → how many connections its door lets through: some have not logged in yet."""
    channels = system.incoming(resource.name)
    return {c.source: DOOR_SHARE * channel_keys(c).connections for c in channels}


def files(resource: Resource, placement: Placement) -> Mapping[str, str]:
    """See :meth:`~watertight.servers.kind.Server.files`."""
    return {CONFIGURATION: configuration(resource, placement), OPENSSL: NO_TICKETS}


def socket(placement: Placement, resource: str) -> Path:
    """The operator's way in."""
    return placement.server_sockets(resource) / "mariadb.sock"


def cluster(placement: Placement, resource: str) -> Path:
    """Where MariaDB keeps the data of ``resource``."""
    return placement.server_data(resource) / "data"


def scratch(placement: Placement, resource: str) -> tuple[Path, Path]:
    """For its temporary files; and the only directory that SQL could read and write files in."""
    data = placement.server_data(resource)
    return data / "tmp", data / "none"


def configuration(resource: Resource, placement: Placement) -> str:
    """my.cnf: TLS 1.3, no other way in, nothing of the host's."""
    own, name = placement.credentials(resource.name), resource.name
    papers = (own / BUNDLE, own / CERTIFICATE, own / PRIVATE_KEY)
    temporary, nothing = scratch(placement, name)
    return (
        "[mariadbd]\n"
        f"datadir = {cluster(placement, name)}\n"
        f"socket = {socket(placement, name)}\n"
        f"pid_file = {placement.server_data(name) / 'pid'}\n"
        f"tmpdir = {temporary}\n"
        "bind_address = 127.0.0.1\n"
        f"port = {resource.port}\n"
        f"{secure(tuple(map(str, papers)))}"
        f"secure_file_priv = {nothing}\n"
        f"max_connections = {declared(resource).connections}\n"
        # Or who breaks off a hundred handshakes has everybody behind the same proxy kept out.
        "max_connect_errors = 4294967295\n"
        # Of all services together: one took the usual 16,382. Each costs its session's memory.
        "max_prepared_stmt_count = 1048576\n"
        f"innodb_buffer_pool_size = {max(resource.limits.memory_bytes // 4, 16 << 20)}\n"
        "key_buffer_size = 1M\n"
        "aria_pagecache_buffer_size = 8M\n"
        + "".join(
            f"{name} = {size}\nmaximum_{name} = {size}\n"
            for name, size in (
                ("max_session_mem_used", SESSION_BYTES),
                ("tmp_memory_table_size", SORT_BYTES * 4),
                ("max_heap_table_size", SORT_BYTES * 4),
                ("sort_buffer_size", SORT_BYTES),
                ("join_buffer_size", SORT_BYTES),
            )
        )
    )


def secure(papers: tuple[str, ...]) -> str:
    """The lines that make a server ask who comes; ``papers``: roots, chain, key."""
    roots, chain, key = papers
    return (
        f"ssl_ca = {roots}\n"
        f"ssl_cert = {chain}\n"
        f"ssl_key = {key}\n"
        "tls_version = TLSv1.3\n"
        "require_secure_transport = ON\n"
        # An account's host is an address: no name server says who somebody is.
        "skip_name_resolve = ON\n"
        "local_infile = OFF\n"
        "symbolic_links = OFF\n"
        "event_scheduler = DISABLED\n"
        "performance_schema = OFF\n"
        "feedback = OFF\n"
        "skip_log_bin\n"
        "character_set_server = utf8mb4\n"
        # What each table has of its own: nobody guesses a name by other case.
        "lower_case_table_names = 0\n"
    )


def facts_of(plan: DatabasePlan) -> frozenset[Fact]:
    """All that must be so."""
    found = {fact(DATABASE, [plan.database])}
    if plan.ours:
        found.add(fact(ACCOUNT, OPERATOR, plugin="unix_socket"))
        found.add(fact(ACCOUNT, INTERNAL, plugin="mysql_native_password", account_locked=True))
    if plan.ours and plan.schema_file:
        found.add(fact(SCHEMA, [plan.schema_file], applied=True))
    for account in plan.accounts:
        who = (account.name, plan.host)
        found.add(
            fact(
                ACCOUNT,
                who,
                plugin="mysql_native_password",
                ssl_type=3,
                x509_subject=account.subject,
                max_user_connections=account.connections,
            )
        )
        on: dict[tuple[str, ...], set[str]] = {}
        for one in account.grants:
            column = ("column", one.column) if one.column else ("table", "")
            place = (*who, column[0], plan.database, one.table, column[1])
            on.setdefault(place, set()).add(one.privilege)
        found |= {fact(GRANT, key, privileges=privileges(words)) for key, words in on.items()}
    return frozenset(found)


def privileges(words: set[str]) -> str:
    """How a set of them stands in a fact."""
    return ", ".join(sorted(words))


def account_statements(account: Account, host: str) -> Iterator[str]:
    """Makes the account, or an account of that name what it must be."""
    name = who((account.name, host))
    papers = (
        "IDENTIFIED VIA mysql_native_password USING '' "
        f"REQUIRE SUBJECT {literal(account.subject)} "
        "WITH MAX_QUERIES_PER_HOUR 0 MAX_UPDATES_PER_HOUR 0 MAX_CONNECTIONS_PER_HOUR 0 "
        f"MAX_USER_CONNECTIONS {account.connections} MAX_STATEMENT_TIME 0"
    )
    yield f"CREATE USER IF NOT EXISTS {name} {papers}"  # never without what it requires
    yield f"ALTER USER {name} {papers} ACCOUNT UNLOCK"
    yield f"REVOKE ALL PRIVILEGES ON *.* FROM {name}"
    yield f"REVOKE GRANT OPTION ON *.* FROM {name}"
    yield f"SET DEFAULT ROLE NONE FOR {name}"


def table_statement(word: str, key: tuple[str, ...], words: set[str]) -> str:
    """``GRANT`` or ``REVOKE`` for a fact about a table or column."""
    user, host, _, database, table, column = key
    on = f"({identifier(column)})" if column else ""
    what = ", ".join(f"{one.upper()} {on}".strip() for one in sorted(words))
    to = "TO" if word == "GRANT" else "FROM"
    return f"{word} {what} ON {identifier(database)}.{identifier(table)} {to} {who((user, host))}"


def who(account: tuple[str, str]) -> str:
    """An account in SQL."""
    return "@".join(map(literal, account))


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name in SQL."""
    return "`" + name.replace("`", "``") + "`"


def render(system: System, resource: Resource) -> Mapping[str, str]:
    """Configuration and SQL for the administrator of a server that others run."""
    plan, directory = grants_of(system, resource), "/etc/mysql/tls"
    papers = tuple(f"{directory}/{name}" for name in (BUNDLE, CERTIFICATE, PRIVATE_KEY))
    statements = [f"CREATE DATABASE IF NOT EXISTS {identifier(plan.database)}"]
    for account in plan.accounts:
        statements += account_statements(account, ANYWHERE)
    for one in sorted(facts_of(plan)):
        if one.kind == GRANT:
            words = set(dict(one.value)["privileges"].split(", "))
            statements.append(table_statement("GRANT", one.key, words))
    return {
        CONFIGURATION: "[mariadbd]\n" + secure(papers),
        OPENSSL: f"# OPENSSL_CONF of the server's environment names this file.\n{NO_TICKETS}",
        "grants.sql": "".join(f"{statement};\n" for statement in statements),
    }


SYSTEM_DATABASES = ("information_schema", "mysql", "performance_schema", "sys", OUR_DATABASE)
