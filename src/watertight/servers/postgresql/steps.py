"""What must be done so that a server is as planned: found, and wanted → statements. Pure.

The same steps are what `apply` executes and what `drift` tells, each in words of its own: what was
done to mend a thing reads as the contrary of what is wrong with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from watertight.model.document import quoted
from watertight.model.nearest import did_you_mean
from watertight.servers.postgresql.catalog import (
    Found,
    FoundRole,
    Membership,
    Owned,
    Preset,
)
from watertight.servers.postgresql.compile import (
    NOBODY,
    OPERATOR,
    OWNER,
    DatabasePlan,
)
from watertight.servers.postgresql.declaration import (
    DEFAULT_SCHEMA,
    OUR_SCHEMA,
    Kind,
)
from watertight.servers.postgresql.fence import FENCE

GRANTORS_SINCE = 160_000
"""A membership is known by who granted it since 16."""
MAY_LOG_IN = frozenset({"rolcanlogin"})
NOTHING: frozenset[str] = frozenset()
NO_LIMIT = -1
IS_OWNER = frozenset({"rolinherit"})
"""It is a member of one role alone, ``pg_database_owner``, to which ``public`` belongs."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement, and what it changes in a person's words."""

    says: str
    """Once it is done: ``granted: …``."""
    sql: str
    found: str = ""
    """As long as it is not: ``missing: …``."""
    ends: str | None = None
    """The role whose sessions hold rights that they should not: they are ended."""
    thing: str = ""
    """What a privilege is about, as SQL."""


FENCED = Step(
    "what services may not build: refused",
    FENCE,
    found="what services may not build: not refused",
)


def identifier(name: str) -> str:
    """A name as SQL: exact, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL (``standard_conforming_strings`` is on)."""
    return "'" + text.replace("'", "''") + "'"


def role_steps(found: Found, plan: DatabasePlan) -> Iterator[Step]:
    """The roles, with exactly their attributes; whom nobody declared is dropped or disabled."""
    logins = {role.name for role in plan.roles}
    yield from _role(found.roles.get(OWNER), OWNER, IS_OWNER)
    for role in sorted(plan.roles, key=lambda role: role.name):
        yield from _role(found.roles.get(role.name), role.name, MAY_LOG_IN, role.connections)
    for membership in sorted(found.memberships):
        yield _leave(found, membership)
    for name, other in sorted(found.roles.items()):
        if name in logins or name == OWNER:
            continue
        if other.owns or other.elsewhere:
            yield from _role(other, name, NOTHING)
        else:
            yield drop(name)


def _role(
    found: FoundRole | None, name: str, attributes: frozenset[str], connections: int = NO_LIMIT
) -> Iterator[Step]:
    limit = f"CONNECTION LIMIT {connections}"
    if found is None:
        yield Step(
            f"role {name} made",
            f"CREATE ROLE {identifier(name)} {_attributes(attributes)} {limit}",
            found=f"missing: role {name}",
        )
    elif found.attributes != attributes or found.limited:
        now = ", ".join(sorted(found.attributes ^ attributes)) or "password or end"
        yield Step(
            f"role {name} put right ({now})",
            f"ALTER ROLE {identifier(name)} {_attributes(attributes)} "
            f"{limit} PASSWORD NULL VALID UNTIL 'infinity'",
            found=f"role {name} is not as declared ({now})"
            if attributes
            else f"not declared: role {name} ({now})",
            ends=name,
        )
    elif found.connections != connections:
        # Whoever is in stays: to have too many sessions is not to have too many rights.
        now = f"connections: {found.connections}, should be {connections}"
        yield Step(
            f"role {name} put right ({now})",
            f"ALTER ROLE {identifier(name)} {limit}",
            found=f"role {name} is not as declared ({now})",
        )


def preset_steps(found: Found, plan: DatabasePlan) -> Iterator[Step]:
    """What sessions begin with: for our roles the declared limits, else nothing.

    A role may always set its own (``ALTER ROLE … SET``), and PostgreSQL cannot refuse it that.
    """
    right = {Preset(role.name, "", tuple(sorted(role.settings.items()))) for role in plan.roles}
    there = {(p.role, p.database): p for p in found.presets}
    for preset in sorted(right - found.presets):
        old = there.pop((preset.role, ""), Preset(preset.role, "", ()))
        odd = {name for name, _ in set(old.settings) ^ set(preset.settings)}
        sets = [
            f"ALTER ROLE {identifier(preset.role)} SET {_setting(name)} = {literal(value)}"
            for name, value in preset.settings
        ]
        names = ", ".join(sorted(odd))
        yield Step(
            f"settings of {_whose(preset)} put right ({names})",
            "; ".join([_reset(preset), *sets]),
            found=f"settings of {_whose(preset)} are not as declared ({names})",
        )
    known = {(p.role, p.database) for p in right}
    for preset in sorted(p for p in there.values() if (p.role, p.database) not in known):
        names = ", ".join(name for name, _ in preset.settings)
        yield Step(
            f"settings of {_whose(preset)} taken back ({names})",
            _reset(preset),
            found=f"not declared: settings of {_whose(preset)} ({names})",
        )


def _whose(preset: Preset) -> str:
    who = f"role {preset.role}" if preset.role else "everybody"
    return f"{who} in database {preset.database}" if preset.database else who


