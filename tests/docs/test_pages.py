"""What each page of the documentation shows is done, and must come out as shown."""

from pathlib import Path

import pytest

from tests.docs.console import REPOSITORY, Command, read_page, run_page

PAGES = {
    str(file.relative_to(REPOSITORY)): read_page(file.read_text())
    for file in sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
}
RUN = [name for name, page in PAGES.items() if any(isinstance(s, Command) for s in page.steps)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RUN)
async def test_the_page_does_what_it_shows(name: str, tmp_path: Path) -> None:
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    home.mkdir()
    await run_page(PAGES[name], project, home)
