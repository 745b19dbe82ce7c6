"""Adding a kind of server touches no file outside its folder, its client's and one entry point."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from watertight.enforcers.registry import resource_enforcers
from watertight.model import kinds
from watertight.model.load import load_text

SOURCE = Path(__file__).parents[2] / "src" / "watertight"


def named(tree: ast.AST, kind: str) -> Iterator[int]:
    """Lines in which a kind's word stands as a value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == kind:
            yield node.lineno


def strays(source: Path, kind: str) -> list[str]:
    """Where a kind is named outside of what is its own."""
    own = (source / "servers" / kind, source / "sdk" / f"{kind}.py")
    return [
        f"{path.relative_to(source)}:{line}"
        for path in sorted(source.rglob("*.py"))
        if not any(path.is_relative_to(place) for place in own)
        for line in named(ast.parse(path.read_text()), kind)
    ]


@pytest.mark.parametrize("kind", sorted(resource_enforcers()))
def test_no_other_code_names_a_kind(kind: str) -> None:
    assert strays(SOURCE, kind) == []


def test_one_that_is_named_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "servers" / "shelf").mkdir(parents=True)
    (tmp_path / "servers" / "shelf" / "server.py").write_text("KIND = 'shelf'\n")
    (tmp_path / "other.py").write_text("\nif kind == 'shelf':\n    pass\n")
    assert strays(tmp_path, "shelf") == ["other.py:2"]


def test_the_model_is_told_what_each_kind_says_of_itself() -> None:
    known = kinds.kinds()
    assert known["postgresql"].originates == ("postgresql",)
    assert kinds.usual_port("rabbitmq") == 5671
    assert kinds.also_called("MySQL") == "mariadb"
    assert kinds.also_called("abacus") is None


def test_a_model_that_nobody_has_told_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than ask for ports that everybody knows."""
    monkeypatch.setattr(kinds, "_known", [])
    with pytest.raises(LookupError, match="nobody has told"):
        load_text("trust_domain: a.example\nresources:\n  db: {kind: postgresql}\n")
