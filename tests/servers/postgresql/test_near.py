"""What is said of a table that a grant names and the database lacks."""

from dataclasses import replace
from typing import cast

from watertight.servers.postgresql.catalog import Found
from watertight.servers.postgresql.compile import RolePlan
from watertight.servers.postgresql.declaration import Grant, Kind, Target
from watertight.servers.postgresql.privileges import _not_there

ORDERS = Grant(Target(Kind.TABLE, "public", "orders"), "select")
NOBODY = cast("RolePlan", None)
"""Its name is not asked for."""


def found(*tables: str) -> Found:
    none = frozenset[str]()
    empty = Found(
        150000, "DATABASE d", "o", {}, frozenset(), none, none, {}, {}, {}, frozenset(),
        frozenset(), frozenset(), none, none,
    )  # fmt: skip
    objects = {(Kind.TABLE, "public", name): (f"TABLE public.{name}",) for name in tables}
    return replace(empty, objects=objects)


def test_the_only_table_is_offered_however_it_is_called() -> None:
    absent = _not_there(found("a"), NOBODY, ORDERS)
    assert absent.remedy == "Did you mean `public.a`? It is the only table."


def test_of_several_the_near_one_is_offered_or_none() -> None:
    assert _not_there(found("a", "order"), NOBODY, ORDERS).remedy == "Did you mean `public.order`?"
    assert "Let the resource's `schema` file" in _not_there(found("a", "b"), NOBODY, ORDERS).remedy
    assert "Let the resource's `schema` file" in _not_there(found(), NOBODY, ORDERS).remedy
