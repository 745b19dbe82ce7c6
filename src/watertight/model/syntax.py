"""What the YAML parser stumbled over, in words for whoever wrote the text.

The parser tells at which character it could not go on, and what it was busy with; both are often
far from the mistake. From them and from the text itself comes where the mistake most likely stands
and what to write there. Words of libyaml 0.2 (``src/scanner.c``, ``src/parser.c``).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from watertight.model import codes

MAX_SHOWN = 40
_CLOSING = {"[": "]", "{": "}"}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}


@dataclass(frozen=True, slots=True)
class Stumble:
    """One mistake: its code, its place (both from 1), what it is, what to do."""

    code: str
    line: int
    column: int
    message: str
    remedy: str = ""


class _Text:
    """The text, its lines, and where the parser was."""

    def __init__(self, content: str, error: yaml.MarkedYAMLError) -> None:
        self.content = content
        self.lines = content.split("\n")
        self.problem = error.problem or ""
        self.context = error.context or ""
        self.stopped: Any = error.problem_mark or error.context_mark
        self.began: Any = error.context_mark or error.problem_mark

    def line(self, number: int) -> str:
        """A line by its number from 0, without its end."""
        return self.lines[number].rstrip("\r") if 0 <= number < len(self.lines) else ""

    def char(self, mark: Any) -> str:
        """The character at a mark; nothing at the end of the text."""
        return self.content[mark.index : mark.index + 1]

    def before(self) -> str:
        """What stands before the place where the parser stopped, in the same line."""
        return self.line(self.stopped.line)[: self.stopped.column]

    def is_over(self) -> bool:
        """Whether the parser stopped at the end of the text."""
        return not self.content[self.stopped.index :].strip()

    def line_above(self) -> int:
        """The number of the last line above that says something; -1 if there is none."""
        number: int = self.stopped.line - 1
        while number >= 0 and not _without_comment(self.line(number)).strip():
            number -= 1
        return number


def stumble(error: yaml.MarkedYAMLError, content: str) -> Stumble:
    """What is wrong where the parser gave up."""
    text = _Text(content, error)
    if text.stopped is None:  # the parser always says where
        return Stumble(codes.NOT_YAML, 1, 1, f"This is not YAML: {error}.")
    if text.char(text.stopped) == "\t" or "tab" in text.problem.split():
        return _at(text.stopped, "Tabs do not indent in YAML.", "Write spaces instead.", codes.TAB)
    for said, told in _TOLD:
        if said in f"{text.context}; {text.problem}" and (found := told(text)) is not None:
            return found
    return _at(
        text.stopped,
        "From here on this is not YAML.",
        "Look at this line and the one above: indentation, quotes, brackets, `: `.",
    )


def _at(mark: Any, message: str, remedy: str = "", code: str = codes.NOT_YAML) -> Stumble:
    return Stumble(code, mark.line + 1, mark.column + 1, message, remedy)


def _shown(text: str) -> str:
    """A piece of the text in backquotes: printable, one line, cut short."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _first(text))
    return f"`{line[:MAX_SHOWN]}…`" if len(line) > MAX_SHOWN else f"`{line}`"


def _first(text: str) -> str:
    """Its first line."""
    return text.strip().partition("\n")[0].rstrip()


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).rstrip()


def _unclosed_quote(text: _Text) -> Stumble:
    quote = text.char(text.began)
    if "document indicator" in text.problem:
        return _at(
            text.stopped,
            f"The text in quotes that opens at line {text.began.line + 1} is not closed here.",
            f"Close it with `{quote}` before this line.",
        )
    remedy = f"Close it with `{quote}` at the end of the text."
    if quote == "'":
        remedy += " A text with an apostrophe in it stands in double quotes."
    return _at(text.began, f"The quote `{quote}` that opens here is never closed.", remedy)


