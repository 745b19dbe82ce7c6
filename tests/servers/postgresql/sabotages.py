"""What is weakened on the running server, and exactly which probes must turn red for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.at_once import at_once

TLS = ("tls.", "identity.", "sessions.", "login.", "reach.", "ports.", "use.login")
CHANNELS = ("orders -> orders-db",)
UNFENCED = "DROP EVENT TRIGGER IF EXISTS watertight"
"""What it refuses, nobody else does."""
BILLING = ("billing -> orders-db",)
USES = ("use.function", "use.login", "use.schema", "use.sequence", "use.table")

Files = dict[str, str]


@dataclass(frozen=True)
class Sabotage:
    """One weakening; among ``family`` on ``channels``, exactly ``breaks`` must break.

    Mended by ``apply``, which must name it.
    """

    name: str
    breaks: frozenset[str]
    sql: tuple[str, ...] = ()
    files: Callable[[Files], Files] | None = None
    family: tuple[str, ...] = ()
    channels: tuple[str, ...] = field(default=CHANNELS)


def sql(name: str, statements: str, *breaks: str, channels: tuple[str, ...] = CHANNELS) -> Sabotage:
    """Weakened by statements of the superuser."""
    family = tuple({broken.partition(".")[0] + "." for broken in breaks})
    weakened = tuple(statements.split(";"))
    return Sabotage(name, frozenset(breaks), weakened, family=family, channels=channels)


def joined(group: Sequence[Sabotage]) -> Sabotage:
    """All of these at once."""
    first, *more = group
    if not more:
        return first
    return Sabotage(
        ", ".join(one.name for one in group),
        frozenset[str]().union(*(one.breaks for one in group)),
        tuple(statement for one in group for statement in one.sql),
        family=tuple({start for one in group for start in one.family}),
        channels=first.channels,
    )


def access(name: str, *lines: str, breaks: tuple[str, ...], also: str = "") -> Sabotage:
    """Weakened by lines that stand before ours in ``pg_hba.conf``."""

    def files(right: Files) -> Files:
        # The operator's line stays the first.
        text = right["pg_hba.conf"].replace("hostssl", "\n".join(lines) + "\nhostssl", 1)
        return {"pg_hba.conf": text}

    statements = tuple(also.split(";")) if also else ()
    channels = (*CHANNELS, "lonely -> orders-db")
    return Sabotage(name, frozenset(breaks), statements, files, TLS, channels)


def settings(name: str, lines: str, *breaks: str, hba: str | None = None) -> Sabotage:
    """Weakened by settings, which override ours above them."""

    def files(right: Files) -> Files:
        changed = {"postgresql.conf": right["postgresql.conf"] + lines + "\n"}
        if hba is not None:
            local = [line for line in right["pg_hba.conf"].splitlines() if line[:5] == "local"]
            changed["pg_hba.conf"] = "\n".join([*local, hba, ""])
        return changed

    channels = (*CHANNELS, "anyone -> orders-db")
    return Sabotage(name, frozenset(breaks), (), files, TLS, channels)


def mapped(name: str, line: str, *breaks: str) -> Sabotage:
    """Weakened by a line of ``pg_ident.conf``."""

    def files(right: Files) -> Files:
        return {"pg_ident.conf": right["pg_ident.conf"] + line + "\n"}

    return Sabotage(name, frozenset(breaks), (), files, TLS, CHANNELS)


ESCALATIONS = (
    "escalation.administration",
    "escalation.alter-role",
    "escalation.alter-system",
    "escalation.bookkeeping",
    "escalation.catalogs",
    "escalation.create-database",
    "escalation.create-extension",
    "escalation.create-role",
    "escalation.create-schema",
    "escalation.default-privileges",
    "escalation.event-trigger",
    "escalation.foreign-data",
    "escalation.language",
    "escalation.large-objects",
    "escalation.load",
    "escalation.log-messages",
    "escalation.membership",
    "escalation.program",
    "escalation.replication-slot",
    "escalation.server-files",
    "escalation.session-authorization",
    "escalation.set-role",
    "escalation.settings",
    "escalation.signal",
    "escalation.temporary-table",
)
GRANTS = (
    "grants.alter-table",
    "grants.column",
    "grants.drop-table",
    "grants.function",
    "grants.passed-on",
    "grants.schema",
    "grants.sequence",
    "grants.table",
    "grants.trigger",
)
PAIRS = ("pairs.activity", "pairs.advisory-lock", "pairs.shadow", "pairs.signal")
SUBJECTS = (
    "identity.common-name-case",
    "identity.longer-common-name",
    "identity.no-common-name",
    "identity.no-organization",
    "identity.other-common-name",
    "identity.other-organization",
    "identity.other-workload",
    "identity.server-unit",
    "identity.whole-subject-in-common-name",
    "sessions.resumption-after-revoke",
)
UNVERIFIED = (
    "identity.expired",
    "identity.foreign-authority",
    "identity.not-yet-valid",
    "identity.null-in-common-name",
    "identity.self-signed",
    "identity.server-only-usage",
    "sessions.resumption-after-expiry",
)

EMIT_MESSAGE = (
    "DO $$DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc "
    "WHERE proname = 'pg_logical_emit_message' LOOP EXECUTE "
    "format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', f); END LOOP; END$$"
)
"""Its parameters are other ones since 17."""

SABOTAGES = (
    # --- roles
    sql(
        "superuser",
        "ALTER ROLE orders SUPERUSER",
        *ESCALATIONS,
        *GRANTS,
        *PAIRS,
        "limits.connections",
        "limits.own-limits",
        "login.replication",
    ),
    sql(
        "create-role",
        "ALTER ROLE orders CREATEROLE",
        "escalation.create-role",
        "escalation.membership",
        "escalation.alter-role",
    ),
    sql("create-database", "ALTER ROLE orders CREATEDB", "escalation.create-database"),
    sql(
        "replication",
        "ALTER ROLE orders REPLICATION",
        "escalation.replication-slot",
        "login.replication",
    ),
    sql("no-login", "ALTER ROLE orders NOLOGIN", *USES),
    sql(
        "member-of-owner",
        f"GRANT watertight_owner TO orders; {UNFENCED}",
        "escalation.set-role",
        "escalation.default-privileges",
    ),
    sql(
        "member-with-admin",
        f"GRANT billing TO orders WITH ADMIN OPTION; {UNFENCED}",
        "escalation.set-role",
        "escalation.default-privileges",
        "escalation.membership",
    ),
    sql(
        "program",
        "ALTER ROLE orders INHERIT; GRANT pg_execute_server_program TO orders",
        "escalation.program",
        "escalation.set-role",
    ),
    sql(
        "files",
        "ALTER ROLE orders INHERIT; GRANT pg_read_server_files, pg_write_server_files TO orders",
        "escalation.server-files",
        "escalation.set-role",
    ),
    sql(
        "signal",
        "ALTER ROLE orders INHERIT; GRANT pg_signal_backend TO orders",
        "escalation.set-role",
        "pairs.signal",
    ),
    sql(
        "statistics",
        "ALTER ROLE orders INHERIT; GRANT pg_read_all_stats TO orders",
        "pairs.activity",
    ),
    # --- how much it may take
    sql(
        "no-share",
        "ALTER ROLE orders CONNECTION LIMIT -1",
        "limits.connections",
        "limits.locks",
    ),
    sql(
        "no-bound-of-files",
        "ALTER ROLE orders SET temp_file_limit = -1",
        "limits.left-behind",
        "limits.own-limits",
    ),
    sql(
        "may-lift-it",
        "GRANT SET ON PARAMETER temp_file_limit TO orders",
        "limits.own-limits",
    ),
    sql("role-settings", "ALTER ROLE orders SET search_path = 'sales'", "limits.left-behind"),
    sql("no-timeout", "ALTER ROLE orders RESET statement_timeout", "limits.left-behind"),
    sql(
        "settings-in-the-database",
        "ALTER ROLE orders IN DATABASE orders SET row_security = off",
        "limits.left-behind",
    ),
    sql(
        "settings-of-the-database",
        "ALTER DATABASE orders SET search_path = 'sales'",
        "limits.left-behind",
    ),
    sql("settings-of-all", "ALTER ROLE ALL SET check_function_bodies = off", "limits.left-behind"),
    # --- one service and another
    sql(
        "advisory-lock",
        "GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(bigint) TO PUBLIC",
        "pairs.advisory-lock",
    ),
    # --- privileges
    sql("table", "GRANT DELETE ON orders TO orders", "grants.table"),
    sql("table-to-everybody", "GRANT SELECT ON customers TO PUBLIC", "grants.column"),
    sql("column", "GRANT UPDATE (secret) ON customers TO orders", "grants.column"),
    sql("column-insert", "GRANT INSERT (secret) ON customers TO orders", "grants.table"),
    sql("references", "GRANT REFERENCES (secret) ON customers TO orders", "grants.table"),
    sql("trigger", f"GRANT TRIGGER ON orders TO orders; {UNFENCED}", "grants.trigger"),
    sql(
        "grant-option",
        f"GRANT SELECT ON orders TO orders WITH GRANT OPTION; {UNFENCED}",
        "grants.passed-on",
    ),
    sql(
        "ownership",
        f"ALTER TABLE orders OWNER TO orders; {UNFENCED}",
        "grants.alter-table",
        "grants.drop-table",
        "grants.passed-on",
        "grants.table",
        "grants.trigger",
    ),
    sql(
        "create-in-public",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "grants.schema",
        "pairs.shadow",
    ),
    sql(
        "foreign-key",
        UNFENCED,
        "escalation.foreign-key",
        "escalation.give-away",
        "escalation.pin",
        channels=("migrator -> orders-db",),
    ),
    sql(
        "open-by-default",
        "ALTER DEFAULT PRIVILEGES FOR ROLE migrator GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
        "escalation.open-by-default",
        channels=("migrator -> orders-db",),
    ),
    sql("sequence", "GRANT UPDATE ON SEQUENCE tickets TO orders", "grants.sequence"),
    sql("function", "GRANT EXECUTE ON FUNCTION place TO PUBLIC", "grants.function"),
    sql(
        "create-on-database",
        "GRANT CREATE ON DATABASE orders TO orders",
        "escalation.create-extension",
        "escalation.create-schema",
        "pairs.shadow",
    ),
    sql(
        "temporary",
        "GRANT TEMPORARY ON DATABASE orders TO PUBLIC",
        "escalation.temporary-table",
    ),
    sql(
        "large-objects",
        "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC",
        "escalation.large-objects",
    ),
    Sabotage(
        "log-messages",
        frozenset({"escalation.log-messages"}),
        (EMIT_MESSAGE,),
        family=("escalation.",),
    ),
    sql(
        "snapshots",
        "GRANT EXECUTE ON FUNCTION pg_export_snapshot() TO PUBLIC",
        "escalation.server-files",
    ),
    sql(
        "parameter",
        "GRANT ALTER SYSTEM ON PARAMETER deadlock_timeout TO orders;"
        "GRANT SET ON PARAMETER log_statement TO PUBLIC",
        "escalation.alter-system",
        "escalation.settings",
    ),
    sql("language", "GRANT USAGE ON LANGUAGE plpgsql TO PUBLIC", "escalation.language"),
    sql("catalog", "GRANT SELECT ON pg_authid TO orders", "escalation.catalogs"),
    sql(
        "bookkeeping",
        "GRANT USAGE ON SCHEMA watertight TO orders;"
        "GRANT DELETE, SELECT ON watertight.schema_files TO orders",
        "escalation.bookkeeping",
    ),
    sql(
        "system-function",
        "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO PUBLIC",
        "escalation.administration",
    ),
    # --- what was declared, taken away
    sql("no-table", "REVOKE SELECT ON orders FROM orders", "use.table"),
    sql("no-sequence", "REVOKE USAGE ON SEQUENCE tickets FROM orders", "use.sequence"),
    sql("no-function", "REVOKE EXECUTE ON FUNCTION greet FROM orders", "use.function"),
    sql(
        "no-schema",
        "REVOKE USAGE ON SCHEMA public FROM orders",
        "use.function",
        "use.schema",
        "use.sequence",
        "use.table",
    ),
    sql(
        "no-temporary",
        "REVOKE TEMPORARY ON DATABASE orders FROM billing",
        "use.temporary",
        channels=BILLING,
    ),
    sql(
        "no-advisory-lock",
        "REVOKE EXECUTE ON FUNCTION pg_try_advisory_xact_lock(bigint) FROM billing",
        "use.advisory-lock",
        channels=BILLING,
    ),
    sql(
        "no-variadic-function",
        "REVOKE EXECUTE ON FUNCTION tally FROM billing",
        "use.function",
        channels=BILLING,
    ),
    # --- who may come in
    access("plaintext", "hostnossl all all all trust", breaks=("tls.plaintext",)),
    access(
        "anybody-over-tls",
        "hostssl orders all all trust",
        breaks=(
            *SUBJECTS,
            "login.other-role",
            "login.password",
            "reach.doors",
            "tls.no-certificate",
        ),
    ),
    settings(
        "unverified",
        "ssl_ca_file = ''",
        *SUBJECTS,
        *UNVERIFIED,
        "login.other-role",
        "login.password",
        "tls.no-certificate",
        hba="hostssl orders all all trust",
    ),
    access(
        "common-name-alone",
        "hostssl orders orders all cert",
        breaks=(
            "identity.no-organization",
            "identity.other-organization",
            "identity.server-unit",
        ),
    ),
    access(
        "password",
        "hostssl orders orders all scram-sha-256",
        breaks=("login.password", "login.replication", "use.login"),
    ),
    access(
        "other-databases",
        "hostssl all orders all cert clientname=DN map=services",
        breaks=("login.other-database",),
        also="GRANT CONNECT ON DATABASE postgres TO PUBLIC",
    ),
    mapped(
        "loose-map",
        'services "/^CN=orders" orders',
        "identity.longer-common-name",
        "identity.no-organization",
        "identity.other-organization",
        "identity.other-workload",
        "identity.server-unit",
        "identity.whole-subject-in-common-name",
    ),
    settings("tls-1.2", "ssl_min_protocol_version = 'TLSv1.2'", "tls.version-1.2"),
    settings(
        "tls-1.1",
        "ssl_min_protocol_version = 'TLSv1'\nssl_ciphers = 'ALL:@SECLEVEL=0'",
        "tls.version-1.1",
        "tls.version-1.2",
    ),
    settings("another-address", "listen_addresses = '127.0.0.1,127.0.0.2'", "ports.unknown"),
)

ALONE = {one.name for one in SABOTAGES if one.files} | {
    *("superuser", "member-of-owner", "member-with-admin"),
    *("no-login", "no-table", "no-sequence", "no-function", "no-schema"),
}
"""These change what others break, too; of files there is one each."""
AT_ONCE = [joined(group) for group in at_once(SABOTAGES, ALONE)]
