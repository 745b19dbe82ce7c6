"""What no service may build with what it is granted, though PostgreSQL has no privilege for it.

**Grants of its own.** Whoever owns a thing may give it to anybody: a channel that nobody declared,
until the next `apply` takes it back; and very many of these keep that busy for minutes.

**Very many things**, for the same reason.

**What keeps the operator from changing what is his.** A view, a rule, a policy, a default, a column
of a table's row type, a function with an SQL body: PostgreSQL then refuses ALTER and DROP to the
owner of what they depend on (src/backend/catalog/dependency.c, tablecmds.c, ATPrepAlterColumnType).
Foreign keys are granted (`references`), and extensions belong to all.

**DROP OWNED**, which takes from the role what the operator set for it, its default privileges too.

**A foreign key that has its code run by others.** Who may `create` in a schema and has
`references` on another's table could otherwise

- refer to it by a column of a type of its own. Each check of the key then casts the value, by a
  function of the service's, with the rights of the *referenced* table's owner
  (src/backend/utils/adt/ri_triggers.c, RI_FKey_check);
- have its rows changed by ON DELETE CASCADE and the like. Before PostgreSQL 18 the triggers of its
  table then run as whoever deletes, deferred ones as whoever commits.

An event trigger of the operator's refuses all of it, in the statement that would do it; DROP OWNED
before it begins, for it locks all that there is. What his schema file says, and what his functions
do as himself, is his.
"""

from watertight.servers.postgresql.compile import OWNER
from watertight.servers.postgresql.declaration import OUR_SCHEMA

EVENT_TRIGGER = "watertight"
FIRST = "watertight_first"
"""As the other, but before the command."""
MOST_THINGS = 10_000
"""Tables, views, sequences, types, functions of one service; indexes and columns do not count."""
TRIGGERS_RUN_AS_THEIR_CAUSE_SINCE = 180_000

KEYS = f"""
SELECT k.oid, conname, conrelid, conparentid, t.relowner
FROM pg_constraint k JOIN pg_class t ON t.oid = conrelid JOIN pg_class r ON r.oid = confrelid
WHERE contype = 'f' AND t.relowner <> r.relowner
AND t.relowner >= 16384 AND pg_get_userbyid(t.relowner) <> '{OWNER}'
AND (
    current_setting('server_version_num')::int < {TRIGGERS_RUN_AS_THEIR_CAUSE_SINCE}
    AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
    OR EXISTS (
        SELECT FROM unnest(conkey, confkey) u(here, there)
        JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = here
        JOIN pg_attribute b ON b.attrelid = confrelid AND b.attnum = there
        JOIN pg_type y ON y.oid = a.atttypid
        WHERE a.atttypid <> b.atttypid AND typowner >= 16384 AND typowner <> r.relowner))
"""  # noqa: S608 - a name of ours
"""Such keys; those of the partitions of a table have its own as parent."""

_OWNER_OF = {
    "pg_class": "relowner",
    "pg_type": "typowner",
    "pg_proc": "proowner",
    "pg_operator": "oprowner",
    "pg_opclass": "opcowner",
    "pg_opfamily": "opfowner",
    "pg_collation": "collowner",
    "pg_ts_config": "cfgowner",
    "pg_ts_dict": "dictowner",
    "pg_foreign_server": "srvowner",
}
_OWNERS = " ".join(
    f"WHEN '{catalog}'::regclass THEN (SELECT {owner} FROM {catalog} WHERE oid = refobjid)"  # noqa: S608
    for catalog, owner in _OWNER_OF.items()
)
_HANGS_ON_A_TABLE = " UNION ALL ".join(
    f"SELECT '{catalog}'::regclass, {found} FROM {catalog} WHERE {table} = made.objid"  # noqa: S608
    for catalog, found, table in (
        ("pg_rewrite", "oid", "ev_class"),
        ("pg_attrdef", "oid", "adrelid"),
        ("pg_constraint", "oid", "conrelid"),
        ("pg_trigger", "oid", "tgrelid"),
        ("pg_policy", "oid", "polrelid"),
        ("pg_statistic_ext", "oid", "stxrelid"),
    )
)
_PIN = f"""
SELECT pg_describe_object(o.class, o.oid, objsubid) AS mine,
    pg_describe_object(refclassid, refobjid, refobjsubid) AS theirs
FROM (
    SELECT made.classid, made.objid
    UNION ALL SELECT 'pg_class'::regclass, typrelid FROM pg_type
        WHERE made.classid = 'pg_type'::regclass AND oid = made.objid AND typrelid <> 0
    UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint
        WHERE made.classid = 'pg_type'::regclass AND contypid = made.objid
    UNION ALL SELECT * FROM (
        SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = made.objid
        UNION ALL {_HANGS_ON_A_TABLE}
    ) t WHERE made.classid = 'pg_class'::regclass
) o(class, oid)
CROSS JOIN LATERAL (
    SELECT *, xmin AS since FROM pg_depend WHERE classid = o.class AND objid = o.oid OFFSET 0
) d
WHERE refobjid >= 16384 AND age(since) <= 0 AND CASE refclassid {_OWNERS} END <> me
AND NOT EXISTS (
    SELECT FROM pg_constraint k
    WHERE o.class = 'pg_constraint'::regclass AND k.oid = o.oid AND contype = 'f')
AND NOT EXISTS (
    WITH RECURSIVE whole(class, oid) AS (
        SELECT refclassid, refobjid
        UNION SELECT i.refclassid, i.refobjid FROM whole w
        JOIN pg_depend i ON i.classid = w.class AND i.objid = w.oid AND i.deptype = 'i')
    SELECT FROM whole w JOIN pg_depend e ON e.classid = w.class AND e.objid = w.oid
    WHERE e.deptype = 'e')
LIMIT 1
"""  # noqa: S608 - names of ours
"""Of the thing ``made``, what depends since this transaction on a thing that is not of ``me``.

Only since then (``age``: of what is written in it, in savepoints too, it is 0 or less): what is
from before must not keep a service from altering its tables. OFFSET has each thing looked up by
the index, whatever the planner expects of how many there are. The array and the row type of an
extension's type or table are parts of those.
"""

