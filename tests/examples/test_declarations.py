"""The examples' declarations are examples: nothing is found wrong with them."""

import pytest

from tests.examples.plain import declaration
from watertight.model.lint import lint
from watertight.model.load import load_file


@pytest.mark.parametrize("example", ["shop", "unmodified"])
def test_lint_finds_nothing(example: str) -> None:
    assert [str(finding) for finding in lint(load_file(declaration(example)))] == []
