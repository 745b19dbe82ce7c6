"""What must be done so that a server is as planned: found, and wanted → statements. Pure.

The same steps are what `apply` executes and what `drift` tells.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from watertight.enforcers.postgresql.catalog import (
    Found,
    FoundRole,
    Held,
    Membership,
    Owned,
    Preset,
)
from watertight.enforcers.postgresql.compile import (
    NOBODY,
    OPERATOR,
    OWNER,
    DatabasePlan,
    RolePlan,
    wanted,
)
from watertight.enforcers.postgresql.declaration import (
    DEFAULT_SCHEMA,
    MAINTAIN,
    MAINTAIN_SINCE,
    OUR_SCHEMA,
    Grant,
    Kind,
)
from watertight.enforcers.postgresql.fence import FENCE
from watertight.model.document import quoted
from watertight.model.nearest import did_you_mean, nearest

GRANTORS_SINCE = 160_000
"""A membership is known by who granted it since 16."""
MAY_LOG_IN = frozenset({"rolcanlogin"})
NOTHING: frozenset[str] = frozenset()
NO_LIMIT = -1
IS_OWNER = frozenset({"rolinherit"})
"""It is a member of one role alone, ``pg_database_owner``, to which ``public`` belongs."""
LANGUAGES = ("plpgsql", "sql")
_DEFAULT_KINDS = {
    "r": "TABLES",
    "S": "SEQUENCES",
    "f": "FUNCTIONS",
    "T": "TYPES",
    "n": "SCHEMAS",
    "L": "LARGE OBJECTS",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One statement, and what it changes in a person's words."""

    says: str
    sql: str
    ends: str | None = None
    """The role whose sessions hold rights that they should not: they are ended."""
    thing: str = ""
    """What a privilege is about, as SQL."""


_FENCED = Step("what services may not build: refused", FENCE)


@dataclass(frozen=True, slots=True)
class Absent:
    """A grant about something that is not there."""

    role: RolePlan
    grant: Grant
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.grant} to {self.role.name}: {self.message}"


def identifier(name: str) -> str:
    """A name as SQL: exact, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL (``standard_conforming_strings`` is on)."""
    return "'" + text.replace("'", "''") + "'"


