"""Who may what in a database: what is declared, what is there, and the statements between. Pure."""

from dataclasses import dataclass

from watertight.model.document import quoted
from watertight.model.nearest import did_you_mean, nearest
from watertight.servers.postgresql.catalog import Found, Held
from watertight.servers.postgresql.compile import NOBODY, OWNER, DatabasePlan, RolePlan, wanted
from watertight.servers.postgresql.declaration import MAINTAIN, MAINTAIN_SINCE, Grant, Kind
from watertight.servers.postgresql.steps import FENCED, Step, identifier

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
class Absent:
    """A grant about something that is not there."""

    role: RolePlan
    grant: Grant
    message: str
    remedy: str
    comes: bool = True
    """Somebody may make it, if he may create there."""


def grant_steps(found: Found, plan: DatabasePlan) -> tuple[list[Step], list[Absent]]:
    """What is granted too much, then what too little; and what cannot be granted yet."""
    rights, absent = _wanted(found, plan)
    extra, missing = found.held - rights, rights - found.held
    return [*map(_revoke, sorted(extra)), *map(grant_step, sorted(missing))], absent


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
        comes=False,
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
    whose = held.grantee or "everybody"
    return Step(
        f"revoked: {says(held)} from {whose}",
        sql,
        found=f"not declared: {says(held)} for {whose}",
        thing=held.what,
    )


def grant_step(held: Held) -> Step:
    """Gives one privilege."""
    sql = _statement(held, f"GRANT {_privilege(held)}", f"TO {_to(held)}")
    whose = held.grantee or "everybody"
    return Step(
        f"granted: {says(held)} to {whose}",
        sql,
        found=f"missing: {says(held)} for {whose}",
        thing=held.what,
    )


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


def closing_steps(found: Found, plan: DatabasePlan) -> list[Step]:
    """What must be in force before a schema file runs: for all, whenever they began.

    By what is taken here somebody could put things where the file finds them.
    """
    steps = [] if found.fenced else [FENCED]
    rights, _ = _wanted(found, plan)
    owned = {thing.what for thing in found.owned if thing.owner != OWNER}
    return steps + [
        _revoke(held)
        for held in sorted(found.held - rights)
        if held.privilege == "CREATE"
        or (held.privilege == "TRIGGER" and held.what.startswith("TABLE "))
        if held.what not in owned and held.grantee != NOBODY
    ]
