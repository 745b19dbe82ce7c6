"""What things in the database do, not only who may use them: compared with what `apply` left.

A trigger, a rule, another query of a view or a function without its search path gives what no
privilege shows. `apply` keeps a digest of each definition in our own schema. What a service makes
of its own (a channel that grants `create`), and what comes with an extension, is not compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from watertight.servers.postgresql.admin import Connection
from watertight.servers.postgresql.compile import OWNER
from watertight.servers.postgresql.declaration import OUR_SCHEMA
from watertight.servers.postgresql.fence import EVENT_TRIGGER, FIRST

TABLE = f"{OUR_SCHEMA}.definitions"
MADE, CHANGED, GONE = "made", "changed", "removed"


@dataclass(frozen=True, slots=True)
class Definitions:
    """Thing → digest of its definition: as it is, and as `apply` left it."""

    now: Mapping[str, str]
    left: Mapping[str, str] | None
    """None: no `apply` of this kind of server has kept any."""
    slots: tuple[str, ...]
    """Replication slots: nobody declares one, and each keeps the log of changes for ever."""

    @property
    def outside(self) -> Mapping[str, str]:
        """Thing → what was done to it outside of `apply`."""
        if self.left is None:
            return {}
        found = {}
        for what in sorted(self.now.keys() | self.left.keys()):
            if what not in self.left:
                found[what] = MADE
            elif what not in self.now:
                found[what] = GONE
            elif self.now[what] != self.left[what]:
                found[what] = CHANGED
        return found


async def definitions(connection: Connection) -> Definitions:
    """Reads them; our sessions' search path is always the same, so the words are, too."""
    rows = await connection.execute(
        _NOW.encode(), {"owner": OWNER, "ours": OUR_SCHEMA, "fence": [EVENT_TRIGGER, FIRST]}
    )
    now = {str(what): str(digest) for what, digest in await rows.fetchall()}
    rows = await connection.execute(_SLOTS)
    slots = tuple(str(name) for (name,) in await rows.fetchall())
    rows = await connection.execute(f"SELECT to_regclass('{TABLE}') IS NOT NULL".encode())
    if await rows.fetchone() != (True,):
        return Definitions(now, None, slots)
    rows = await connection.execute(
        f"SELECT what, digest FROM {TABLE} WHERE major = %s".encode(),  # noqa: S608 - ours
        [_major(connection)],
    )
    left = {str(what): str(digest) for what, digest in await rows.fetchall()}
    return Definitions(now, left or None, slots)


async def keep(connection: Connection, wanted: Mapping[str, str]) -> None:
    """What the next look is compared with, within the transaction that is open."""
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS {TABLE} "
        "(what text PRIMARY KEY, major int NOT NULL, digest text NOT NULL)".encode()
    )
    await connection.execute(f"DELETE FROM {TABLE}".encode())  # noqa: S608 - ours
    async with connection.cursor() as cursor:
        await cursor.executemany(
            f"INSERT INTO {TABLE} VALUES (%s, %s, %s)".encode(),  # noqa: S608 - ours
            [(what, _major(connection), digest) for what, digest in wanted.items()],
        )


def _major(connection: Connection) -> int:
    """Another one words definitions otherwise."""
    return connection.info.server_version // 10_000