# --- roles, and what belongs to them ------------------------------------------------------------


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
        )
    elif found.attributes != attributes or found.limited:
        now = ", ".join(sorted(found.attributes ^ attributes)) or "password or end"
        yield Step(
            f"role {name} put right ({now})",
            f"ALTER ROLE {identifier(name)} {_attributes(attributes)} "
            f"{limit} PASSWORD NULL VALID UNTIL 'infinity'",
            ends=name,
        )
    elif found.connections != connections:
        # Whoever is in stays: to have too many sessions is not to have too many rights.
        yield Step(
            f"role {name} put right (connections: {found.connections}, should be {connections})",
            f"ALTER ROLE {identifier(name)} {limit}",
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
        yield Step(
            f"settings of {_whose(preset)} put right ({', '.join(sorted(odd))})",
            "; ".join([_reset(preset), *sets]),
        )
    known = {(p.role, p.database) for p in right}
    for preset in sorted(p for p in there.values() if (p.role, p.database) not in known):
        names = ", ".join(name for name, _ in preset.settings)
        yield Step(f"settings of {_whose(preset)} taken back ({names})", _reset(preset))


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
    return Step(f"role {name} dropped", f"DROP OWNED BY {role}; DROP ROLE {role}", ends=name)


def _leave(found: Found, membership: Membership) -> Step:
    grantor = ""
    if found.version >= GRANTORS_SINCE and membership.grantor:
        grantor = f" GRANTED BY {identifier(membership.grantor)}"
    return Step(
        f"role {membership.member} taken out of {membership.role}",
        f"REVOKE {identifier(membership.role)} FROM {identifier(membership.member)}"
        f"{grantor} CASCADE",
        ends=membership.member,
    )


def ground_steps(found: Found, plan: DatabasePlan) -> Iterator[Step]:
    """The database's owner, its extensions and schemas, and what belongs to whom."""
    if found.owner != OWNER:
        yield Step(
            f"database {plan.name} given to {OWNER}",
            f"ALTER DATABASE {identifier(plan.name)} OWNER TO {identifier(OWNER)}",
        )
    schemas = {key[1] for key in found.objects if key[0] is Kind.SCHEMA}
    for schema in sorted({DEFAULT_SCHEMA, *plan.schemas} - schemas):
        yield Step(
            f"schema {schema} made",
            f"CREATE SCHEMA {identifier(schema)} AUTHORIZATION {identifier(OWNER)}",
        )
    if OUR_SCHEMA not in schemas:
        yield Step(
            f"schema {OUR_SCHEMA} made",
            f"CREATE SCHEMA {OUR_SCHEMA} AUTHORIZATION {identifier(OPERATOR)}; "
            f"CREATE TABLE {OUR_SCHEMA}.schema_files "
            "(name text PRIMARY KEY, sha256 text NOT NULL, at timestamptz DEFAULT now())",
        )
    for extension in plan.extensions:
        if extension in found.available_extensions - found.extensions:
            yield Step(
                f"extension {extension} made",
                f"CREATE EXTENSION {identifier(extension)} WITH SCHEMA {DEFAULT_SCHEMA}",
            )
    if not found.fenced:
        yield _FENCED
    for table, key, owner in found.keys:
        yield Step(
            f"foreign key {key} of {table} dropped: it had code of {owner} run as others",
            f"ALTER {table} DROP CONSTRAINT {key}",
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
        ends=thing.owner,
    )


def _heir(thing: Owned) -> str:
    """Not the database's owner: a view or a function of a service's would then do as he may."""
    return OWNER if thing.what.startswith("SCHEMA ") else NOBODY


def closing_steps(found: Found, plan: DatabasePlan) -> list[Step]:
    """What must be in force before a schema file runs: for all, whenever they began.

    By what is taken here somebody could put things where the file finds them.
    """
    steps = [] if found.fenced else [_FENCED]
    rights, _ = _wanted(found, plan)
    owned = {thing.what for thing in found.owned if thing.owner != OWNER}
    return steps + [
        _revoke(held)
        for held in sorted(found.held - rights)
        if held.privilege == "CREATE"
        or (held.privilege == "TRIGGER" and held.what.startswith("TABLE "))
        if held.what not in owned and held.grantee != NOBODY
    ]


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


# --- privileges ---------------------------------------------------------------------------------


def grant_steps(found: Found, plan: DatabasePlan) -> tuple[list[Step], list[Absent]]:
    """What is granted too much, then what too little; and what cannot be granted yet."""
    rights, absent = _wanted(found, plan)
    extra, missing = found.held - rights, rights - found.held
    return [*map(_revoke, sorted(extra)), *map(_grant, sorted(missing))], absent


def _wanted(found: Found, plan: DatabasePlan) -> tuple[set[Held], list[Absent]]:
    rights = {
        Held(f"LANGUAGE {language}", "", role, "USAGE")
        for language in LANGUAGES
        for role in plan.creators
    }
    rights |= {Held(found.database, "", role.name, "CONNECT") for role in plan.roles}
    rights |= {Held(found.database, "", r.name, "TEMPORARY") for r in plan.roles if r.temporary}
    rights |= {
        Held(routine, "", role.name, "EXECUTE")
        for routine in found.advisory_locks
        for role in plan.roles
        if role.advisory_locks
    }
    # It shows everybody what he may use, and nothing else; half the world's tools ask it.
    rights.add(Held("SCHEMA information_schema", "", "", "USAGE"))
    rights |= {Held(view, "", "", "SELECT") for view in found.readable_schema}
    # The checks of foreign keys look for a table as its owner.
    rights |= {
        Held(what, "", NOBODY, "USAGE")
        for thing in found.owned
        if thing.owner == NOBODY
        for what in found.objects.get((Kind.SCHEMA, thing.schema, ""), ())
    }
    absent = []
    for role, grant in wanted(plan):
        if grant.privilege == MAINTAIN and found.version < MAINTAIN_SINCE * 10_000:
            absent.append(_too_old(found, role, grant))
            continue
        targets = found.objects.get((grant.target.kind, grant.target.schema, grant.target.name), ())
        if not targets:
            absent.append(_not_there(found, role, grant))
        for what in targets:
            if grant.column and grant.column not in found.columns.get(what, frozenset()):
                absent.append(_no_column(found, role, grant, what))
            elif not _owns(found, role.name, what):
                column = grant.column or ""
                rights.add(Held(what, column, role.name, grant.privilege.upper()))
    return rights, absent


def _owns(found: Found, role: str, what: str) -> bool:
    """Who owns a thing has every right to it already; the catalogs list none of them."""
    return any(thing.owner == role and thing.what == what for thing in found.owned)


def _not_there(found: Found, role: RolePlan, grant: Grant) -> Absent:
    kind, schema, name = grant.target.kind, grant.target.schema, grant.target.name
    same = [f"{s}.{n}" if n else s for k, s, n in found.objects if k is kind]
    # The schema is no likeness: by its name alone, and only then in others.
    bare = nearest(name, [n for k, s, n in found.objects if k is kind and s == schema and n])
    near = f"Did you mean {quoted(f'{schema}.{bare}')}?" if name and bare else ""
    if not near:
        others = [f"{s}.{n}" for k, s, n in found.objects if n == name and s != schema and n]
        near = did_you_mean(str(grant.target), others if name else same)
    if not near and len(same) == 1:
        near = f"Did you mean {quoted(same[0])}? It is the only {kind}."
    return Absent(
        role,
        grant,
        f"there is no {kind} {quoted(str(grant.target))}.",
        near or "Let the resource's `schema` file make it, or delete the grant.",
    )


def _too_old(found: Found, role: RolePlan, grant: Grant) -> Absent:
    return Absent(
        role,
        grant,
        f"`{MAINTAIN}` needs PostgreSQL {MAINTAIN_SINCE}; this server is "
        f"{found.version // 10_000}.",
        "Delete the grant: here only a table's owner may maintain it.",
    )


def _no_column(found: Found, role: RolePlan, grant: Grant, what: str) -> Absent:
    return Absent(
        role,
        grant,
        f"{quoted(str(grant.target))} has no column {quoted(str(grant.column))}.",
        did_you_mean(str(grant.column), found.columns.get(what, frozenset()))
        or "Let the resource's `schema` file make it, or delete the grant.",
    )


def _revoke(held: Held) -> Step:
    sql = _statement(held, f"REVOKE {_privilege(held)}", f"FROM {_to(held)} CASCADE")
    return Step(f"revoked: {says(held)} from {held.grantee or 'everybody'}", sql, thing=held.what)


def _grant(held: Held) -> Step:
    sql = _statement(held, f"GRANT {_privilege(held)}", f"TO {_to(held)}")
    return Step(f"granted: {says(held)} to {held.grantee or 'everybody'}", sql, thing=held.what)


def _statement(held: Held, verb: str, whom: str) -> str:
    kind, _, rest = held.what.partition(" ")
    if kind != "DEFAULT":
        return f"{verb} ON {held.what} {whom}"
    letter, _, scope = rest.partition(" ")
    return f"ALTER DEFAULT PRIVILEGES {scope} {verb} ON {_DEFAULT_KINDS[letter]} {whom}"


def _privilege(held: Held) -> str:
    return held.privilege + (f" ({identifier(held.column)})" if held.column else "")


def _to(held: Held) -> str:
    return identifier(held.grantee) if held.grantee else "PUBLIC"


def says(held: Held) -> str:
    """A privilege in words: ``SELECT (name) on TABLE public.customers``."""
    option = " with grant option" if held.grantable else ""
    column = f" ({held.column})" if held.column else ""
    return f"{held.privilege}{column}{option} on {held.what}"
