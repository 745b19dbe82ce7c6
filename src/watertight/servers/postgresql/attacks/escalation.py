"""Becoming more than one is: other roles, the server's files and programs, its settings, others."""

from collections.abc import Iterator, Mapping, Sequence

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.servers.postgresql.attacks.attempts import (
    Attempt,
    all_refused,
    each_refused,
    identifier,
    session_of,
)
from watertight.servers.postgresql.attacks.dialect import MAKE
from watertight.servers.postgresql.attacks.logins import OPERATOR, OWNER
from watertight.servers.postgresql.attacks.privileges import PROBE, may
from watertight.servers.postgresql.attacks.scope import Scope
from watertight.servers.postgresql.declaration import DEFAULT_SCHEMA, OUR_SCHEMA, declared

PREDEFINED = (
    "pg_read_all_data",
    "pg_write_all_data",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_signal_backend",
    "pg_monitor",
    "pg_checkpoint",
)
"""Roles that every server since 15 has (manual, section 22.5)."""
OF_THE_SERVER = "SELECT pid FROM pg_stat_activity WHERE usesysid = 10 LIMIT 1"
"""10: the role that a server is born with (src/include/catalog/pg_authid.dat)."""
DEFINERS = """
SELECT p.oid::regprocedure::text,
    has_database_privilege(current_database(), 'TEMPORARY')
        AND coalesce(c.path, '') !~ 'pg_temp"?$'
    OR EXISTS (SELECT FROM pg_namespace n WHERE has_schema_privilege(n.oid, 'CREATE')
               AND (c.path IS NULL
                    OR nspname = ANY(string_to_array(replace(c.path, '"', ''), ', '))))
FROM pg_proc p LEFT JOIN LATERAL (
    SELECT substr(s, 13) AS path FROM unnest(proconfig) s WHERE s LIKE 'search_path=%'
) c ON true
WHERE prosecdef AND proowner <> current_user::regrole AND has_function_privilege(p.oid, 'EXECUTE')
"""
CREATABLE = """
SELECT v.name FROM pg_available_extension_versions v
JOIN pg_available_extensions e ON e.name = v.name AND e.default_version = v.version
WHERE e.installed_version IS NULL AND v.schema IS NULL AND v.requires IS NULL
ORDER BY NOT v.trusted, v.name LIMIT 1
"""
"""One that has no schema of its own: that would be judged before the right to create it."""
NO_SUCH_FUNCTION = frozenset({"42883"})


def probes(scope: Scope) -> Iterator[Probe]:
    """Each way up, for one channel; each tries several statements, and one is enough."""
    for name, (what, attempts) in _ways(scope).items():
        yield MAKE.attack(
            f"escalation.{name}",
            scope.login.channel,
            what,
            all_refused,
            scope.login,
            attempts,
        )
    if not scope.keys.temporary:
        yield MAKE.attack(
            "escalation.temporary-table",
            scope.login.channel,
            "CREATE TEMPORARY TABLE",
            all_refused,
            scope.login,
            [Attempt(f"CREATE TEMPORARY TABLE {PROBE} ()")],
        )
    yield MAKE.attack(
        "escalation.definer",
        scope.login.channel,
        "functions that run as their owner, and look for names where the caller can put some",
        _definer,
        scope,
    )
    yield MAKE.attack(
        "escalation.create-extension",
        scope.login.channel,
        "CREATE EXTENSION",
        _extension,
        scope,
    )
    yield MAKE.attack(
        "escalation.signal",
        scope.login.channel,
        "a process of the server's, interrupted",
        all_refused,
        scope.login,
        [Attempt("SELECT pg_cancel_backend({})", lookup=OF_THE_SERVER)],
    )


async def _definer(arena: Arena, scope: Scope) -> Observation:
    """Asked of the catalogs: to try it, one would have to know what the function is for."""
    async with session_of(arena, scope.login) as session:
        found = await session.query(DEFINERS)
    if found.sqlstate:
        return not_run(str(found))
    names = [str(name) for name, open_ in found.rows if open_ == "t"]
    if names:
        return served(f"{', '.join(names)}: SET search_path = <its schemas>, pg_temp is missing")
    return refused(f"{len(found.rows)} such functions, none of them where it may put anything")


