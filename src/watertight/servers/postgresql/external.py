"""What the administrator of a server that we do not run must put in place. Pure."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from watertight.model.system import Resource, System
from watertight.servers.postgresql.compile import (
    ACCESS,
    CONFIGURATION,
    IDENTITIES,
    DatabasePlan,
    access,
    configuration,
    database_plan,
    identities,
    tls_settings,
)
from watertight.servers.postgresql.declaration import DEFAULT_SCHEMA, Grant, Kind
from watertight.servers.postgresql.steps import identifier, literal

CREDENTIALS = Path("watertight")
"""Relative to the server's data directory: where the administrator puts the server's SVID."""
GRANTS = "grants.sql"


def render(system: System, resource: Resource) -> Mapping[str, str]:
    """Files to hand over: settings, access rules, identities and SQL. Each may be put in twice."""
    plan = database_plan(system, resource)
    about = f"-- Written by Watertight. Run it as a superuser, in the database {plan.name}."
    return {
        CONFIGURATION: configuration(tls_settings(CREDENTIALS)),
        ACCESS: access(plan, local=False, address="all"),
        IDENTITIES: identities(system.trust_domain, plan),
        GRANTS: "\n".join((about, "BEGIN;", *statements(plan), "COMMIT;")) + "\n",
    }


def statements(plan: DatabasePlan) -> Iterator[str]:
    """SQL for one transaction: our roles have what channels grant them, and ``PUBLIC`` nothing."""
    database = identifier(plan.name)
    for role in plan.roles:
        name = identifier(role.name)
        yield (
            f"DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(role.name)}) "
            f"THEN CREATE ROLE {name}; END IF; END$$;"
        )
        yield (
            f"ALTER ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT "
            f"NOREPLICATION NOBYPASSRLS CONNECTION LIMIT {role.connections} PASSWORD NULL;"
        )
        yield f"ALTER ROLE {name} RESET ALL;"
        yield f"ALTER ROLE {name} IN DATABASE {database} RESET ALL;"
        for setting, value in role.settings.items():
            yield f"ALTER ROLE {name} SET {setting} = {literal(value)};"
    for extension in plan.extensions:
        yield f"CREATE EXTENSION IF NOT EXISTS {identifier(extension)};"
    whom = ", ".join(["PUBLIC", *(identifier(role.name) for role in plan.roles)])
    yield f"REVOKE ALL ON DATABASE {database} FROM {whom};"
    yield "REVOKE ALL ON LANGUAGE plpgsql, sql FROM PUBLIC;"
    for schema in sorted(
        {DEFAULT_SCHEMA, *(g.target.schema for r in plan.roles for g in r.grants)}
    ):
        yield from _closed(identifier(schema), whom)
    for role in plan.roles:
        may = "CONNECT, TEMPORARY" if role.temporary else "CONNECT"
        yield f"GRANT {may} ON DATABASE {database} TO {identifier(role.name)};"
        for grant in role.grants:
            yield f"GRANT {_privilege(grant)} ON {_object(grant)} TO {identifier(role.name)};"


def _closed(schema: str, whom: str) -> Iterator[str]:
    yield f"CREATE SCHEMA IF NOT EXISTS {schema};"
    yield f"REVOKE ALL ON SCHEMA {schema} FROM {whom};"
    for things in ("TABLES", "SEQUENCES", "ROUTINES"):
        yield f"REVOKE ALL ON ALL {things} IN SCHEMA {schema} FROM {whom} CASCADE;"


def _privilege(grant: Grant) -> str:
    column = f" ({identifier(grant.column)})" if grant.column else ""
    return grant.privilege.upper() + column


def _object(grant: Grant) -> str:
    target = grant.target
    if target.kind is Kind.SCHEMA:
        return f"SCHEMA {identifier(target.schema)}"
    word = "ROUTINE" if target.kind is Kind.FUNCTION else target.kind.upper()
    return f"{word} {identifier(target.schema)}.{identifier(target.name)}"
