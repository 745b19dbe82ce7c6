"""Who may log in, and do what: accounts and grants as facts, and the SQL that changes them.

The same at a server of ours and at one that others run; how it is asked differs.
"""

# ruff: noqa: S608 - all that stands in a statement is a literal or an identifier, quoted

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from watertight.servers.facts import Change, Fact, fact
from watertight.servers.mariadb import compile as wanted
from watertight.servers.mariadb.compile import (
    ACCOUNT,
    DATABASE,
    GRANT,
    INTERNAL,
    OPERATOR,
    DatabasePlan,
    identifier,
    literal,
    who,
)

NOT_COMPARED = {"password_last_changed", "version_id"}
ROWS = {
    "database": ("db", ("User", "Host", "Db")),
    "routine": ("procs_priv", ("User", "Host", "Db", "Routine_name", "Routine_type")),
    "role": ("roles_mapping", ("User", "Host", "Role")),
    "proxy": ("proxies_priv", ("User", "Host", "Proxied_user", "Proxied_host")),
}
"""Grants that no declaration makes: the table of the server's own that holds each, and its key."""
LOOK = (
    ("'account', User, Host, Priv", "mysql.global_priv"),
    ("'table', User, Host, Db, Table_name, '', Table_priv", "mysql.tables_priv"),
    ("'column', User, Host, Db, Table_name, Column_name, Column_priv", "mysql.columns_priv"),
    *(
        (f"'row', '{kind}', {', '.join(key)}", f"mysql.{table}")
        for kind, (table, key) in ROWS.items()
    ),
)
"""What is asked: a kind and what tells of it; and where that stands."""


class Accounts(ABC):
    """Asks and changes them, by whatever way :meth:`ask` has to the server."""

    def __init__(self, plan: DatabasePlan, operator: str = "") -> None:
        self._wanted = plan
        self._operator = operator
        """The user who comes by the server's own socket; empty: nobody of ours does."""

    @abstractmethod
    async def ask(self, sql: str, *options: str) -> str:
        """What the server answers. Raises WatertightError with its words."""

    async def rows(self, *places: tuple[str, str]) -> list[list[Any]]:
        """What stands in these places."""
        asked = [f"SELECT JSON_ARRAY({what}) FROM {where};" for what, where in places]
        lines = (await self.ask("\n".join(asked))).splitlines()
        return [json.loads(line) for line in lines if line]

    async def do(self, statements: Sequence[str]) -> None:
        """All of them, up to the first that is refused."""
        if statements:
            await self.ask("".join(f"{statement};\n" for statement in statements))

    def of_account(self, row: list[Any]) -> Iterator[Fact]:
        """What a row of :data:`LOOK` tells."""
        kind, *rest = row
        if kind == ACCOUNT:
            yield self._account(*rest)
        elif kind in ("table", "column"):
            *key, words = rest
            born = (*key[:4], words) == (*INTERNAL, "mysql", "global_priv", "Select,Delete")
            if words and not born:
                yield fact(GRANT, (*key[:2], kind, *key[2:]), privileges=_words(words))
        elif kind == "row":
            what, *key = rest
            if not (what == "proxy" and (key[0], key[1]) == (self._operator, OPERATOR[1])):
                yield fact(GRANT, (*key[:2], what, *key[2:]))

    def _account(self, user: str, host: str, said: Any) -> Fact:
        priv = json.loads(said) if isinstance(said, str) else dict(said)
        told = {name: value for name, value in priv.items() if value and name not in NOT_COMPARED}
        if not any(told.get("auth_or", ())):  # `[{}]`: no other way than the one that stands first
            told.pop("auth_or", None)
        key = (user, host)
        if key == (self._operator, OPERATOR[1]):
            key = OPERATOR
            told.pop("access", None)
        return fact(ACCOUNT, key, **told)

    def taken(self, gone: Fact) -> list[str]:
        """What takes an account or a grant away; ``FLUSH PRIVILEGES`` comes after all of them."""
        key = gone.key
        if gone.kind == ACCOUNT:
            return [delete("global_priv", ("User", "Host"), key)]
        if key[2] in ROWS:
            table, columns = ROWS[key[2]]
            return [delete(table, columns, (*key[:2], *key[3:]))]
        if self._is_ours(key):
            return [wanted.table_statement("REVOKE", key, _said(gone)), *self._columns_of(key)]
        return [delete(t, ("User", "Host"), key[:2]) for t in ("tables_priv", "columns_priv")]

    def made(self, change: Change) -> list[str]:
        """What makes a database, an account or a grant what it must be."""
        made = change.thing
        if made.kind == DATABASE:
            return [f"CREATE DATABASE IF NOT EXISTS {identifier(made.key[0])}"]
        if made.kind == GRANT:
            has = _said(change.found) if change.found else set()
            wants = _said(made)
            ways = (("REVOKE", has - wants), ("GRANT", wants - has))
            statements = [wanted.table_statement(w, made.key, words) for w, words in ways if words]
            return statements + (self._columns_of(made.key) if has - wants else [])
        if made.key == OPERATOR:
            me = who((self._operator, OPERATOR[1]))
            return [f"ALTER USER {me} IDENTIFIED VIA unix_socket"]
        if made.key == INTERNAL:
            return [f"ALTER USER {who(INTERNAL)} IDENTIFIED VIA mysql_native_password ACCOUNT LOCK"]
        [account] = [a for a in self._wanted.accounts if a.name == made.key[0]]
        return list(wanted.account_statements(account, made.key[1]))

    def _columns_of(self, key: tuple[str, ...]) -> list[str]:
        """Grants on columns, again: what is revoked of a table is revoked of its columns, too."""
        return [
            wanted.table_statement("GRANT", one.key, _said(one))
            for one in sorted(wanted.facts_of(self._wanted))
            if one.kind == GRANT and one.key[2] == "column" and key[2] == "table"
            if (*one.key[:2], *one.key[3:5]) == (*key[:2], *key[3:5])
        ]

    def _is_ours(self, key: tuple[str, ...]) -> bool:
        return key[1] == self._wanted.host and any(a.name == key[0] for a in self._wanted.accounts)


def delete(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """A row of the server's own tables, gone."""
    pairs = zip(columns, key, strict=True)
    return f"DELETE FROM mysql.{table} WHERE " + " AND ".join(
        f"{column} = {literal(value)}" for column, value in pairs
    )


_OTHERWISE = {"Grant": "grant option", "Delete versioning rows": "delete history"}
"""What the server's tables call a privilege → what SQL does."""


def _words(column: str) -> str:
    return wanted.privileges({_OTHERWISE.get(w, w.lower()) for w in column.split(",")})


def _said(one: Fact) -> set[str]:
    return set(dict(one.value)["privileges"].split(", "))