async def _extension(arena: Arena, scope: Scope) -> Observation:
    """One that every owner may create, if there is one; and the right to, in any case."""
    may_create = may("has_database_privilege(current_database(), 'CREATE')")
    async with session_of(arena, scope.login) as session:
        attempts = [may_create]
        for (name,) in (await session.query(CREATABLE)).rows:
            sql = f"CREATE EXTENSION {identifier(str(name))} SCHEMA {DEFAULT_SCHEMA}"
            attempts.insert(0, Attempt(sql))
        return await each_refused(session, attempts)


def _ways(scope: Scope) -> Mapping[str, tuple[str, Sequence[Attempt]]]:
    me = identifier(scope.login.service)
    named = [identifier(name) for name in (OPERATOR, OWNER, *scope.others)]
    above = [*named, *PREDEFINED]
    database = identifier(declared(scope.login.resource).database)
    own = f"{PROBE}_{scope.login.service.replace('-', '_')}"
    return {
        "set-role": (
            "SET ROLE to each role that there is",
            [Attempt(f"SET ROLE {role}") for role in above],
        ),
        "session-authorization": (
            "SET SESSION AUTHORIZATION to each role that there is",
            [Attempt(f"SET SESSION AUTHORIZATION {role}") for role in named],
        ),
        "membership": (
            "membership of each role that there is, granted to itself",
            [Attempt(f"GRANT {role} TO {me}") for role in above],
        ),
        "create-role": (
            "CREATE ROLE",
            [Attempt(f"CREATE ROLE {own}"), Attempt(f"CREATE ROLE {own} SUPERUSER")],
        ),
        "alter-role": (
            "attributes of its own and of others, changed",
            [
                *(
                    Attempt(f"ALTER ROLE {me} {word}")
                    for word in ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS")
                ),
                *(Attempt(f"ALTER ROLE {role} PASSWORD 'known'") for role in named),
                *(Attempt(f"ALTER ROLE {role} SET search_path = 'x'") for role in named),
                Attempt("ALTER ROLE ALL SET search_path = 'x'"),
                Attempt(f"ALTER DATABASE {database} SET search_path = 'x'"),
            ],
        ),
        "default-privileges": (
            "privileges on what others will make",
            [
                Attempt(f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT ALL ON TABLES TO {me}")
                for role in named
            ],
        ),
        "create-database": (
            "CREATE DATABASE",
            [Attempt(f"CREATE DATABASE {own}", begin=None, undo=f"DROP DATABASE {own}")],
        ),
        "create-schema": ("CREATE SCHEMA", [Attempt(f"CREATE SCHEMA {own}")]),
        "program": (
            "a program of the server's machine, run by COPY",
            [Attempt("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null'")],
        ),
        "server-files": (
            "files of the server's machine, read and written",
            [
                Attempt("COPY (SELECT 1) TO '/dev/null'"),
                Attempt("SELECT pg_read_file('PG_VERSION')"),
                Attempt("SELECT pg_read_binary_file('PG_VERSION')"),
                Attempt("SELECT pg_ls_dir('.')"),
                Attempt("SELECT pg_stat_file('PG_VERSION')"),
                Attempt("SELECT pg_export_snapshot()"),
                Attempt("SELECT lo_import('/dev/null')"),
                Attempt("SELECT lo_export(0, '/dev/null')", after=frozenset({"42704"})),
            ],
        ),
        "large-objects": (
            "large objects, which belong to no table",
            [
                Attempt("SELECT lo_create(0)"),
                Attempt("SELECT lo_creat(-1)"),
                Attempt("SELECT lo_from_bytea(0, '')"),
            ],
        ),
        "log-messages": (
            "messages in the write-ahead log, which belong to no table",
            [
                Attempt("SELECT pg_logical_emit_message(true, 'x', 'x')"),
                Attempt("SELECT pg_logical_emit_message(false, 'x', 'x'::bytea)"),
            ],
        ),
        "alter-system": (
            "ALTER SYSTEM",
            [
                Attempt(
                    "ALTER SYSTEM SET deadlock_timeout = '1s'",
                    begin=None,
                    undo="ALTER SYSTEM RESET deadlock_timeout",
                )
            ],
        ),
        "settings": (
            "settings of its session that are not its own to set",
            [
                Attempt("SET session_replication_role = 'replica'"),
                Attempt("SET log_statement = 'none'"),
                Attempt("SET session_preload_libraries = ''"),
                Attempt(f"ALTER ROLE {me} SET session_replication_role = 'replica'"),
            ],
        ),
        "language": (
            "functions in C"
            + ("" if scope.creates else ", and blocks of code in the server's languages"),
            [
                Attempt(
                    f"CREATE FUNCTION {identifier(_home(scope))}.{PROBE}() RETURNS int "
                    "LANGUAGE internal AS 'pg_backend_pid'"
                ),
                *([] if scope.creates else [Attempt("DO 'BEGIN END'")]),
            ],
        ),
        "load": ("a library, loaded into the server", [Attempt("LOAD 'plpgsql'")]),
        **(_given_away(identifier(_home(scope))) if scope.creates else {}),
        "catalogs": (
            "password hashes and others' secrets, read; the catalogs, written",
            [
                Attempt("SELECT rolpassword FROM pg_authid LIMIT 0"),
                Attempt("SELECT passwd FROM pg_shadow LIMIT 0"),
                Attempt("SELECT FROM pg_largeobject LIMIT 0"),
                Attempt("SELECT FROM pg_statistic LIMIT 0"),
                Attempt("SELECT FROM pg_hba_file_rules LIMIT 0"),
                Attempt("UPDATE pg_authid SET rolsuper = true WHERE false"),
                Attempt("DELETE FROM pg_class WHERE false"),
            ],
        ),
        "bookkeeping": (
            "our own records in the database",
            [
                Attempt(f"SELECT FROM {OUR_SCHEMA}.schema_files LIMIT 0"),
                Attempt(f"DELETE FROM {OUR_SCHEMA}.schema_files WHERE false"),
            ],
        ),
        "foreign-data": (
            "connections from the server to others",
            [
                Attempt(f"CREATE FOREIGN DATA WRAPPER {PROBE}"),
                Attempt(
                    f"CREATE SUBSCRIPTION {PROBE} CONNECTION 'host=127.0.0.1 password=x' "
                    "PUBLICATION p WITH (connect = false)"
                ),
                Attempt(f"CREATE PUBLICATION {PROBE} FOR ALL TABLES"),
            ],
        ),
        "event-trigger": (
            "CREATE EVENT TRIGGER",
            [
                Attempt(
                    f"CREATE EVENT TRIGGER {PROBE} ON ddl_command_start EXECUTE FUNCTION {PROBE}()",
                    after=NO_SUCH_FUNCTION,
                )
            ],
        ),
        "replication-slot": (
            "a replication slot",
            [Attempt(f"SELECT pg_create_physical_replication_slot('{own}', false, true)")],
        ),
        "administration": (
            "checkpoints, reloads and switches of the log",
            [
                Attempt("CHECKPOINT", begin=None),
                Attempt("SELECT pg_reload_conf()"),
                Attempt("SELECT pg_switch_wal()"),
            ],
        ),
    }


def _given_away(home: str) -> Mapping[str, tuple[str, list[Attempt]]]:
    made = f"CREATE TABLE {home}.{PROBE} ()"
    return {
        "give-away": (
            "what it makes itself, given to everybody",
            [
                Attempt(f"DO $$BEGIN {made}; GRANT {right} ON {home}.{PROBE} TO PUBLIC; END$$")
                for right in ("SELECT", "ALL")
            ]
            + [
                Attempt(
                    f"ALTER DEFAULT PRIVILEGES IN SCHEMA {home} GRANT SELECT ON TABLES TO PUBLIC"
                ),
                # The default privileges go with it that keep its functions from everybody.
                Attempt("DROP OWNED BY CURRENT_USER"),
            ],
        ),
        "open-by-default": (
            "a function that it makes itself, open to everybody though it gives it to nobody",
            [Attempt(_open_function(f"{home}.{PROBE}()"))],
        ),
    }


def _open_function(function: str) -> str:
    """Makes it, and says that this is denied unless everybody may execute it."""
    return (
        f"DO $$BEGIN CREATE FUNCTION {function} RETURNS int LANGUAGE sql AS 'SELECT 1'; "
        "IF NOT EXISTS (SELECT FROM pg_proc, "
        "aclexplode(coalesce(proacl, acldefault('f', proowner))) "
        f"WHERE oid = '{function}'::regprocedure AND grantee = 0) "
        "THEN RAISE insufficient_privilege; END IF; END$$"
    )


def _home(scope: Scope) -> str:
    """A schema where only the language can be what is refused, if there is one."""
    return min(scope.creates, default=DEFAULT_SCHEMA)
