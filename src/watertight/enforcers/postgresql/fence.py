"""What no service may build with what it is granted, though PostgreSQL has no privilege for it.

**Grants of its own.** Whoever owns a thing may give it to anybody: a channel that nobody declared,
until the next `apply` takes it back; and very many of these keep that busy for minutes.

**Very many things**, for the same reason.

**A foreign key that has its code run by others.** Who may `create` in a schema and has
`references` on another's table could otherwise

- refer to it by a column of a type of its own. Each check of the key then casts the value, by a
  function of the service's, with the rights of the *referenced* table's owner
  (src/backend/utils/adt/ri_triggers.c, RI_FKey_check);
- have its rows changed by ON DELETE CASCADE and the like. Before PostgreSQL 18 the triggers of its
  table then run as whoever deletes, deferred ones as whoever commits.

An event trigger of the operator's refuses all of it, in the statement that would do it. What his
schema file says, and what his functions do as himself, is his.
"""

from watertight.enforcers.postgresql.compile import OWNER
from watertight.enforcers.postgresql.declaration import OUR_SCHEMA

EVENT_TRIGGER = "watertight"
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

BODY = f"""
DECLARE key text; me oid; things bigint;
BEGIN
    SELECT oid INTO me FROM pg_roles
    WHERE rolname = current_user AND rolname <> '{OWNER}' AND NOT rolsuper;
    IF me IS NOT NULL AND tg_tag IN ('GRANT', 'ALTER DEFAULT PRIVILEGES') THEN
        RAISE EXCEPTION '% may give nothing to others', current_user
        USING ERRCODE = 'insufficient_privilege',
        HINT = 'Who may use what is declared in watertight.yaml: a channel, and what it grants.';
    END IF;
    IF me IS NOT NULL AND tg_tag NOT LIKE 'DROP %' THEN
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
ALTER EVENT TRIGGER {EVENT_TRIGGER} ENABLE ALWAYS
"""
FENCED = f"""
SELECT FROM pg_event_trigger e JOIN pg_proc p ON p.oid = evtfoid
JOIN pg_namespace n ON n.oid = pronamespace
WHERE evtname = '{EVENT_TRIGGER}' AND evtevent = 'ddl_command_end' AND evtenabled = 'A'
AND evttags IS NULL AND nspname = '{OUR_SCHEMA}' AND proname = 'fence' AND NOT prosecdef
AND proconfig = ARRAY['search_path={_PATH}'] AND prosrc = %(body)s
"""
