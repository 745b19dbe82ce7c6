"""What is wrong with a text that is not YAML is said in our words, where the mistake stands."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watertight.model import codes
from watertight.model.document import read_document
from watertight.model.starter import STARTER

PARSERS_WORDS = re.compile(
    r"while (parsing|scanning)|did not find|found (character|unexpected|a tab|unknown)|"
    r"could not find|not allowed in this context|block mapping|simple key|token"
)


@pytest.mark.parametrize(
    ("text", "at", "says", "remedy"),
    [
        ("services:\n\torders: 1\n", "2:1", "Tabs do not indent", "spaces"),
        ("services:\n  a:\n    run: [a]\n\tlistens: 1\n", "4:1", "Tabs do not", "spaces"),
        ("a: b\n\tc: d\n", "2:1", "Tabs do not indent", "spaces"),
        ("a: |\n\tb\n", "2:1", "Tabs do not indent", "spaces"),
        ("a: [1, 2\nb: 3\n", "1:4", "The `[` that opens here is never closed", "`]`"),
        ("a:\n  b: {c: [1, 2]\nd: 3\n", "2:6", "The `{` that opens here is never", "`}`"),
        ("a: {b: 1", "1:4", "The `{` that opens here is never closed", "`}`"),
        ("a: [1, 2}\n", "1:9", "This `}` closes nothing", "`]`"),
        ("a: [1]]\n", "1:7", "This `]` closes nothing", "Delete"),
        ('a: "abc\nb: 1\n', "1:4", 'The quote `"` that opens here is never closed', '`"`'),
        ("a: 'abc\nb: 1\n", "1:4", "The quote `'` that opens here", "apostrophe"),
        ("a: 'don't'\n", "1:9", "behind the closing quote", "inside the quotes"),
        ('a: "x\n---\nb"\n', "2:1", "opens at line 1 is not closed", "before this line"),
        ('a: "b\nc: 1\nd: "e"\n', "1:4", "is closed only in line 3", 'Close it with `"`'),
        ("a: 1\nready /\nb: 2\n", "2:6", "no `:` after `ready`", "`ready: /`"),
        ("a: 1\nservices\nb: 2\n", "2:1", "no `:` after `services`", "`services:`"),
        ("services:\n  orders\n    run: [a]\n", "2:3", "no `:` after `orders`", "`orders:`"),
        ("domain:shop\nservices: {}\n", "1:7", "no space after the `:`", "`domain: shop`"),
        ("s:\n  web:{a: {b: 1}}\n", "2:6", "There is no space after this `:`", "`: {`"),
        ("c:\n  -{a: 1, b: 2}\n", "2:3", "There is no space after this `-`", "`- {`"),
        ("domain = shop\ns: {}\n", "1:1", "joins key and value by `=`", "`domain: shop`"),
        ("a: b: c\n", "1:5", "A second `: ` in one line", '`"b: c"`'),
        ("s:\n  a: 1\n b: 2\n", "3:2", "indented by 1 spaces", "exactly as"),
        ("s:\n  a: 1\n    b: 2\n", "3:5", "deeper than the one above", "`a` in line 2"),
        ("c:\n  - a: 1\n  b: 2\n", "3:3", "A key stands among the items", "`- `"),
        ("a: 1\n- b\n", "2:1", "An item of a list stands among the keys", "Indent"),
        ("a: - b\n", "1:4", "begins in a line of its own", "[one, two]"),
        ("b: {from: a to: b}\n", "1:15", "There is no `,` between", "Put a `,`"),
        ("b: [\n 'x'\n 'y'\n]\n", "3:2", "There is no `,` between", "Put a `,`"),
        ("a: [GET /orders/{id}, x]\n", "1:17", "cannot hold `{` without quotes", "quotes"),
        ("a: [--bind:, b]\n", "1:11", "no value behind this `:`", "quote"),
        ("a: {b: 1} ? c\n", "1:11", "A `?` with a space", "Delete it"),
        ("a: [,b]\n", "1:5", "nothing in front of this `,`", "Delete it"),
        ("x: */b\n", "1:4", "cannot begin with `*`", '`"*/b"`'),
        ("x: @foo\n", "1:4", "cannot begin with `@`", '`"@foo"`'),
        ("x: &\n", "1:4", "cannot begin with `&`", "quotes"),
        ("x: !<foo\n", "1:4", "cannot begin with `!`", "quotes"),
        ("%foo\na: 1", "1:1", "directive", "Delete the line"),
        ("%YAML 2.0\n---\na: 1\n", "1:1", "directive", "Delete the line"),
        ('a: "\\d"\n', "1:5", "`\\d` is no escape", "single quotes"),
        ('a: "\\xZZ"\n', "1:7", "lacks hexadecimal digits", "single quotes"),
        ("a: |x\n  b\n", "1:5", "nothing stands in the same line", "next line"),
        ("a: 1\n...\nb: 1\n", "3:1", "behind the line `...`", "Delete that line"),
        (
            "a: 1\ngarbage: [",
            "2:10",
            "The `[` that opens here is never closed",
            "Close it with `]`",
        ),
        ("a: 1\ngarbage: [\n", "2:10", "The `[` that opens here is never closed", "`]`"),
        ("a: [']', {b: \n", "1:10", "The `{` that opens here is never closed", "`}`"),
        ("a: [%{x}}}, b]\n", "1:5", "cannot begin with `%`", '`"%{x}"`'),
        ("a: [@x, b]\n", "1:5", "cannot begin with `@`", '`"@x"`'),
        ("x: *abc\n", "1:4", "has the anchor `abc`", '`"*abc"`'),
    ],
)
def test_a_mistake_is_told_where_it_stands(text: str, at: str, says: str, remedy: str) -> None:
    [finding] = read_document(text, "w").findings
    assert str(finding.at) == f"w:{at}", str(finding)
    assert says in finding.message
    assert remedy in finding.remedy
    assert not PARSERS_WORDS.search(str(finding))


CHARACTERS = st.sampled_from([*"\t\n :-,#&*!|>'\"%@`[]{}=\\", "é", "  ", ": ", "- ", "\r\n"])


@given(st.lists(st.tuples(st.integers(0, len(STARTER)), CHARACTERS), min_size=1, max_size=4))
def test_whatever_is_mistyped_has_a_place_in_the_text(changes: list[tuple[int, str]]) -> None:
    text = STARTER
    for position, typed in changes:
        text = text[:position] + typed + text[position + len(typed) // 2 :]
    lines = text.split("\n")
    for finding in read_document(text, "w").findings:
        assert 1 <= finding.at.line <= len(lines) + 1
        assert 1 <= finding.at.column <= max(map(len, lines)) + 1
        if finding.code == codes.NOT_YAML:
            assert finding.remedy
            if not any("`" in typed for _, typed in changes):
                assert "``" not in f"{finding.message} {finding.remedy}", finding
            assert not PARSERS_WORDS.search(finding.message), finding


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_file_that_breaks_off_is_told_at_a_line_that_it_has(end: str) -> None:
    text = 'a: {b: [c, "d]", {e: f}]}\ng:\n  - h: [i,\n     j: {k: l}]\n'
    for length in range(1, len(text)):
        broken = text[:length] + end
        for finding in read_document(broken, "w").findings:
            assert finding.at.line <= len(broken.rstrip("\n").split("\n")), (broken, finding)
            assert "``" not in f"{finding.message} {finding.remedy}", (broken, finding)
