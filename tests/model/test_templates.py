"""Path templates mean what Envoy makes of them: held on the real Envoy, and by properties."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.model.envoy_oracle import Oracle, envoy_oracle
from watertight.model.template_index import TemplateIndex
from watertight.model.templates import (
    MAX_LENGTH,
    RefusedPath,
    TemplateError,
    normalise,
    parse_template,
    wildcard_texts,
)

TEMPLATES = (
    "/",
    "/**",
    "/*",
    "/{id}",
    "/a",
    "/a/",
    "/a/*",
    "/a/*/",
    "/a/**",
    "/a/*/c",
    "/*/b",
    "/*/**",
    "/a.b~c-_",
    "/@a/*",
    "/a:b",
    "/a,(b)/**",
    "/$!'*+;=/{id}",
    "/{id}:b",
    "/a/{id}.b",
    "/@{name}/**",
    "/a{b}-c/",
    "/{x}.40",
    "/;p/{id}",
    "/;{p}:b",
)

literals = st.sampled_from(["a", "b", "c", "a.b~c-_", "@a", "a:b", "a,(b)", "a*", ";x"])
mixed = st.sampled_from(
    ["{}:b", ";{}", ";x{}", "a{}", "@{}", "{}.b", "a{}:b", "{}.b:b", "a.{}-_", "a{}*"]
)


@st.composite
def templates(draw: st.DrawFn) -> str:
    parts = draw(st.lists(literals | st.just("*") | mixed, max_size=3))
    end = draw(st.sampled_from(["", "*", "**", "{id}", "a", "{id}:b", "{}:b", "a{}"]))
    named = (part.replace("{}", f"{{x{n}}}") for n, part in enumerate([*parts, end]))
    return "/" + "/".join(named)


plain_segments = st.sampled_from(
    ["a", "b", "c", "x", "a.b~c-_", "@a", "%40a", "a:b", "ax:b", "a%3Ab", "a.x-_", "a*", "[x]"]
) | st.sampled_from([";x", "%3bx", ";x:b", ";", "%", "%3"])
paths = st.lists(plain_segments, max_size=5).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "/" + "/".join([*parts, ""])])
)
odd_segments = (
    st.sampled_from(
        [".", "..", "%2e", "%2E%2e", ".%2e", "%61", "%7E", "%5f", "a%20b", "%2f", "%5C", "%00"]
    )
    | st.sampled_from(
        ["", "a;b", "a[b", "{x}", "*", "a|b", "%zz", "a#b", "a\\b", "%5b", ",", "a", "b"]
    )
    | st.sampled_from(
        [
            "@a",
            "%40a",
            "%40A",
            "a:b",
            "a%3ab",
            "a%3Ab",
            "a,(b)",
            "a%2c%28b%29",
            "$!'*+;=",
            "%24!'%2A+;=",
        ]
    )
    | st.sampled_from(
        [
            "..;",
            "..;x",
            "%2e%2e;",
            ".;a",
            "..%3Bx",
            ".%2e;b",
            "%2E;",
            "..;%2e",
            "...;",
            "..;%5c",
            "a%2Fb",
            "..%2f",
            "%2e%2e%2Fa",
            "a%2F..",
            "a%2f.%2Fb",
            "%2F",
            "..;x%2fa",
            "a%2F..;b",
            "%2F%2e",
        ]
    )
    | st.sampled_from(["x:b", "x%3Ab", "%3Ab", ":b", "x%3a:b", "x.b", ".b", "@x", "%40", "@"])
    | st.sampled_from(
        [
            "ax-c",
            "a%2Dc",
            "a--c",
            ";p",
            ";x",
            "%3bx:b",
            ";",
            "%3B",
            "%3",
            "%3c",
            "%",
            "%;",
            "a-c",
            "x%40",
            "x.40",
            "x%2e40",
            "%.40",
            "%4.40",
        ]
    )
    | st.text(alphabet="\"<>[]{}|^`'\\~", min_size=1, max_size=4)
)
odd_paths = st.lists(odd_segments, min_size=1, max_size=5).map(lambda s: "/" + "/".join(s))
queries = st.sampled_from(["", "?", "?a=/../b", "?%2f"])


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with (
        TemporaryDirectory(prefix="wt-") as directory,
        envoy_oracle(Path(directory), TEMPLATES) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def keeping_oracle() -> Iterator[Oracle]:
    with (
        TemporaryDirectory(prefix="wt-") as directory,
        envoy_oracle(Path(directory), TEMPLATES, keeps_slashes=True) as running,
    ):
        yield running


def ours(path: str, *, keeps_slashes: bool = False) -> set[str] | None:
    try:
        plain = normalise(path, escaped_slashes=keeps_slashes, double_slashes=keeps_slashes)
    except RefusedPath:
        return None
    return {template for template in TEMPLATES if parse_template(template).claims(plain)}


@settings(max_examples=60, deadline=None)
@given(path=paths | odd_paths, query=queries)
@example(path="//", query="")
@example(path="//.", query="")
@example(path="/a//../b", query="")
def test_envoy_agrees(oracle: Oracle, path: str, query: str) -> None:
    assert ours(path + query) == oracle.matching(path + query)


@settings(max_examples=60, deadline=None)
@given(path=paths | odd_paths, query=queries)
@example(path="//", query="")
@example(path="//.", query="")
@example(path="/a//../b", query="")
@example(path="/a/..%2fb", query="")
@example(path="/a/b%2F..", query="?x")
def test_envoy_agrees_where_slashes_are_kept(keeping_oracle: Oracle, path: str, query: str) -> None:
    assert ours(path + query, keeps_slashes=True) == keeping_oracle.matching(path + query)


@given(text=templates(), path=paths)
@example(text="/**", path="/;x/")
def test_a_final_wildcard_stands_for_something(text: str, path: str) -> None:
    template = parse_template(text)
    fixed = text.removesuffix("/**").count("/")
    # What has no name of its own, behind what the segments before the wildcard stand for.
    rest = re.split("/", path[1:])[fixed:] if text.endswith("/**") else ["named"]
    nothing = all(re.fullmatch("(?i)(?:(?:;|%3b).*)?", segment) for segment in rest)
    assert template.matches(path) == (template.claims(path) and not nothing)


@given(wide=templates(), narrow=templates(), path=paths)
def test_what_a_covered_template_matches_the_wider_one_does(
    wide: str, narrow: str, path: str
) -> None:
    one, other = parse_template(wide), parse_template(narrow)
    if one.covers(other) and other.matches(path):
        assert one.matches(path)
    if one.shadows(other) and other.matches(path):
        assert one.claims(path)


@given(one=templates(), other=templates(), path=paths)
def test_templates_that_match_one_path_overlap(one: str, other: str, path: str) -> None:
    a, b = parse_template(one), parse_template(other)
    assert a.overlaps(b) == b.overlaps(a)
    if a.matches(path) and b.matches(path):
        assert a.overlaps(b)


@given(many=st.lists(templates(), max_size=8), asked=templates())
def test_the_index_answers_as_comparing_each_does(many: list[str], asked: str) -> None:
    index: TemplateIndex[int] = TemplateIndex()
    parsed = [parse_template(text) for text in many]
    for number, template in enumerate(parsed):
        index.add(template, number)
    one = parse_template(asked)
    shadowing = [n for n, template in enumerate(parsed) if template.shadows(one)]
    overlapping = [n for n, template in enumerate(parsed) if template.overlaps(one)]
    assert sorted(index.shadowing(one)) == shadowing
    assert sorted(index.overlapping(one)) == overlapping


@given(one=templates(), other=templates())
def test_covering_means_overlapping(one: str, other: str) -> None:
    a, b = parse_template(one), parse_template(other)
    assert a.covers(a)
    if a.covers(b):
        assert a.overlaps(b)


@given(path=odd_paths, query=queries)
def test_normal_form_is_stable(path: str, query: str) -> None:
    try:
        once = normalise(path + query)
    except RefusedPath:
        return
    assert normalise(once) == once
    assert {"", ".", ".."}.isdisjoint(once[1:].split("/")[:-1])


@pytest.mark.parametrize(
    ("wide", "narrow", "covers", "overlaps"),
    [
        ("/**", "/", False, True),
        ("/**", "/;x", False, True),
        ("/*", "/;x", False, False),
        ("/", "/;x", True, True),
        ("/", "/;{x}", True, True),
        ("/;x", "/", False, True),
        ("/{id}:b", "/;{id}:b", False, False),
        ("/**", "/;x/a", True, True),
        ("/a/**", "/a", False, False),
        ("/a/**", "/a/", False, True),
        ("/a/*", "/a/**", False, True),
        ("/a/*", "/a/", False, False),
        ("/{id}", "/*", True, True),
        ("/*/b", "/a/*", False, True),
        ("/*/b", "/a/c", False, False),
        ("/**", "/a/**", True, True),
        ("/**", "/a/", True, True),
        ("/a/**", "/a/*", True, True),
        ("/a/**", "/b/**", False, False),
        ("/a/b/**", "/a", False, False),
        ("/*", "/{id}:b", True, True),
        ("/{id}:b", "/*", False, True),
        ("/{id}:b", "/a:b", True, True),
        ("/{id}:b", "/:b", False, False),
        ("/{id}:b", "/{other}:b", True, True),
        ("/{id}:b", "/x-{id}:b", True, True),
        ("/x{id}", "/{id}:b", False, True),
        ("/{id}:c", "/{id}:b", False, False),
        ("/{id}:b/**", "/a:b/c", True, True),
    ],
)
def test_covers_and_overlaps(wide: str, narrow: str, covers: bool, overlaps: bool) -> None:
    a, b = parse_template(wide), parse_template(narrow)
    assert (a.covers(b), a.overlaps(b)) == (covers, overlaps)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not start with `/`"),
        ("a/b", "does not start with `/`"),
        ("/" + "a" * MAX_LENGTH, "characters of at most"),
        ("/a" * 65, "65 segments of at most 64"),
        ("/a//b", "neither a literal nor a wildcard"),
        ("/a/**/b", "only be its last segment"),
        ("/a/../b", "proxies resolve it"),
        ("/a b", "neither"),
        ("/a%20b", "neither"),
        ("/..;x/a", "every proxy refuses"),
        ("/{}", "neither"),
        ("/{1a}", "neither"),
        ("/{" + "a" * 65 + "}", "neither"),
        ("/{a", "neither"),
        ("/a}", "neither"),
        ("/{a}{", "neither"),
        ("/{a}.{b}", "holds 2 wildcards, and where one ends nobody knows: write one for"),
        ("/{a}cancel", "a letter or digit follows the wildcard: begin what follows with one of"),
        ("/x{a}40", "or write `x{a}`"),
        ("/{name=shelves/*}", "write that out, `shelves/{shelf}` for `{name=shelves/*}`"),
        ("/{path=**}", "write that out"),
        ("/a%40b", "write `*` for what comes escaped, and `@` for `%40`"),
        ("/{a}/{a}", "`{a}` stands in it twice"),
        ("/*" * 10, "10 wildcards of at most 9"),
        ("/é", "neither"),
        ("/a?b", "neither"),
    ],
)
def test_what_is_no_template_says_why(text: str, why: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(why)):
        parse_template(text)


slashes = st.lists(
    st.sampled_from(["/", "/", "/.", "/..", "/%2e", "/%2E%2e", "\\", "/a", "/;", "/;x", "/%2F"]),
    min_size=1,
    max_size=6,
).map(lambda parts: "/" + "".join(parts))


@settings(max_examples=150, deadline=None)
@given(path=slashes, query=queries)
@example(path="/.//", query="")
@example(path="/a/..//", query="?//")
@example(path="/\\", query="")
def test_envoy_agrees_on_slashes_and_dots(
    oracle: Oracle, keeping_oracle: Oracle, path: str, query: str
) -> None:
    assert ours(path + query) == oracle.matching(path + query)
    assert ours(path + query, keeps_slashes=True) == keeping_oracle.matching(path + query)


@given(path=slashes, keeps=st.booleans())
def test_what_many_programs_read_as_the_root_no_wildcard_matches(path: str, keeps: bool) -> None:
    try:
        plain = normalise(path, escaped_slashes=keeps, double_slashes=keeps)
    except RefusedPath:
        return
    bare = [segment.partition(";")[0] for segment in plain.split("/")]
    if not any(bare):
        assert [t for t in TEMPLATES if parse_template(t).matches(plain)] in ([], ["/"])


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/.//",
        "///",
        "/\\",
        "/a/..//",
        "//?q",
        "/..//.",
        "",
        "a",
        "*",
        "/a%2Fb",
        "/a%5cb",
        "/%00",
        "/a b",
        "/a\x7f",
        "/a#b",
    ],
)
def test_refused_paths(path: str) -> None:
    with pytest.raises(RefusedPath):
        normalise(path)


def test_what_is_not_ascii_is_read_as_browsers_send_it() -> None:
    assert normalise("/é/../\udcff?é") == "/%FF"


def test_wildcards_as_written() -> None:
    assert wildcard_texts("/a/{id}/*/b/**") == ("{id}", "*", "**")
    assert parse_template("/a/{id}/*/b/**").wildcards == 3
    assert wildcard_texts("/v{n}/{order-id}:x/*:y") == ("{n}", "{order-id}")
    assert parse_template("/v{n}/{order-id}:x/*:y").wildcards == 2
