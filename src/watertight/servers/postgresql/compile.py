"""System → what each PostgreSQL server must be: its configuration files, roles and grants. Pure.

Who may come in is said twice, and both must agree: by ``pg_hba.conf`` with ``pg_ident.conf``
(this certificate's whole Subject, this role, this database, over TLS), and by the role itself
(it exists, it may log in, it may CONNECT).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from watertight.enforcers.resource import (
    BUNDLE,
    CERTIFICATE,
    PRIVATE_KEY,
    ServerPlan,
    managed,
)
from watertight.model.placement import Placement
from watertight.model.system import Position, Resource, System
from watertight.servers.postgresql.declaration import (
    KIND,
    MAINTAIN,
    Grant,
    Kind,
    channel_keys,
    declared,
    server_shares,
    session_memory_bytes,
)
from watertight.servers.postgresql.limits import (
    DEFAULT_SHARE,
    PARALLEL_WORKERS,
    RESERVED,
    SERVER_CONNECTIONS,
    VACUUM_WORKERS,
    all_sessions_bytes,
    leap_bytes,
    settings,
)
from watertight.servers.postgresql.locks import locks_per_transaction
from watertight.servers.postgresql.uses import granted

OPERATOR = "watertight_operator"
"""The superuser, for us alone. No service can have this name: theirs hold no underscore."""
OWNER = "watertight_owner"
"""Owns the database and what its schema file makes; nobody logs in as it."""
NOBODY = "watertight_nobody"
"""Has what services made where they may make nothing any more; may itself do nothing."""
CONFIGURATION, ACCESS, IDENTITIES = "postgresql.conf", "pg_hba.conf", "pg_ident.conf"
SERVICES_MAP, OPERATOR_MAP = "services", "operator"
LOCAL = "127.0.0.1"
USUAL_MAINTENANCE_BYTES = 64 << 20
"""PostgreSQL's own default."""
USUAL_STATISTICS, STATISTIC_BYTES = 100, 1_200_000
"""Likewise; and what one more costs ANALYZE, twice: 300 rows of 2 kB, the longest that are not cut
up (src/backend/commands/analyze.c)."""


@dataclass(frozen=True, slots=True)
class RolePlan:
    """What one service may do."""

    name: str
    grants: tuple[Grant, ...]
    originates: bool
    """Its proxy speaks TLS for it, which takes PostgreSQL 17."""
    at: Position
    connections: int
    """How many sessions it may have at once."""
    temporary: bool
    """It may make temporary tables."""
    advisory_locks: bool
    """It may take advisory locks: as declared, or because it would keep nobody else waiting."""
    settings: Mapping[str, str]
    """What its sessions begin with, exactly."""

    @property
    def creates(self) -> frozenset[str]:
        """The schemas in which it makes things of its own."""
        return frozenset(
            g.target.schema
            for g in self.grants
            if g.target.kind is Kind.SCHEMA and g.privilege == "create"
        )

    @property
    def maintains(self) -> bool:
        """Whether it is granted what takes PostgreSQL 17."""
        return any(g.privilege == MAINTAIN for g in self.grants)


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """The one database of a server, and who may do what in it."""

    name: str
    schema_file: str | None
    """Relative to the declaration."""
    extensions: tuple[str, ...]
    roles: tuple[RolePlan, ...]
    session_bytes: int
    """Own memory that each process of the server may take, where we run it."""
    session_most_bytes: int
    """What each may ask the kernel for, before anybody has looked."""
    sessions_bytes: int
    """That of all together."""

    @property
    def schemas(self) -> frozenset[str]:
        """The schemas that channels grant by name: they are made if there are none."""
        return frozenset(
            g.target.schema for r in self.roles for g in r.grants if g.target.kind is Kind.SCHEMA
        )

    @property
    def creators(self) -> tuple[str, ...]:
        """The roles that may make things, in order."""
        return (OWNER, *(r.name for r in self.roles if r.creates))

    def pending(self, grant: Grant) -> bool:
        """Whether what ``grant`` is about may come later, by somebody who may make it."""
        return any(grant.target.schema in r.creates for r in self.roles)


def compile_postgresql(system: System, placement: Placement) -> Mapping[str, ServerPlan]:
    """The plan of each server that we run, by resource."""
    return {r.name: _plan(system, r, placement) for r in managed(system, KIND)}


def database_plan(system: System, resource: Resource) -> DatabasePlan:
    """Who may do what in the database of ``resource``."""
    shape = declared(resource)
    channels = sorted(system.incoming(resource.name), key=lambda c: c.source)
    share = server_shares(system, resource)
    alone = len(channels) == 1
    roles = tuple(
        RolePlan(
            c.source,
            granted(c),
            c.originate,
            c.at,
            connections=share[c.source],
            temporary=keys.temporary,
            advisory_locks=keys.advisory_locks or alone,
            settings=settings(keys),
        )
        for c, keys in ((c, channel_keys(c)) for c in channels)
    )
    session_bytes = session_memory_bytes(system, resource)
    return DatabasePlan(
        shape.database,
        shape.schema_file,
        tuple(sorted(shape.extensions)),
        roles,
        session_bytes,
        leap_bytes(
            session_bytes, max(share.values(), default=0), shape.connections, resource.limits
        ),
        all_sessions_bytes(shape.connections, resource.limits),
    )


