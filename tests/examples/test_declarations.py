"""The examples' declarations are examples: nothing is found wrong with them."""

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


def test_the_full_shop_is_the_shop_and_more(tmp_path: Path) -> None:
    shop = tmp_path / "watertight.yaml"
    shop.write_bytes(declaration("shop").read_bytes())
    file = load("full").write(shop)
    assert findings(file) == []
    assert load_file(file).resources.keys() == {*load_file(shop).resources, "jobs"}


def findings(file: Path) -> list[str]:
    """What lint says, of every enforcer's."""
    system = load_file(file)
    found = lint(system, resource_kinds=resource_enforcers(), more=resource_flaws(system))
    return [str(finding) for finding in found]