def _bad_escape(text: _Text) -> Stumble:
    start = text.content.rfind("\\", 0, text.stopped.index + 1)
    escape = text.content[start : start + 2]
    what = "is no escape" if "unknown" in text.problem else "lacks hexadecimal digits"
    return _at(
        text.stopped,
        f"`{escape}` {what} in a text in double quotes.",
        "In single quotes a backslash stands for itself.",
    )


def _missing_colon(text: _Text) -> Stumble:
    return _no_colon(text, text.began.line)


def _no_colon(text: _Text, number: int) -> Stumble:
    """A line that holds neither a key nor an item."""
    bare = _without_comment(text.line(number))
    key = bare.strip()
    column = len(bare) - len(bare.lstrip()) + 1
    word, glued, value = key.partition(":")
    if glued and value and not word.startswith(('"', "'")):
        message = f"There is no space after the `:` of {_shown(key)}."
        return Stumble(
            codes.NOT_YAML,
            number + 1,
            column + len(word),
            message,
            f"Write {_shown(f'{word}: {value}')}.",
        )
    if match := re.fullmatch(r"(?P<key>[\w-]+)\s*=\s*(?P<value>.*)", key):
        remedy = f"Write {_shown(match['key'] + ': ' + match['value'])}."
        return Stumble(
            codes.NOT_YAML, number + 1, column, f"{_shown(key)} joins key and value by `=`.", remedy
        )
    word, _, value = key.partition(" ")
    if value and re.fullmatch(r"[\w-]+", word):
        message = f"There is no `:` after {_shown(word)}."
        remedy = f"Write {_shown(f'{word}: {value.strip()}')}."
        return Stumble(codes.NOT_YAML, number + 1, column + len(word), message, remedy)
    return Stumble(
        codes.NOT_YAML,
        number + 1,
        column,
        f"There is no `:` after {_shown(key)}.",
        f"Write {_shown(f'{key}:')} and its value, or begin an item of a list with `- `.",
    )


def _glued(text: _Text) -> Stumble | None:
    """A bracket right behind ``:`` or ``-`` opens nothing: YAML takes it for a part of the text."""
    match = re.match(r"\s*(- )?(?P<key>[\w.-]+:)[\[{]|\s*(?P<dash>-)[\[{]", text.before())
    if match is None:
        return None
    sign = "-" if match["dash"] else ":"
    end = match.end("dash") if match["dash"] else match.end("key")
    return Stumble(
        codes.NOT_YAML,
        text.stopped.line + 1,
        end,
        f"There is no space after this `{sign}`.",
        f"Write `{sign} {text.line(text.stopped.line)[end]}`.",
    )


def _value_out_of_place(text: _Text) -> Stumble:
    """A ``: `` where no key can be."""
    before = text.before()
    if (glued := _glued(text)) is not None:
        return glued
    if re.search(r":\s", before):
        value = text.line(text.stopped.line)
        start = re.search(r":\s+", before)
        rest = _without_comment(value[start.end() :]) if start else value
        return _at(
            text.stopped,
            "A second `: ` in one line: a key has one value.",
            f"Quote the text that holds it, {_shown(chr(34) + rest + chr(34))}, or begin a new "
            "line.",
        )
    above = text.line_above()
    bare = _without_comment(text.line(above)).strip() if above >= 0 else ""
    body = bare.removeprefix("- ").strip()
    if body and not re.search(r":(\s|$)", body):
        return _no_colon(text, above)
    key = body.partition(":")[0]
    column = len(before) - len(before.lstrip()) + 1
    return Stumble(
        codes.NOT_YAML,
        text.stopped.line + 1,
        column,
        "This line is indented deeper than the one above it, which has its value already.",
        f"Indent it as {_shown(key)} in line {above + 1}, or move that value." if key else "",
    )


