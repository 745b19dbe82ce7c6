"""What the documentation points at exists, and what must be explained is."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def broken_links(page: Path, text: str) -> list[str]:
    """The relative links of ``text`` that lead nowhere."""
    prose = _COMMENT.sub("", _FENCED.sub("", text))
    targets = [match["target"] for match in _LINK.finditer(prose)]
    return [
        target
        for target in targets
        if not re.match(r"[a-z]+:|#", target) and not (page.parent / target.split("#")[0]).exists()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](README.md) [b](nowhere.md#x) [c](https://example.org) <!-- [d](not-yet.svg) -->"
    assert broken_links(REPOSITORY / "page.md", text) == ["nowhere.md#x"]


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~\[ ;]", requirement, maxsplit=1)[0].lower()


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"]]
    extras = project["project"]["optional-dependencies"].values()
    wanted += {_name(requirement) for extra in extras for requirement in extra}
    for group in project["dependency-groups"].values():
        wanted += group
    wanted += re.findall(r"^[a-z]+", (REPOSITORY / "requirements-uv.lock").read_text())
    page = (REPOSITORY / "docs" / "dependencies.md").read_text()
    given = re.findall(r"^\| `([a-z0-9-]+)` \| \S.+ \|$", page, re.MULTILINE)
    assert set(given) == set(map(_name, wanted))
