"""What keeps the owner from changing what is his: things of services that depend on it.

`fence` lets none be made; these are from before it, or made by hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from watertight.servers.postgresql.admin import Connection
from watertight.servers.postgresql.compile import OWNER
from watertight.servers.postgresql.reach import OWNERS
from watertight.servers.postgresql.steps import identifier
from watertight.servers.postgresql.told import LISTED, cut, some

_KEPT = {"0A000", "2BP01"}
"""feature_not_supported (a column that a view uses), dependent_objects_still_exist."""
_NOT_HIS = "must be owner of "
"""Altering a column also makes the foreign keys anew that refer to it."""
_DROPPED = {
    *("view", "materialized view", "function", "procedure", "aggregate", "index"),
    *("type", "operator", "rule", "trigger", "policy"),
}
"""Kinds that go by the statement of their own name."""


@dataclass(frozen=True, slots=True)
class Dependant:
    """One thing of a service's, as ``pg_identify_object`` names it."""

    kind: str
    identity: str
    names: Sequence[str]
    generated: bool
    """A default that is the expression of a generated column."""
    on: str
    owner: str

    def __str__(self) -> str:
        return f"{self.kind} {self.identity} of {self.owner} (uses {self.on})"

    @property
    def remedy(self) -> str:
        """The statement after which it does not depend on it; empty: there are several ways."""
        names = [identifier(name) for name in self.names]
        table, last = ".".join(names[:-1]), names[-1] if names else ""
        match self.kind:
            case "table constraint":
                return f"ALTER TABLE {table} DROP CONSTRAINT {last}"
            case "table column":
                return f"ALTER TABLE {table} ALTER {last} TYPE text"
            case "default value":
                what = "EXPRESSION" if self.generated else "DEFAULT"
                return f"ALTER TABLE {table} ALTER {last} DROP {what}"
        return f"DROP {self.kind.upper()} {self.identity}" if self.kind in _DROPPED else ""


def may_be_kept(error: psycopg.Error) -> bool:
    """Whether things that depend on others can be why it failed; messages are in English."""
    said = error.diag.message_primary or ""
    return error.sqlstate in _KEPT or said.startswith(_NOT_HIS)


async def dependants(connection: Connection) -> list[Dependant]:
    """All of them."""
    rows = await (await connection.execute(_DEPENDANTS.encode(), {"owner": OWNER})).fetchall()
    return [Dependant(*row) for row in rows]


def advice(found: Sequence[Dependant], detail: str) -> str:
    """What they are and what to do; of those that the server names, and what is used likewise."""
    used = {one.on for one in found if one.identity in detail}
    kept = [one for one in found if one.on in used] or found
    does = dict.fromkeys(one.remedy or f"drop {one.kind} {one.identity}" for one in kept)
    return (
        f"Things of services depend on what is the owner's: {some(map(str, kept))}. As the "
        f"server's superuser: {'; '.join(map(cut, list(does)[:LISTED]))}. (If the server does "
        "not come up, first with the schema file as it was.) Nothing was changed."
    )


_DEPENDANTS = f"""
{OWNERS}, found AS (
    SELECT CASE WHEN rulename = '_RETURN' THEN 'pg_class'::regclass ELSE d.classid END AS class,
        CASE WHEN rulename = '_RETURN' THEN ev_class ELSE d.objid END AS oid,
        CASE WHEN d.classid = 'pg_class'::regclass THEN d.objsubid ELSE 0 END AS sub,
        coalesce(attgenerated <> '', false) AS generated, mine.owner,
        pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) AS theirs
    FROM pg_depend d
    JOIN owners mine ON mine.class = d.classid AND mine.oid = d.objid
    JOIN owners theirs ON theirs.class = d.refclassid AND theirs.oid = d.refobjid
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_attribute a ON attrelid = adrelid AND attnum = adnum
    WHERE pg_get_userbyid(theirs.owner) = %(owner)s AND mine.owner >= 16384
    AND pg_get_userbyid(mine.owner) <> %(owner)s
)
SELECT i.type, i.identity, w.object_names, bool_or(generated), min(theirs), pg_get_userbyid(owner)
FROM found, pg_identify_object(class, oid, sub) i, pg_identify_object_as_address(class, oid, sub) w
GROUP BY 1, 2, 3, owner ORDER BY 2, 1
"""  # noqa: S608 - queries of ours