def _no_key(text: _Text) -> Stumble:
    char, before = text.char(text.stopped), text.before()
    if (glued := _glued(text)) is not None:
        return glued
    if char in _OPENING:
        return _at(text.stopped, f"This `{char}` closes nothing.", "Delete it.")
    if before.rstrip().endswith(('"', "'")):
        return _behind_a_quote(text, before.rstrip()[-1])
    if char == "-" and not before.strip():
        return _at(
            text.stopped,
            "An item of a list stands among the keys of a mapping.",
            "Indent it below the key whose list it belongs to, or delete the `- `.",
        )
    if before.strip():
        return _at(
            text.stopped,
            f"{_shown(text.content[text.stopped.index :])} does not belong here.",
            "Quote the whole text, or begin a new line.",
        )
    return _at(
        text.stopped,
        f"This line is indented by {text.stopped.column} spaces, as nothing above it.",
        "Indent it exactly as the other keys or items of its block.",
    )


def _behind_a_quote(text: _Text, quote: str) -> Stumble:
    """A text in quotes ended; where it ends in another line than it began, it ended too late."""
    closing = text.content.rfind(quote, 0, text.stopped.index)
    opening = text.content.rfind(quote, 0, closing)
    between = text.content[opening:closing]
    if opening < 0 or "\n" not in between:
        return _at(
            text.stopped,
            "Something stands behind the closing quote.",
            "Put it inside the quotes, or delete it.",
        )
    line = text.content.count("\n", 0, opening)
    return Stumble(
        codes.NOT_YAML,
        line + 1,
        opening - text.content.rfind("\n", 0, opening),
        f"The quote `{quote}` that opens here is closed only in line {text.stopped.line + 1}, "
        "where another text begins.",
        f"Close it with `{quote}` at the end of the text.",
    )


def _colon_without_value(text: _Text) -> Stumble:
    return _at(
        text.stopped,
        "There is no value behind this `:`.",
        "Write a space and the value behind it; quote a text that ends with `:`.",
    )


def _question_mark(text: _Text) -> Stumble:
    return _at(
        text.stopped,
        "A `?` with a space behind it begins a key in YAML's long form, which cannot stand here.",
        "Delete it, or quote the text.",
    )


def _no_node(text: _Text) -> Stumble | None:
    char = text.char(text.stopped)
    if char in _OPENING:
        return _at(text.stopped, f"This `{char}` closes nothing.", "Delete it.")
    if char == ",":
        return _at(text.stopped, "There is nothing in front of this `,`.", "Delete it.")
    return None


