"""The examples' declarations are examples: nothing is found wrong with them."""

import shutil
from pathlib import Path

import pytest

from tests.examples.plain import declaration
from tests.examples.test_login import load
from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.model.lint import lint
from watertight.model.load import load_file


@pytest.mark.parametrize("example", ["shop", "unmodified"])
def test_lint_finds_nothing(example: str) -> None:
    assert findings(declaration(example)) == []


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    copy = tmp_path / "shop"
    shutil.copytree(declaration("shop").parent, copy, ignore=shutil.ignore_patterns(".watertight"))
    return copy / "watertight.yaml"


def test_the_full_shop_is_the_shop_and_more(shop: Path) -> None:
    full = load("full")
    file = full.write(shop, full.parts())
    assert findings(file) == []
    added = load_file(file).resources.keys() - load_file(shop).resources.keys()
    assert len(added) == len(full.parts()) > 1
    assert all(full.services(part) for part in full.parts())


def test_what_this_machine_does_not_have_is_left_out_and_told(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    missing = {part.stem: why for part, why in load("full").left_out(shop)}
    assert "needs Java" in missing["clicks"]


def findings(file: Path) -> list[str]:
    """What lint says, of every enforcer's."""
    system = load_file(file)
    found = lint(system, resource_kinds=resource_enforcers(), more=resource_flaws(system))
    return [str(finding) for finding in found]
