"""The examples' declarations are examples: nothing is found wrong with them."""

import pytest

from tests.examples.plain import declaration
from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.model.lint import lint
from watertight.model.load import load_file


@pytest.mark.parametrize("example", ["shop", "unmodified"])
def test_lint_finds_nothing(example: str) -> None:
    system = load_file(declaration(example))
    found = lint(system, resource_kinds=resource_enforcers(), more=resource_flaws(system))
    assert [str(finding) for finding in found] == []
