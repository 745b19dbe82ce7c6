"""What the documentation points at exists, and what must be explained is."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_NAMED = re.compile(r'<a id="([^"]+)"></a>')
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def broken_links(page: Path, text: str) -> list[str]:
    """The relative links of ``text`` that lead nowhere: to no file, or to no heading of it."""
    prose = _COMMENT.sub("", _FENCED.sub("", text))
    targets = [match["target"] for match in _LINK.finditer(prose)]
    return [t for t in targets if not re.match(r"[a-z]+:", t) and not leads(page, text, t)]


def leads(page: Path, text: str, target: str) -> bool:
    name, _, anchor = target.partition("#")
    there = page.parent / name if name else page
    if name and not there.exists():
        return False
    if not anchor or there.suffix != ".md":
        return True
    return anchor in anchors(there.read_text() if name else text)


def anchors(text: str) -> set[str]:
    """The names that a reader's browser knows the headings of a page by, as GitHub makes them; and those that it gives."""
    found: dict[str, int] = {}
    names = set(_NAMED.findall(_FENCED.sub("", text)))
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        words = _LINK.sub(lambda link: link["text"], heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = found.get(slug, 0)
        found[slug] = number + 1
        names.add(f"{slug}-{number}" if number else slug)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](README.md) [b](nowhere.md#x) [c](https://example.org) <!-- [d](not-yet.svg) -->"
    assert broken_links(REPOSITORY / "page.md", text) == ["nowhere.md#x"]


def test_an_anchor_without_its_heading_is_found() -> None:
    text = "# A `page`: it's new\n## See it\n## See it\n[a](#a-page-its-new) [b](#see-it-1) [c](#x)"
    text += " [d](README.md#see-it) [e](README.md#hear-it)"
    assert broken_links(REPOSITORY / "page.md", text) == ["#x", "README.md#hear-it"]


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