def _reset(preset: Preset) -> str:
    where = f" IN DATABASE {identifier(preset.database)}" if preset.database else ""
    who = identifier(preset.role) if preset.role else "ALL"
    return f"ALTER ROLE {who}{where} RESET ALL"


def _setting(name: str) -> str:
    return ".".join(map(identifier, name.split(".")))


def _attributes(has: frozenset[str]) -> str:
    words = {
        "rolsuper": "SUPERUSER",
        "rolinherit": "INHERIT",
        "rolcreaterole": "CREATEROLE",
        "rolcreatedb": "CREATEDB",
        "rolcanlogin": "LOGIN",
        "rolreplication": "REPLICATION",
        "rolbypassrls": "BYPASSRLS",
    }
    return " ".join(word if name in has else f"NO{word}" for name, word in words.items())


def disable(name: str) -> str:
    """The statement after which nobody can log in as ``name``."""
    return f"ALTER ROLE {identifier(name)} NOLOGIN"


def drop(name: str) -> Step:
    """A role that owns nothing goes, with all that was granted to it."""
    role = identifier(name)
    return Step(
        f"role {name} dropped",
        f"DROP OWNED BY {role}; DROP ROLE {role}",
        found=f"not declared: role {name}",
        ends=name,
    )


def _leave(found: Found, membership: Membership) -> Step:
    grantor = ""
    if found.version >= GRANTORS_SINCE and membership.grantor:
        grantor = f" GRANTED BY {identifier(membership.grantor)}"
    return Step(
        f"role {membership.member} taken out of {membership.role}",
        f"REVOKE {identifier(membership.role)} FROM {identifier(membership.member)}"
        f"{grantor} CASCADE",
        found=f"not declared: role {membership.member} is in {membership.role}",
        ends=membership.member,
    )


def ground_steps(found: Found, plan: DatabasePlan) -> Iterator[Step]:
    """The database's owner, its extensions and schemas, and what belongs to whom."""
    if found.owner != OWNER:
        yield Step(
            f"database {plan.name} given to {OWNER}",
            f"ALTER DATABASE {identifier(plan.name)} OWNER TO {identifier(OWNER)}",
            found=f"database {plan.name} is {found.owner}'s, not {OWNER}'s",
        )
    schemas = {key[1] for key in found.objects if key[0] is Kind.SCHEMA}
    for schema in sorted({DEFAULT_SCHEMA, *plan.schemas} - schemas):
        yield Step(
            f"schema {schema} made",
            f"CREATE SCHEMA {identifier(schema)} AUTHORIZATION {identifier(OWNER)}",
            found=f"missing: schema {schema}",
        )
    if OUR_SCHEMA not in schemas:
        yield Step(
            f"schema {OUR_SCHEMA} made",
            f"CREATE SCHEMA {OUR_SCHEMA} AUTHORIZATION {identifier(OPERATOR)}; "
            f"CREATE TABLE {OUR_SCHEMA}.schema_files "
            "(name text PRIMARY KEY, sha256 text NOT NULL, at timestamptz DEFAULT now())",
            found=f"missing: schema {OUR_SCHEMA}",
        )
    for extension in plan.extensions:
        if extension in found.available_extensions - found.extensions:
            yield Step(
                f"extension {extension} made",
                f"CREATE EXTENSION {identifier(extension)} WITH SCHEMA {DEFAULT_SCHEMA}",
                found=f"missing: extension {extension}",
            )
    if not found.fenced:
        yield FENCED
    for table, key, owner in found.keys:
        yield Step(
            f"foreign key {key} of {table} dropped: it had code of {owner} run as others",
            f"ALTER {table} DROP CONSTRAINT {key}",
            found=f"foreign key {key} of {table} has code of {owner} run as others",
        )
    creates = {role.name: role.creates for role in plan.roles}
    left = [
        thing
        for thing in sorted(found.owned)
        if thing.owner in creates and thing.schema not in creates[thing.owner]
    ]
    if NOBODY not in found.roles and any(_heir(thing) == NOBODY for thing in left):
        yield from _role(None, NOBODY, NOTHING)
    yield from map(_given_back, left)


def _given_back(thing: Owned) -> Step:
    """Who owns a thing may do anything with it, so ownership is a grant as well."""
    heir = _heir(thing)
    return Step(
        f"{thing.what} of {thing.owner} given to {heir}",
        f"ALTER {thing.what} OWNER TO {identifier(heir)}",
        found=f"{thing.what} is {thing.owner}'s, who may make nothing there",
        ends=thing.owner,
    )


def _heir(thing: Owned) -> str:
    """Not the database's owner: a view or a function of a service's would then do as he may."""
    return OWNER if thing.what.startswith("SCHEMA ") else NOBODY


def missing_extension(found: Found, plan: DatabasePlan) -> tuple[str, str] | None:
    """What is wrong with an extension that this server does not have, and what to do."""
    for extension in plan.extensions:
        if extension not in found.available_extensions | found.extensions:
            return (
                f"This PostgreSQL has no extension {quoted(extension)}.",
                did_you_mean(extension, found.available_extensions)
                or "Install the package that brings it, or delete it.",
            )
    return None
