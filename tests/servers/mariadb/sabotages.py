"""How the server is weakened or changed by hand, and what must be said of it."""

from collections.abc import Mapping

from tests.ports import free_port
from watertight.servers.mariadb.compile import CONFIGURATION, OPENSSL
from watertight.testing import Weakening

ORDERS, BILLING, LOBBY = "orders -> store", "billing -> store", "lobby -> store"
SUBJECTS = frozenset(
    {
        "identity.common-name-case",
        "identity.longer-common-name",
        "identity.no-common-name",
        "identity.no-organization",
        "identity.null-in-common-name",
        "identity.other-common-name",
        "identity.other-organization",
        "identity.other-workload",
        "identity.server-unit",
        "tls.no-certificate",
    }
)
ON_TABLES = frozenset(f"grants.{word}" for word in ("select", "insert", "update", "delete"))
IN_DATABASE = frozenset(
    f"escalation.{what}"
    for what in (
        "alter",
        "create",
        "definer",
        "drop",
        "index",
        "information-schema",
        "lock-tables",
        "new-database",
        "routine",
        "temporary-table",
        "trigger",
        "truncate",
    )
)
ON_SERVER = frozenset(
    f"escalation.{what}"
    for what in (
        "account",
        "another-account",
        "call",
        "flush",
        "grant",
        "our-tables",
        "plugin",
        "prepared",
        "replication",
        "role",
        "server-tables",
        "variable",
    )
)
FILES_TOO = frozenset(
    {
        "escalation.event",
        "files.load",
        "files.load-local",
        "files.read",
        "files.write",
        "limits.memory",
    }
)
TICKETS = frozenset({"sessions.resumption-after-expiry"})


def lax(right: Mapping[str, str]) -> dict[str, str]:
    """Without bounds, with files, events and tickets."""
    lines = right[CONFIGURATION].splitlines()
    lines = [line for line in lines if not line.startswith(("maximum_", "secure_file"))]
    lines.remove("event_scheduler = DISABLED")
    text = "\n".join([*lines, "secure_file_priv =", "local_infile = ON", ""])
    return {CONFIGURATION: text, OPENSSL: ""}


def with_another_port(right: Mapping[str, str]) -> dict[str, str]:
    return {CONFIGURATION: f"{right[CONFIGURATION]}extra_port = {free_port()}\n"}


LIVE = (
    Weakening(
        "all of the database",
        ("GRANT ALL ON shop.* TO lobby@127.0.0.1",),
        ON_TABLES | IN_DATABASE,
        ON_SERVER,
        LOBBY,
    ),
    Weakening(
        "all of the server",
        ("GRANT ALL ON *.* TO lobby@127.0.0.1 WITH GRANT OPTION",),
        ON_SERVER | {"pairs.kill", "pairs.processlist"},
        frozenset({"files.load-local", "files.read", "limits.memory", "login.another-account"}),
        LOBBY,
    ),
    Weakening(
        "whole tables for columns",
        ("GRANT SELECT, INSERT, UPDATE ON shop.orders TO billing@127.0.0.1",),
        frozenset({"grants.columns", "grants.handler", "grants.insert", "grants.select"}),
        frozenset({"grants.delete"}),
        BILLING,
    ),
    Weakening("no certificate asked for", ("ALTER USER orders@127.0.0.1 REQUIRE NONE",), SUBJECTS),
    Weakening(
        "anybody",
        ("CREATE USER ''@'%'",),
        frozenset({"login.another-account"}),
        frozenset({"tls.no-certificate"}),
    ),
    Weakening(
        "a role",
        ("CREATE ROLE helper; GRANT helper TO orders@127.0.0.1",),
        frozenset({"escalation.set-role"}),
    ),
    Weakening(
        "nothing granted",
        ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM orders@127.0.0.1",),
        frozenset({"use.select", "use.insert", "use.update", "use.delete"}),
        frozenset({"use.login"}),
    ),
    Weakening(
        "a locked account",
        ("ALTER USER orders@127.0.0.1 ACCOUNT LOCK",),
        frozenset({"use.login"}),
    ),
    Weakening(
        "other files",
        ("GRANT FILE, EVENT ON *.* TO orders@127.0.0.1",),
        FILES_TOO | TICKETS,
        files=lax,
    ),
    Weakening(
        "another port",
        breaks=frozenset({"ports.unknown"}),
        channel="anyone -> store",
        files=with_another_port,
    ),
)
BY_HAND = {
    "CREATE USER guest@'%'": "account guest % is not declared",
    "CREATE ROLE helper": "account helper is not declared",
    "GRANT helper TO orders@127.0.0.1": "grant orders 127.0.0.1 role helper is not declared",
    "CREATE DATABASE spy": "database spy is not declared",
    "GRANT SELECT ON mysql.* TO orders@127.0.0.1": (
        "grant orders 127.0.0.1 database mysql is not declared"
    ),
    "GRANT DROP ON shop.bills TO billing@127.0.0.1 WITH GRANT OPTION": (
        "grant billing 127.0.0.1 table shop bills: privileges is "
        "'drop, grant option, insert, select' and not 'insert, select'"
    ),
    "GRANT SELECT (note) ON shop.orders TO billing@127.0.0.1": (
        "grant billing 127.0.0.1 column shop orders note is not declared"
    ),
    "REVOKE DELETE ON shop.orders FROM orders@127.0.0.1": (
        "grant orders 127.0.0.1 table shop orders: privileges is "
        "'insert, select, update' and not 'delete, insert, select, update'"
    ),
    "GRANT EXECUTE ON PROCEDURE sys.table_exists TO orders@127.0.0.1": (
        "grant orders 127.0.0.1 routine sys table_exists PROCEDURE is not declared"
    ),
    "GRANT SELECT ON *.* TO orders@127.0.0.1": (
        "account orders 127.0.0.1: access is '1' and not set"
    ),
    "ALTER USER lobby@127.0.0.1 REQUIRE NONE": (
        "account lobby 127.0.0.1: ssl_type is not set and not '3', "
        "x509_subject is not set and not '/O=shop.internal/OU=services/CN=lobby'"
    ),
    "ALTER USER 'mariadb.sys'@localhost ACCOUNT UNLOCK": (
        "account mariadb.sys localhost: account_locked is not set and not 'true'"
    ),
    "INSTALL SONAME 'locales'": "plugin LOCALES is not declared",
    "INSERT INTO mysql.plugin VALUES ('disks', 'disks.so')": "plugin disks is not declared",
    "INSERT INTO mysql.func VALUES ('spy', 0, 'none.so', 'function')": (
        "loaded function spy is not declared"
    ),
    "SET GLOBAL max_connect_errors = 5": "max_connect_errors was set by hand",
    "CREATE VIEW shop.every_note AS SELECT note FROM shop.orders": (
        "definition VIEW shop every_note is not declared"
    ),
    "ALTER VIEW shop.open_orders AS SELECT note AS id FROM shop.orders": (
        "definition VIEW shop open_orders was changed by hand"
    ),
    "DROP TRIGGER shop.first": "definition TRIGGER shop first is missing",
    "CREATE TRIGGER shop.second AFTER UPDATE ON shop.orders FOR EACH ROW SET @x = 2": (
        "definition TRIGGER shop second is not declared"
    ),
    "CREATE PROCEDURE shop.reads() SELECT note FROM shop.orders": (
        "definition PROCEDURE shop reads is not declared"
    ),
    "CREATE FUNCTION shop.counts() RETURNS INT RETURN 1": (
        "definition FUNCTION shop counts is not declared"
    ),
}
"""What somebody does, and what drift says of it."""
