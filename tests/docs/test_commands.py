"""Every command is shown somewhere, and no page shows one that does not exist."""

import re

from typer.main import get_command

from tests.docs.test_links import PAGES
from watertight.cli.app import app

COMMANDS = frozenset(get_command(app).list_commands(None))  # type: ignore[attr-defined]


def shown(text: str) -> set[str]:
    """The commands in a page's code."""
    code = "\n".join(re.findall(r"^```.*?^```$|`[^`\n]+`", text, re.MULTILINE | re.DOTALL))
    return set(re.findall(r"\bwatertight ([a-z]+)", code))


def test_every_command_is_shown() -> None:
    everything = "\n".join(page.read_text() for page in PAGES)
    assert COMMANDS - shown(everything) == set()


def test_no_page_shows_a_command_that_does_not_exist() -> None:
    wrong = {page.name: sorted(shown(page.read_text()) - COMMANDS) for page in PAGES}
    assert {name: commands for name, commands in wrong.items() if commands} == {}


def test_a_wrong_command_would_be_found() -> None:
    assert shown("```sh\nwatertight fly\n```\n and `watertight swim`") == {"fly", "swim"}
