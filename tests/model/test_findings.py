"""Every code has a page, and the page's own example shows it: docs and program cannot drift."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from watertight.control.environments import overridden, secrets_for_all
from watertight.control.present import as_warning, missing
from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.model import codes
from watertight.model.findings import DeclarationError, Finding, Severity
from watertight.model.lint import lint
from watertight.model.load import load_file, load_text
from watertight.model.rules import Flaw
from watertight.model.system import System

PAGES = Path(__file__).parents[2] / "docs" / "findings"
SOURCES = Path(codes.__file__).parent
CODES = {value for name, value in vars(codes).items() if name.isupper()}
WITHOUT_EXAMPLE = {
    codes.NOT_UTF_8,
    codes.TOO_LARGE,
    codes.TOO_DEEP,
    codes.UNREADABLE,
    codes.TOO_MANY_FINDINGS,
    codes.NO_PORT,
    codes.UNDECLARED_NOTICES,
    codes.TEMPORARY_LEAP,
    codes.KEY_BY_OTHERS,
    codes.PORT_TAKEN,
    *(codes.KEY_SET_REFUSED, codes.CERTIFICATE_REFUSED, codes.SERVER_MISSING),
    *(codes.KEY_SET_REFUSED_HERE, codes.CERTIFICATE_REFUSED_HERE, codes.SERVER_MISSING_HERE),
}
"""What cannot be shown in a short readable text; the tests at the end of this file show them, and
those of `tests/control/test_present.py`."""
WORDS = ("message", "remedy")
OF_MACHINES = re.compile(r"WT-[EW]144\d")


def findings_of(text: bytes | str, code: str = "") -> list[Finding]:
    """What a person sees of this declaration: errors of the load, else what lint says.

    Of the machine, which has nothing here, only for the code of a finding about machines.
    """
    try:
        system = load_text(text)
        more = [*resource_flaws(system)]
        if not any(flaw.severity is Severity.ERROR for flaw in more):
            project = Path("/project")
            more += [*secrets_for_all(system, project), *overridden(system, project)]
        if OF_MACHINES.fullmatch(code):
            found = missing_in_an_empty_project(system)
            more += found if code.startswith("WT-E") else map(as_warning, found)
        return list(lint(system, resource_kinds=resource_enforcers(), more=more))
    except DeclarationError as error:
        return list(error.findings)


def missing_in_an_empty_project(system: System) -> list[Flaw]:
    """As if the project stood in ``/project``."""
    with tempfile.TemporaryDirectory() as place:
        project = Path(place).resolve()
        return [
            replace(flaw, **{k: getattr(flaw, k).replace(str(project), "/project") for k in WORDS})
            for flaw in missing(system, project, project / "run")
        ]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def page_of(code: str) -> str:
    return (PAGES / f"{code}.md").read_text(encoding="utf-8")


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    pages = {path.stem for path in PAGES.glob("WT-[EW]1*.md")}
    assert pages == CODES


def test_codes_are_used_once_and_stand_in_one_file_only() -> None:
    values = [value for name, value in vars(codes).items() if name.isupper()]
    assert len(values) == len(set(values))
    for source in SOURCES.glob("*.py"):
        text = source.read_text(encoding="utf-8")
        if source.name != "codes.py":
            assert not re.search(r'"WT-[EW]\d{4}"', text), source.name


def test_every_code_is_emitted_somewhere() -> None:
    sources = SOURCES.parent.glob("*/**/*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    names = {name for name in vars(codes) if name.isupper()}
    assert {name for name in names if f"codes.{name}" not in text} == set()


def test_the_index_lists_every_page_with_its_title() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    for code in CODES:
        title = page_of(code).splitlines()[0].removeprefix(f"# {code}: ")
        assert f"| [{code}]({code}.md) | {title} |" in index


@pytest.mark.parametrize("code", sorted(CODES - WITHOUT_EXAMPLE))
def test_the_wrong_example_of_a_page_shows_exactly_its_finding(code: str) -> None:
    wrong, [shown] = blocks(page_of(code), "yaml")[0], blocks(page_of(code), "text")
    findings = findings_of(wrong, code)
    assert "\n".join(map(str, findings)) + "\n" == shown
    assert [finding.code for finding in findings] == [code]
    assert (findings[0].severity is Severity.WARNING) == code.startswith("WT-W")


@pytest.mark.parametrize("code", sorted(CODES - WITHOUT_EXAMPLE))
def test_the_mended_example_of_a_page_does_not(code: str) -> None:
    [_, mended] = blocks(page_of(code), "yaml")
    load_text(mended)
    assert code not in {finding.code for finding in findings_of(mended, code)}


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_page_says_how_to_mend_it(code: str) -> None:
    assert "\n## How to mend it\n" in page_of(code)


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        (b"trust_domain: shop\n# caf\xe9\n", codes.NOT_UTF_8, (2, 6)),
        ("trust_domain: shop".encode("utf-16"), codes.NOT_UTF_8, (1, 1)),
        (b"#" * (8 * 1024 * 1024 + 1), codes.TOO_LARGE, (1, 1)),
        ("[" * 40, codes.TOO_DEEP, (1, 33)),
    ],
)
def test_what_no_page_can_show(text: bytes | str, code: str, at: tuple[int, int]) -> None:
    [finding] = findings_of(text)
    assert (finding.code, finding.at.line, finding.at.column) == (code, *at)


@pytest.mark.parametrize("name", ["missing.yaml", ".", "nul\0"])
def test_a_file_that_cannot_be_read_is_a_finding_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        load_file(tmp_path / name)
    assert [finding.code for finding in caught.value.findings] == [codes.UNREADABLE]


def test_no_more_than_two_hundred_findings_are_shown() -> None:
    lines = "\n".join(f"  - {{from: a, to: b{number}}}" for number in range(1000))
    findings = findings_of(f"trust_domain: shop.internal\nchannels:\n{lines}\n")
    assert len(findings) == 201
    assert findings[-1].code == codes.TOO_MANY_FINDINGS
