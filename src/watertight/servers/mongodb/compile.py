"""What a server of FerretDB must be: its files, roles, collections and grants. Pure.

PostgreSQL says what each role may do with each collection, which is a table of its own; the guard
says who is which role, and hides what PostgreSQL shows to everybody (ADR 51).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from watertight.model.placement import Placement
from watertight.model.system import Resource, System
from watertight.servers.facts import Fact, fact
from watertight.servers.mongodb.declaration import MAX_CALLERS, declared, granted

OPERATOR, OWNER = "watertight_operator", "watertight_owner"
"""PostgreSQL's superuser, for us alone; and who owns all collections, for the guard. No service can
be called so: theirs hold no underscore."""
PUBLIC = "PUBLIC"
GUARD, GRANTS = "guard.json", "grants.json"
CONFIGURATION, ACCESS, IDENTITIES = "postgresql.conf", "pg_hba.conf", "pg_ident.conf"
FERRETDB_SOCKET, GUARD_SOCKET, POSTGRESQL_SOCKET = "ferretdb.sock", "guard.sock", ".s.PGSQL.5432"
POOL = 8
"""Connections to PostgreSQL that FerretDB keeps for each role; the guard says it, too."""
CONNECTIONS = POOL * (MAX_CALLERS + 1) + 10

SETTING, ROLE, DATABASE, COLLECTION, STRAY, GRANT = (
    "setting",
    "role",
    "database",
    "collection",
    "relation or function",
    "grant to",
)
KINDS = (SETTING, ROLE, DATABASE, COLLECTION, STRAY, GRANT)
"""Grants go before that on which they are, and before who has them."""
PRIVILEGES = {"find": "SELECT", "insert": "INSERT", "update": "UPDATE", "remove": "DELETE"}


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """What the server must hold, besides its files."""

    facts: frozenset[Fact]


def files(system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
    """See :meth:`~watertight.servers.kind.Server.files`."""
    own, sockets = (
        placement.server_directory(resource.name),
        placement.server_sockets(resource.name),
    )
    guard = {
        "address": f"127.0.0.1:{resource.port}",
        "trust_domain": system.trust_domain,
        "credentials": str(placement.credentials(resource.name)),
        "sockets": str(sockets),
        "database": declared(resource).database,
        "owner": OWNER,
        "grants": str(own / GRANTS),
    }
    may = {c.source: dict(granted(c).collections) for c in system.incoming(resource.name)}
    return {
        GUARD: json.dumps(guard, indent=1) + "\n",
        GRANTS: json.dumps(may, indent=1, sort_keys=True) + "\n",
        CONFIGURATION: _settings(own, sockets),
        # Nobody but the server's own user passes to where its only socket lies, nor may use it.
        ACCESS: "local postgres all trust\n",
        IDENTITIES: "",
    }


def _settings(own: Path, sockets: Path) -> str:
    return "".join(
        f"{name} = {_quoted(value)}\n"
        for name, value in {
            "listen_addresses": "",
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            "hba_file": str(own / ACCESS),
            "ident_file": str(own / IDENTITIES),
            "max_connections": str(CONNECTIONS),
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",
            "timezone": "UTC",
            "logging_collector": "off",
            "log_min_messages": "warning",
            # What a refused command was about stands in it.
            "log_min_error_statement": "panic",
            "max_prepared_transactions": "0",
            "wal_level": "minimal",
            "max_wal_senders": "0",
        }.items()
    )


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def plan_of(system: System, resource: Resource) -> DatabasePlan:
    """See :meth:`~watertight.servers.kind.Server.grants`."""
    return DatabasePlan(frozenset(_facts(system, resource)))


def role_fact(name: str, **differs: object) -> Fact:
    """A role that may log in, and has nothing of its own."""
    usual = {"login": True, "powers": False, "connections": -1, "settings": [], "member_of": []}
    return fact(ROLE, [name], **(usual | differs))


def _facts(system: System, resource: Resource) -> Iterator[Fact]:
    wanted = declared(resource)
    yield role_fact(OWNER)
    yield grant_fact(OWNER, "server", "", "", ["CONNECT", "CREATE"])
    yield fact(DATABASE, [wanted.database], owner=OWNER)
    for name in wanted.collections:
        yield fact(COLLECTION, [wanted.database, name], owner=OWNER)
    for channel in system.incoming(resource.name):
        yield role_fact(channel.source)
        yield grant_fact(channel.source, "server", "", "", ["CONNECT"])
        may = {
            name: [PRIVILEGES[action] for action in actions if action in PRIVILEGES]
            for name, actions in granted(channel).collections.items()
        }
        if any(may.values()):
            yield grant_fact(channel.source, "database", wanted.database, "", ["USAGE"])
        for name, privileges in may.items():
            if privileges:
                yield grant_fact(
                    channel.source, "collection", wanted.database, name, sorted(privileges)
                )


def grant_fact(who: str, on: str, schema: str, name: str, privileges: list[str]) -> Fact:
    """What one role may do with one thing; ``*`` behind a privilege: it may give it to others."""
    return fact(GRANT, [who, on, schema, name], privileges=privileges)
