"""YAML text → a tree of plain values, each with the line and column where it stands.

Reads parser events instead of using YAML's own composer, because YAML's conveniences are traps
in a security policy: a repeated key silently wins, ``no`` is a boolean, ``0o10`` a number, an
alias can unfold into gigabytes, a lone carriage return starts a line that no editor shows. Here
plain ``true`` and ``false`` are booleans, plain decimal integers are integers, ``null``, ``~`` and
nothing are null, and everything else is text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import yaml

from watertight.model import codes
from watertight.model.findings import Finding
from watertight.model.syntax import stumble
from watertight.model.system import Position

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 1_000_000
"""Counted after every alias is unfolded."""

Scalar: TypeAlias = str | int | bool | None
DocumentPath: TypeAlias = tuple[str | int, ...]

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_WORDS: Mapping[str, Scalar] = {"true": True, "false": False, "null": None, "~": None, "": None}
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]|\r(?!\n)"
)
"""Control characters, line breaks that editors do not show, and bidirectional overrides
(Unicode TR 36 section 2; CVE-2021-42574)."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NO_KEYS: Mapping[str, Position] = {}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Node:
    """One value of the document and where it stands."""

    at: Position
    value: "Scalar | list[Node] | dict[str, Node]"
    keys: Mapping[str, Position] = field(default_factory=lambda: _NO_KEYS)
    """Of a mapping: where each key stands."""
    size: int = 1
    """Nodes in this tree, with aliases unfolded."""

    def plain(self) -> Any:
        """The value without positions: dicts, lists, str, int, bool and None."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def rename(self, old: str, new: str) -> None:
        """Of a mapping: has the value of one key under another, at its place."""
        if isinstance(self.value, dict):
            renamed = {new if key == old else key: value for key, value in self.value.items()}
            self.value.clear()
            self.value.update(renamed)
            self.keys = {**self.keys, new: self.keys[old]}

    def child(self, step: str | int) -> "Node | None":
        """The value under a key or an index, if it is there."""
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int):
            return self.value[step] if 0 <= step < len(self.value) else None
        return None

    def locate(self, path: DocumentPath, *, on_key: bool = False) -> Position:
        """Where the value at ``path`` stands (or its key); the nearest thing above if missing."""
        node, position = self, self.at
        for number, step in enumerate(path, start=1):
            key_position = node.keys.get(step) if isinstance(step, str) else None
            child = node.child(step)
            if child is None:
                return key_position or position
            last_key = on_key and number == len(path)
            position = key_position if last_key and key_position else child.at
            # A block that starts on the next line is better named by its key.
            if isinstance(child.value, dict | list) and key_position:
                position = key_position
            node = child
        return position


@dataclass(frozen=True, slots=True)
class Document:
    """The whole text: its tree, if there is one, and what is wrong with it as YAML."""

    root: Node | None
    findings: tuple[Finding, ...]


def path_text(path: DocumentPath) -> str:
    """``channels[2].allow[0]``; keys that are no plain words stand in brackets and quotes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{quoted(step)}]"
    return text


def quoted(value: object, limit: int = 60) -> str:
    """A value as errors show it: text in backquotes, printable, cut short; else what it is."""
    match value:
        case str():
            shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value[:limit])
            return f"`{shown}{'…' if len(value) > limit else ''}`"
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case dict():
            return "a mapping" if value else "an empty mapping"
        case list():
            return "a list" if value else "an empty list"
        case _:
            return f"`{value}`"


def read_document(text: bytes | str, file: str) -> Document:
    """Reads one YAML document. Never raises for what the text holds: see ``findings``."""
    reader = _Reader(file)
    try:
        root = reader.read(text)
    except _Stop:
        root = None
    return Document(root, tuple(reader.findings))


class _Stop(Exception):
    """The text cannot be read any further; the finding is recorded."""