BODY = f"""
DECLARE key text; me oid; things bigint; made record; pin record;
BEGIN
    SELECT oid INTO me FROM pg_roles
    WHERE rolname = current_user AND rolname <> '{OWNER}' AND NOT rolsuper;
    IF me IS NOT NULL AND tg_tag IN ('GRANT', 'ALTER DEFAULT PRIVILEGES') THEN
        RAISE EXCEPTION '% may give nothing to others', current_user
        USING ERRCODE = 'insufficient_privilege',
        HINT = 'Who may use what is declared in watertight.yaml: a channel, and what it grants.';
    END IF;
    IF me IS NOT NULL AND tg_tag IN ('DROP OWNED', 'REASSIGN OWNED') THEN
        RAISE EXCEPTION '% may not use %', current_user, tg_tag
        USING ERRCODE = 'insufficient_privilege', HINT = 'Drop what it made, thing by thing.';
    END IF;
    IF tg_event = 'ddl_command_start' THEN
        RETURN;
    END IF;
    IF me IS NOT NULL AND tg_tag NOT LIKE 'DROP %' THEN
        FOR made IN SELECT DISTINCT classid, objid FROM pg_event_trigger_ddl_commands()
        WHERE objid IS NOT NULL LOOP
            {_PIN} INTO pin;
            IF FOUND THEN
                RAISE EXCEPTION '% would depend on %, which is not of %',
                    pin.mine, pin.theirs, current_user
                USING ERRCODE = 'insufficient_privilege',
                HINT = 'Its owner could then not change it. The schema file of the operator may '
                       'make what depends on it.';
            END IF;
        END LOOP;
        SELECT count(*) INTO things FROM (
            SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = me
            AND deptype = 'o' LIMIT {MOST_THINGS + 1}) t;
        IF things > {MOST_THINGS} THEN
            RAISE EXCEPTION '% has more than {MOST_THINGS} tables, functions and the like',
                current_user
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Drop what it does not need.';
        END IF;
    END IF;
    SELECT conname INTO key FROM ({KEYS}) k WHERE relowner = current_user::regrole LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the foreign key "%" would have code of % run by others', key, current_user
        USING ERRCODE = 'insufficient_privilege',
        HINT = 'Refer to another''s table by columns of the same types, without CASCADE, SET NULL '
               'and SET DEFAULT.';
    END IF;
END
"""  # noqa: S608 - queries of ours
_PATH = "pg_catalog, pg_temp"

FENCE = f"""
CREATE OR REPLACE FUNCTION {OUR_SCHEMA}.fence() RETURNS event_trigger LANGUAGE plpgsql
SECURITY INVOKER SET search_path = {_PATH} AS $fence${BODY}$fence$;
DROP EVENT TRIGGER IF EXISTS {EVENT_TRIGGER};
CREATE EVENT TRIGGER {EVENT_TRIGGER} ON ddl_command_end EXECUTE FUNCTION {OUR_SCHEMA}.fence();
ALTER EVENT TRIGGER {EVENT_TRIGGER} ENABLE ALWAYS;
DROP EVENT TRIGGER IF EXISTS {FIRST};
CREATE EVENT TRIGGER {FIRST} ON ddl_command_start WHEN TAG IN ('DROP OWNED')
EXECUTE FUNCTION {OUR_SCHEMA}.fence();
ALTER EVENT TRIGGER {FIRST} ENABLE ALWAYS
"""
FENCED = f"""
SELECT FROM pg_event_trigger e JOIN pg_proc p ON p.oid = evtfoid
JOIN pg_namespace n ON n.oid = pronamespace
WHERE (evtname, evtevent, coalesce(evttags, '{{}}')) IN (
    ('{EVENT_TRIGGER}', 'ddl_command_end', '{{}}'),
    ('{FIRST}', 'ddl_command_start', '{{DROP OWNED}}'))
AND evtenabled = 'A' AND nspname = '{OUR_SCHEMA}' AND proname = 'fence' AND NOT prosecdef
AND proconfig = ARRAY['search_path={_PATH}'] AND prosrc = %(body)s
HAVING count(*) = 2
"""