def _no_item(text: _Text) -> Stumble:
    return _at(
        text.stopped,
        f"A key stands among the items of the list that begins at line {text.began.line + 1}.",
        "Begin it with `- ` if it is an item; indent it further if it belongs to the item above; "
        "indent it less if the list is over.",
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the text, as the parser's marks say it."""

    index: int
    line: int
    column: int


def _last_open(content: str) -> _Place | None:
    """The last bracket that nothing closes; None if there is none. Knows quotes and comments."""
    open_at: list[int] = []
    quote, before = "", "\n"
    for index, char in enumerate(content):
        starts = before in " \t\n[{,"
        if quote in ("#", "'", '"'):
            ends = "\n" if quote == "#" else quote
            quote = "" if char == ends and not (quote == '"' and before == "\\") else quote
        elif (char == "#" and before in " \t\n") or (char in "'\"" and starts):
            quote = char
        elif char in _CLOSING:
            open_at.append(index)
        elif char in _OPENING and open_at:
            open_at.pop()
        before = char
    if not open_at:
        return None
    at = open_at[-1]
    return _Place(at, content.count("\n", 0, at), at - content.rfind("\n", 0, at) - 1)


def _in_brackets(text: _Text) -> Stumble:
    if text.char(text.began) not in _CLOSING:  # the parser names the place behind the bracket
        text.began = _last_open(text.content[: text.stopped.index]) or text.began
    opening = text.char(text.began)
    closing = _CLOSING.get(opening, "]")
    char = text.char(text.stopped)
    unclosed = _at(
        text.began,
        f"The `{opening}` that opens here is never closed.",
        f"Close it with `{closing}`.",
    )
    if text.is_over():
        return unclosed
    if char in _OPENING:
        return _at(
            text.stopped,
            f"This `{char}` closes nothing: the `{opening}` at line {text.began.line + 1}, column "
            f"{text.began.column + 1} is still open.",
            f"Close that one first, with `{closing}`.",
        )
    if char in _CLOSING:
        return _at(
            text.stopped,
            f"A text in `{opening}…{closing}` cannot hold `{char}` without quotes.",
            'Put the whole text in quotes: `"GET /orders/{id}"`.',
        )
    indent = len(text.before()) - len(text.before().lstrip())
    opened = text.line(text.began.line)
    if text.stopped.line > text.began.line and indent <= len(opened) - len(opened.lstrip()):
        return unclosed
    return _at(
        text.stopped,
        f"There is no `,` between two parts of the `{opening}…{closing}` that opens at line "
        f"{text.began.line + 1}, column {text.began.column + 1}.",
        "Put a `,` between them; quote a text that holds `: ` or quotes.",
    )


def _scalar(content: str) -> str:
    """The text that begins here, up to a blank, a comma or a bracket that is not its own."""
    inside: list[str] = []
    for index, char in enumerate(content):
        if char == "\n" or (not inside and (char.isspace() or char == "," or char in _OPENING)):
            return content[:index].rstrip("\r")
        if char in _CLOSING:
            inside.append(_CLOSING[char])
        elif inside and char == inside[-1]:
            inside.pop()
    return content


def _reserved_start(text: _Text) -> Stumble:
    mark = text.began if "scanning a" in text.context else text.stopped
    char = text.char(mark)
    means = {"*": " (it would be an alias)", "&": " (it would be an anchor)", "!": " (a tag)"}
    rest = _scalar(text.content[mark.index :])
    shows = len(rest) > 1 and "`" not in rest
    quoted = f"For example {_shown(chr(34) + rest + chr(34))}." if shows else ""
    named = "a backquote" if char == "`" else f"`{char}`"
    return _at(
        mark,
        f"A text cannot begin with {named} unless it is quoted{means.get(char, '')}.",
        f"Put the whole text in quotes. {quoted}".strip(),
    )


def _directive(text: _Text) -> Stumble:
    return Stumble(
        codes.NOT_YAML,
        text.began.line + 1,
        1,
        "A line that begins with `%` is a directive of YAML; a declaration has none.",
        "Delete the line.",
    )


def _block_scalar(text: _Text) -> Stumble:
    return _at(
        text.stopped,
        "Behind `|` or `>` nothing stands in the same line: the text begins in the next one.",
        "Move it to the next line, indented, or quote it.",
    )


def _item_out_of_place(text: _Text) -> Stumble:
    return _at(
        text.stopped,
        "A list with `- ` begins in a line of its own.",
        "Begin a new line for it, or write `[one, two]`.",
    )


def _after_the_end(text: _Text) -> Stumble:
    return _at(
        text.stopped,
        "Something stands behind the line `...`, which ends the document.",
        "Delete that line; a declaration is one document.",
        codes.SEVERAL_DOCUMENTS,
    )


_TOLD: tuple[tuple[str, Callable[[_Text], Stumble | None]], ...] = (
    ("scanning a quoted scalar", _unclosed_quote),
    ("parsing a quoted scalar", _bad_escape),
    ("scanning a simple key", _missing_colon),
    ("mapping values are not allowed", _value_out_of_place),
    ("did not find expected key", _no_key),
    ("expected '-' indicator", _no_item),
    ("expected node content", _no_node),
    ("found unexpected ':'", _colon_without_value),
    ("mapping keys are not allowed", _question_mark),
    ("parsing a flow", _in_brackets),
    ("cannot start any token", _reserved_start),
    ("scanning an alias", _reserved_start),
    ("scanning an anchor", _reserved_start),
    ("scanning a tag", _reserved_start),
    ("undefined tag handle", _reserved_start),
    ("directive", _directive),
    ("incompatible YAML document", _directive),
    ("scanning a block scalar", _block_scalar),
    ("block sequence entries are not allowed", _item_out_of_place),
    ("<document start>", _after_the_end),
)
"""What the parser says → what we make of it."""