@dataclass(slots=True)
class _Open:
    """A mapping or sequence whose end has not come yet."""

    node: Node
    anchor: str | None
    keys: dict[str, Position]
    key: str | None = None
    """The key whose value comes next."""
    skip: bool = False
    """The value that comes next belongs to a key that was refused."""


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None
        self.nodes = 0

    def read(self, text: bytes | str) -> Node:
        content = self._decode(text)
        self._refuse_invisible(content)
        try:
            for event in _events(content):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(error, content)
        except yaml.YAMLError as error:
            self._stop(codes.NOT_YAML, f"This is not YAML: {error}.", self._at(None))
        if self.root is None or not isinstance(self.root.value, dict):
            self._stop(
                codes.NO_MAPPING,
                "A declaration is a mapping; this file is "
                + ("empty." if self.root is None or self.root.value is None else "not."),
                self.root.at if self.root else self._at(None),
                "`watertight init` writes one to start from.",
            )
        return self.root

    def _decode(self, text: bytes | str) -> str:
        if len(text) > MAX_BYTES:
            self._stop(
                codes.TOO_LARGE,
                f"The file has {len(text)} bytes; at most {MAX_BYTES} are read.",
                self._at(None),
            )
        try:
            data = text.encode() if isinstance(text, str) else text
            return data.decode("utf-8").removeprefix("\ufeff")
        except UnicodeError as error:
            start = error.start if isinstance(error, UnicodeDecodeError) else 0
            before = data[:start] if isinstance(error, UnicodeDecodeError) else b""
            line = before.count(b"\n") + 1
            self._stop(
                codes.NOT_UTF_8,
                "The file is not UTF-8.",
                Position(self.file, line, start - (before.rfind(b"\n") + 1) + 1),
                "Save it as UTF-8.",
            )

    def _refuse_invisible(self, content: str) -> None:
        if match := _INVISIBLE.search(content):
            before = content[: match.start()]
            position = Position(
                self.file, before.count("\n") + 1, match.start() - (before.rfind("\n") + 1) + 1
            )
            self._stop(
                codes.INVISIBLE_CHARACTER,
                f"The character U+{ord(match[0]):04X} does not show in editors and is refused.",
                position,
                'Delete it; in a text, write it as an escape in double quotes ("\\u2028").',
            )

    def _refuse_syntax(self, error: yaml.MarkedYAMLError, content: str) -> None:
        found = stumble(error, content)
        at = Position(self.file, found.line, found.column)
        self._stop(found.code, found.message, at, found.remedy)

    def _take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self._refuse_tag(event)
                self._scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._refuse_tag(event)
                self._open(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            case yaml.CollectionEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent() if self.root is not None:
                self._stop(
                    codes.SEVERAL_DOCUMENTS,
                    "A second document starts here; a declaration is one document.",
                    self._at(event.start_mark),
                    "Delete the line `---` or split the file.",
                )

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        at, text = self._at(event.start_mark), event.value
        if match := _UNSTORABLE.search(text):
            self._stop(
                codes.INVISIBLE_CHARACTER,
                f"The text holds U+{ord(match[0]):04X}.",
                at,
                "Delete it.",
            )
        if self._awaits_key():
            self._key(text, at)
            return
        value: Scalar = text
        if event.implicit[0]:
            value = int(text) if _INTEGER.fullmatch(text) else _WORDS.get(text, text)
        self._value(Node(at, value), event.anchor)

    def _open(self, event: yaml.NodeEvent, empty: "list[Node] | dict[str, Node]") -> None:
        at = self._at(event.start_mark)
        if self._awaits_key():
            self._stop(codes.ODD_KEY, "A key must be text, not a mapping or a list.", at)
        if len(self.stack) == MAX_DEPTH:
            self._stop(codes.TOO_DEEP, f"Nested more than {MAX_DEPTH} deep.", at)
        self._count(1, at)
        keys: dict[str, Position] = {}
        self.stack.append(_Open(Node(at, empty, keys), event.anchor, keys))

    def _close(self) -> None:
        done = self.stack.pop()
        self.nodes -= 1  # _value counts it again
        self._value(done.node, done.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        at = self._at(event.start_mark)
        if self._awaits_key():
            self._stop(codes.ODD_KEY, "A key must be text, not an alias.", at)
        target = self.anchors.get(event.anchor or "")
        if target is None:
            self._stop(
                codes.ALIAS,
                f"No finished value above has the anchor {quoted(event.anchor)}.",
                at,
                f'If it is text, put it in quotes: `"*{event.anchor}"`.',
            )
        self.nodes += target.size - 1
        self._value(Node(at, target.value, target.keys, target.size), None)

    def _awaits_key(self) -> bool:
        top = self.stack[-1] if self.stack else None
        return top is not None and isinstance(top.node.value, dict) and top.key is None

    def _key(self, key: str, at: Position) -> None:
        top = self.stack[-1]
        top.key = key
        if key == "<<":
            self._find(
                codes.ALIAS,
                "Merge keys (`<<`) are not part of YAML 1.2.",
                at,
                "Write the keys out.",
            )
            top.skip = True
        elif key in top.keys:
            self._find(
                codes.DUPLICATE_KEY,
                f"The key {quoted(key)} was given already, at line {top.keys[key].line}.",
                at,
                "Keep one of them.",
            )
            top.skip = True
        else:
            top.keys[key] = at

    def _value(self, node: Node, anchor: str | None) -> None:
        self._count(1, node.at)
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        top.node.size += node.size
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif isinstance(top.node.value, dict) and top.key is not None:
            if not top.skip:
                top.node.value[top.key] = node
            top.key, top.skip = None, False

    def _count(self, nodes: int, at: Position) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self._stop(
                codes.ALIAS,
                f"The document has more than {MAX_NODES} values once its aliases are unfolded.",
                at,
            )

    def _refuse_tag(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._find(
                codes.TAG,
                f"The tag {quoted(tag.replace('tag:yaml.org,2002:', '!!'))} is refused: "
                "no value needs one.",
                self._at(event.start_mark),
                "Delete it; quote a value to make it text.",
            )

    def _at(self, mark: Any) -> Position:
        return (
            Position(self.file, mark.line + 1, mark.column + 1)
            if mark
            else Position(self.file, 1, 1)
        )

    def _find(self, code: str, message: str, at: Position, remedy: str = "") -> None:
        self.findings.append(Finding(code, message, at, self._where(), remedy))

    def _stop(self, code: str, message: str, at: Position, remedy: str = "") -> NoReturn:
        self._find(code, message, at, remedy)
        raise _Stop

    def _where(self) -> str:
        steps: list[str | int] = []
        for entry in self.stack:
            if isinstance(entry.node.value, list):
                steps.append(len(entry.node.value))
            elif entry.key is not None:
                steps.append(entry.key)
        return path_text(tuple(steps))


def _events(content: str) -> Iterator[yaml.Event]:
    return yaml.parse(content, Loader=_Loader)
