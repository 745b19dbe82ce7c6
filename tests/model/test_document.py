"""YAML's traps are closed, and every value knows where it stands."""

import time

import pytest
import yaml

from watertight.model import codes, document
from watertight.model.document import Document, Node, path_text, quoted, read_document


def read(text: bytes | str) -> Document:
    return read_document(text, "w.yaml")


def plain(text: bytes | str) -> object:
    found = read(text)
    assert found.root is not None, found.findings
    assert found.findings == ()
    return found.root.plain()


def codes_of(text: bytes | str) -> list[str]:
    return [finding.code for finding in read(text).findings]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-17", -17),
        ("8080", 8080),
        # Booleans, numbers, dates and infinities by accident stay text.
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("True", "True"),
        ("NULL", "NULL"),
        ("010", "010"),
        ("0o10", "0o10"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("22:30", "22:30"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("2026-08-22", "2026-08-22"),
        ("9" * 5000, "9" * 5000),
        # Quotes make text.
        ("'true'", "true"),
        ('"8080"', "8080"),
        ('""', ""),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_only_what_looks_like_it_is_no_text(text: str, value: object) -> None:
    assert plain(f"key: {text}") == {"key": value}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert plain("no: 1\n8080: 2\nnull: 3\n") == {"no": 1, "8080": 2, "null": 3}


def test_a_byte_order_mark_at_the_start_does_no_harm() -> None:
    assert plain("a: 1".encode("utf-8-sig")) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "# harmless\ra: 1",  # a line that no editor shows
        "# harmless\u2028a: 1",
        "# harmless\x85a: 1",
        "a: \u202egnp.exe",
        "a: b\ufeff",
        "a: \x1b[2J",
        "a: \x00",
        'a: "\\0"',
    ],
)
def test_what_does_not_show_is_refused(text: str) -> None:
    assert codes_of(text) == [codes.INVISIBLE_CHARACTER]


def test_windows_line_ends_are_fine() -> None:
    assert plain("a: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


def test_every_yaml_finding_of_a_file_is_reported() -> None:
    text = "a: 1\na: 2\nb: {c: 1, c: 2}\nd: !!str 5\n<<: 3\n"
    assert codes_of(text) == [codes.DUPLICATE_KEY, codes.DUPLICATE_KEY, codes.TAG, codes.ALIAS]


def test_the_first_of_two_equal_keys_counts_for_what_follows() -> None:
    root = read("a: {x: 1}\na: {x: [1, {y: 2}]}\nb: 3\n").root
    assert root is not None
    assert root.plain() == {"a": {"x": 1}, "b": 3}


def test_aliases_are_followed_and_bounded() -> None:
    assert plain("a: &x [1]\nb: *x\n") == {"a": [1], "b": [1]}
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    started = time.process_time()
    assert codes_of(laughs) == [codes.ALIAS]
    assert time.process_time() - started < 5


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: *nothing", "a: &x 1\n? *x\n: 2"])
def test_aliases_to_nothing_finished_are_refused(text: str) -> None:
    assert codes_of(text)[0] in {codes.ALIAS, codes.ODD_KEY}


@pytest.mark.parametrize("brackets", ["[", "{a: ", "- "])
def test_depth_is_bounded(brackets: str) -> None:
    assert codes_of(brackets * 100_000)[0] in {codes.TOO_DEEP, codes.NOT_YAML}
    assert codes_of("a: " + "[" * 31 + "]" * 31) == []
    assert codes_of("a: " + "[" * 32 + "]" * 32) == [codes.TOO_DEEP]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "text", "[a]", "5"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert codes_of(text) == [codes.NO_MAPPING]


def test_a_second_document_is_refused_and_an_end_marker_is_not() -> None:
    assert codes_of("a: 1\n---\nb: 2\n") == [codes.SEVERAL_DOCUMENTS]
    assert codes_of("---\na: 1\n...\n") == []


def test_text_that_utf_8_cannot_hold_is_refused() -> None:
    assert codes_of("a: \ud800") == [codes.NOT_UTF_8]


def test_the_slow_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x [1, no, {b: 'c', d: }]\ne: *x\nf: |\n  g\n"
    fast = plain(text)
    monkeypatch.setattr(document, "_Loader", yaml.SafeLoader)
    assert plain(text) == fast


TEXT = """\
services:
  orders:
    run: [a, b]
channels:
  - {from: x,
     to: y}
"""


@pytest.fixture
def root() -> Node:
    found = read(TEXT).root
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "on_key", "line", "column"),
    [
        (("services",), True, 1, 1),
        (("services", "orders", "run"), True, 3, 5),
        (("services", "orders", "run"), False, 3, 5),
        (("services", "orders", "run", 1), False, 3, 14),
        (("channels", 0), False, 5, 5),
        (("channels", 0, "to"), False, 6, 10),
        (("channels", 0, "to"), True, 6, 6),
        (("channels", 0, "missing", "below"), False, 5, 5),
        (("services", "orders", "listens"), True, 2, 3),
        (("channels", 7), False, 4, 1),
    ],
)
def test_positions(
    root: Node, path: tuple[str | int, ...], on_key: bool, line: int, column: int
) -> None:
    at = root.locate(path, on_key=on_key)
    assert (at.file, at.line, at.column) == ("w.yaml", line, column)


def test_paths_and_values_are_shown_so_that_they_can_be_found() -> None:
    assert path_text(("channels", 2, "allow", 0)) == "channels[2].allow[0]"
    assert path_text(("services", "a.b")) == "services[`a.b`]"
    assert quoted("a\u202eb") == "`a\\u202eb`"
    assert quoted("x" * 100) == "`" + "x" * 60 + "…`"
    assert (quoted(None), quoted(True), quoted({}), quoted([1])) == (
        "nothing",
        "`true`",
        "an empty mapping",
        "a list",
    )