_SLOTS = b"SELECT slot_name FROM pg_replication_slots WHERE NOT temporary ORDER BY 1"
_NOW = r"""
WITH things AS (
    SELECT 'pg_proc'::regclass AS class, p.oid, pronamespace AS namespace, proowner AS owner,
        format('ROUTINE %%s', p.oid::regprocedure) AS what,
        CASE WHEN prokind = 'a' THEN (SELECT a::text FROM pg_aggregate a WHERE aggfnoid = p.oid)
        ELSE pg_get_functiondef(p.oid) END AS definition
    FROM pg_proc p WHERE p.oid >= 16384
    UNION ALL
    SELECT 'pg_class', oid, relnamespace, relowner, format('VIEW %%s', oid::regclass),
        concat(pg_get_viewdef(oid), reloptions::text)
    FROM pg_class WHERE relkind IN ('v', 'm') AND oid >= 16384
    UNION ALL
    SELECT 'pg_class', oid, relnamespace, relowner, format('ROW SECURITY OF %%s', oid::regclass),
        concat(relrowsecurity, relforcerowsecurity)
    FROM pg_class WHERE relrowsecurity OR relforcerowsecurity
    UNION ALL
    SELECT 'pg_class', c.oid, relnamespace, relowner, format('INDEX %%s', c.oid::regclass),
        pg_get_indexdef(c.oid)
    FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
    WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
    UNION ALL
    SELECT 'pg_rewrite', r.oid, relnamespace, relowner,
        format('RULE %%I ON %%s', rulename, c.oid::regclass),
        concat(pg_get_ruledef(r.oid), ev_enabled)
    FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class WHERE rulename <> '_RETURN'
    UNION ALL
    SELECT 'pg_trigger', t.oid, relnamespace, relowner,
        format('TRIGGER %%I ON %%s', tgname, c.oid::regclass),
        concat(pg_get_triggerdef(t.oid), tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
    WHERE NOT tgisinternal OR tgenabled <> 'O'  -- those of foreign keys can be switched off
    UNION ALL
    SELECT 'pg_policy', p.oid, relnamespace, relowner,
        format('POLICY %%I ON %%s', polname, c.oid::regclass),
        concat_ws('|', polcmd, polpermissive,
            (SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles r
             WHERE r.oid = ANY(polroles)),
            pg_get_expr(polqual, polrelid), '|', pg_get_expr(polwithcheck, polrelid))
    FROM pg_policy p JOIN pg_class c ON c.oid = polrelid
    UNION ALL
    SELECT 'pg_attrdef', d.oid, relnamespace, relowner,
        format('DEFAULT OF %%s.%%I', c.oid::regclass, attname),
        concat(pg_get_expr(adbin, adrelid), attgenerated)
    FROM pg_attrdef d JOIN pg_class c ON c.oid = adrelid
    JOIN pg_attribute a ON attrelid = adrelid AND attnum = adnum WHERE relkind <> 'v'
    UNION ALL
    SELECT 'pg_constraint', k.oid, connamespace, coalesce(relowner, typowner),
        format('CHECK %%I ON %%s', conname,
               coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text)),
        concat(pg_get_constraintdef(k.oid), convalidated)
    FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = conrelid
    LEFT JOIN pg_type t ON t.oid = contypid WHERE contype = 'c'
    UNION ALL
    SELECT 'pg_event_trigger', oid, NULL, evtowner, format('EVENT TRIGGER %%I', evtname),
        concat_ws('|', evtevent, evtfoid::regprocedure, evtenabled, evttags::text)
    FROM pg_event_trigger WHERE evtname <> ALL(%(fence)s)
    UNION ALL
    SELECT 'pg_publication', p.oid, NULL, pubowner, format('PUBLICATION %%I', pubname),
        concat_ws('|', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
            (SELECT string_agg(concat(schemaname, '.', tablename, attnames::text, rowfilter), ','
                               ORDER BY schemaname, tablename)
             FROM pg_publication_tables t WHERE t.pubname = p.pubname AND NOT puballtables))
    FROM pg_publication p
    UNION ALL
    SELECT 'pg_subscription', oid, NULL, subowner, format('SUBSCRIPTION %%I', subname),
        concat_ws('|', subenabled, subslotname, subpublications::text)
    FROM pg_subscription WHERE subdbid = (
        SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT 'pg_foreign_server', s.oid, NULL, srvowner, format('SERVER %%I', srvname),
        concat_ws('|', fdwname, srvtype, srvversion, srvoptions::text)
    FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = srvfdw
    UNION ALL
    SELECT 'pg_foreign_data_wrapper', oid, NULL, fdwowner,
        format('FOREIGN DATA WRAPPER %%I', fdwname),
        concat_ws('|', fdwhandler::regproc, fdwvalidator::regproc, fdwoptions::text)
    FROM pg_foreign_data_wrapper
    UNION ALL
    SELECT 'pg_cast', k.oid, nullif(typnamespace, 'pg_catalog'::regnamespace), typowner,
        format('CAST (%%s AS %%s)', castsource::regtype, casttarget::regtype),
        concat_ws('|', nullif(castfunc, 0)::regprocedure, castcontext, castmethod)
    FROM pg_cast k, LATERAL (  -- whoever owns one of its types may make it
        SELECT typnamespace, typowner FROM pg_type y JOIN pg_roles r ON r.oid = typowner
        WHERE y.oid IN (castsource, casttarget)
        ORDER BY typnamespace::regnamespace::text ~ '^pg_temp_' DESC,
            (rolsuper OR rolname = %(owner)s), y.oid DESC LIMIT 1) y
    WHERE k.oid >= 16384
    UNION ALL
    SELECT 'pg_operator', oid, oprnamespace, oprowner, format('OPERATOR %%s', oid::regoperator),
        concat_ws('|', oprcode::regproc, oprrest::regproc, oprjoin::regproc)
    FROM pg_operator WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_extension', oid, NULL, NULL, format('EXTENSION %%I', extname), extversion
    FROM pg_extension
    UNION ALL
    SELECT 'pg_proc', 0, NULL, NULL, 'ROUTINES OF pg_catalog',
        string_agg(md5(concat_ws('|', proname, prosrc, probin, prolang, prosecdef, proleakproof,
                                 proconfig::text)), ',' ORDER BY oid)
    FROM pg_proc WHERE oid < 16384
    UNION ALL
    SELECT 'pg_rewrite', 0, NULL, NULL, 'VIEWS OF pg_catalog AND information_schema',
        string_agg(md5(concat_ws('|', ev_class, ev_action)), ',' ORDER BY oid)
    FROM pg_rewrite WHERE oid < 16384
)
SELECT what, encode(sha256(convert_to(string_agg(definition, '|' ORDER BY definition), 'UTF8')),
                    'hex')
FROM things t LEFT JOIN pg_namespace n ON n.oid = namespace
LEFT JOIN pg_roles o ON o.oid = owner
WHERE coalesce(nspname, '') NOT IN ('pg_catalog', 'information_schema', 'pg_toast', %(ours)s)
AND coalesce(nspname, '') !~ '^pg_(temp|toast_temp)_'
AND (rolname IS NULL OR rolsuper OR rolname = %(owner)s)
-- Else a service's own: one that is revoked would bury in them what was done to the operator's.
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = t.class AND d.objid = t.oid
                AND t.oid <> 0 AND (d.deptype = 'e'
                    OR d.deptype = 'i' AND d.refclassid = 'pg_type'::regclass
                       AND t.class = 'pg_proc'::regclass))  -- a range type's constructors
GROUP BY what
"""
