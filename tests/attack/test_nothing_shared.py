"""What an attacker takes from a kind's declaration: what was written, and nothing that follows."""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import watertight.servers

SERVERS = Path(watertight.servers.__file__).parent
READERS = frozenset({"broker", "channel_keys", "declared", "grants", "server", "stated"})
"""They turn the keys of one resource or channel into a value, and do no more."""
STILL = frozenset(
    {
        # A number: how much memory one session has. Only the proof asks for more than that.
        ("postgresql", "session_memory_bytes"),
        # What is written, under another name.
        ("mongodb", "granted"),
    }
)


def taken(kind: str) -> Iterator[str]:
    """The names that the kind's attacks import from its declaration."""
    for path in (SERVERS / kind / "attacks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == f"watertight.servers.{kind}.declaration"
            ):
                yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("kind", sorted(p.parent.name for p in SERVERS.glob("*/attacks")))
def test_attackers_share_only_what_was_written(kind: str) -> None:
    """An error in what follows from it would else be believed by who sets it, and by who looks."""
    declaration = import_module(f"watertight.servers.{kind}.declaration")
    functions = {name for name in taken(kind) if inspect.isfunction(getattr(declaration, name))}
    assert {name for name in functions - READERS if (kind, name) not in STILL} == set()


def test_the_exceptions_are_still_needed() -> None:
    assert {(kind, name) for kind, name in STILL if name not in set(taken(kind))} == set()