def _plan(system: System, resource: Resource, placement: Placement) -> ServerPlan:
    database = database_plan(system, resource)
    directory = placement.server_directory(resource.name)
    set_to = {
        "listen_addresses": LOCAL,
        "port": str(resource.port),
        "unix_socket_directories": str(placement.server_sockets(resource.name)),
        "unix_socket_permissions": "0700",
        "hba_file": str(directory / ACCESS),
        "ident_file": str(directory / IDENTITIES),
        **tls_settings(placement.credentials(resource.name)),
        "max_connections": str(declared(resource).connections or SERVER_CONNECTIONS),
        "superuser_reserved_connections": str(RESERVED),
        "max_prepared_transactions": "0",
        **memory_settings(database.session_bytes),
        "max_locks_per_transaction": str(_locks(resource, database)),
        "log_min_error_statement": "panic",
        "log_destination": "stderr",
        "logging_collector": "off",
        "lc_messages": "C",
    }
    return ServerPlan(
        resource=resource.name,
        kind=KIND,
        port=resource.port,
        files={
            CONFIGURATION: configuration(set_to),
            ACCESS: access(database, local=True),
            IDENTITIES: identities(system.trust_domain, database),
        },
        grants=database,
        at=resource.at,
    )


def _locks(resource: Resource, database: DatabasePlan) -> int:
    total = declared(resource).connections or SERVER_CONNECTIONS
    most = max((role.connections for role in database.roles), default=DEFAULT_SHARE)
    return locks_per_transaction(total, max(most, DEFAULT_SHARE), database.session_bytes)


def memory_settings(session_bytes: int) -> Mapping[str, str]:
    """What must fit into the memory of one process, which a bound of the kernel's holds.

    Compiled queries (JIT) are off, whatever a session sets: there is no such provider. LLVM takes
    more than a small session has, and does not promise to live without it.
    """
    return {
        "max_worker_processes": str(PARALLEL_WORKERS + 1),  # the launcher of replication is one
        "max_parallel_workers": str(PARALLEL_WORKERS),
        "autovacuum_max_workers": str(VACUUM_WORKERS),
        "maintenance_work_mem": f"{min(USUAL_MAINTENANCE_BYTES, session_bytes // 3) >> 10}kB",
        "default_statistics_target": str(min(USUAL_STATISTICS, session_bytes // STATISTIC_BYTES)),
        "jit": "off",
        "jit_provider": "none",
    }


def tls_settings(credentials: Path) -> Mapping[str, str]:
    """TLS 1.3 only, with our SVID; clients are verified up to our roots.

    PostgreSQL gives out no session tickets, so no session is taken up again past its SVID's end.
    """
    return {
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.3",
        "ssl_cert_file": str(credentials / CERTIFICATE),
        "ssl_key_file": str(credentials / PRIVATE_KEY),
        "ssl_ca_file": str(credentials / BUNDLE),
        "ssl_crl_file": "",
        "password_encryption": "scram-sha-256",
        "log_connections": "on",
        "log_disconnections": "on",
    }


def configuration(settings: Mapping[str, str]) -> str:
    """Settings as ``postgresql.conf`` writes them (manual, section 20.1.2)."""
    lines = ["# Written by Watertight; what is changed here by hand is undone."]
    for name, value in settings.items():
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{escaped}'")
    return "\n".join(lines) + "\n"


def access(database: DatabasePlan, *, local: bool, address: str = "127.0.0.1/32") -> str:
    """``pg_hba.conf``: the first line that fits a connection decides (manual, section 21.1).

    ``clientname=DN`` compares the whole Subject, not its common name alone: a certificate of
    another unit (a server's own) or organisation is not its namesake.
    """
    lines = ["# Written by Watertight. In quotes, no name has a special meaning."]
    if local:
        lines.append(_columns("local", "all", _quoted(OPERATOR), "", f"peer map={OPERATOR_MAP}"))
    lines += [
        _columns(
            "hostssl",
            _quoted(database.name),
            _quoted(role.name),
            address,
            f"cert clientname=DN map={SERVICES_MAP}",
        )
        for role in database.roles
    ]
    lines += [
        _columns(how, to, "all", "" if how == "local" else "all", "reject")
        for how in (*(("local",) if local else ()), "hostnossl", "hostgssenc", "host")
        for to in ("all", "replication")
    ]
    return "\n".join(lines) + "\n"


def identities(trust_domain: str, database: DatabasePlan) -> str:
    """``pg_ident.conf``: the Subject (RFC 2253: the last part first) → the role."""
    lines = ["# Written by Watertight: map, who it is, the role."]
    for role in database.roles:
        subject = f"CN={role.name},OU=services,O={trust_domain}"
        lines.append(f"{SERVICES_MAP:<9} {_quoted(subject)} {_quoted(role.name)}")
    return "\n".join(lines) + "\n"


def operator_identity(user: str) -> str:
    """The line of ``pg_ident.conf`` by which this user of the machine is the superuser."""
    return f"{OPERATOR_MAP:<9} {_quoted(user)} {_quoted(OPERATOR)}\n"


def _columns(how: str, database: str, role: str, address: str, method: str) -> str:
    return f"{how:<10} {database:<14} {role:<24} {address:<14} {method}"


def _quoted(name: str) -> str:
    """Names were checked: none holds a quote or the end of a line."""
    return f'"{name}"'


def wanted(plan: DatabasePlan) -> Iterator[tuple[RolePlan, Grant]]:
    """Every grant with whose it is."""
    for role in plan.roles:
        for grant in role.grants:
            yield role, grant
