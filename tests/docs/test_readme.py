"""The declaration that the README shows is one."""

import re

from tests.docs.test_links import REPOSITORY
from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.model.lint import lint
from watertight.model.load import load_text


def test_the_first_declaration_is_right() -> None:
    text = (REPOSITORY / "README.md").read_text()
    block = re.search(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    system = load_text(block[1], "README.md")
    assert [channel.name for channel in system.channels] == [
        "storefront -> orders",
        "orders -> mailer",
        "orders -> orders-db",
    ]
    more = resource_flaws(system)
    found = lint(system, resource_kinds=resource_enforcers(), more=more)
    assert [str(finding) for finding in found] == []
