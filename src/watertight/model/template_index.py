"""Many path templates, and which of them shadow or overlap another, without comparing all pairs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from watertight.model.templates import (
    GAP,
    Template,
    is_empty,
    segment_covers,
    segments_overlap,
)

T = TypeVar("T")


@dataclass(slots=True)
class _Node(Generic[T]):
    """All templates whose first segments led here."""

    children: "dict[str, _Node[T]]" = field(default_factory=dict)
    mixed: "dict[str, _Node[T]]" = field(default_factory=dict)
    """Of ``children`` those under a mixed segment: few, and each has to be asked."""
    ending: list[T] = field(default_factory=list)
    """Values of the templates that end here."""
    rest: list[T] = field(default_factory=list)
    """Values of the templates that go on with ``**``."""


class TemplateIndex(Generic[T]):
    """A tree by segments: a question costs about as much as the answer is long."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, template: Template, value: T) -> None:
        """Remembers a value under its template."""
        node = self._root
        for segment in template.segments:
            following = node.children.setdefault(segment, _Node())
            if GAP in segment:
                node.mixed[segment] = following
            node = following
        (node.rest if template.rest else node.ending).append(value)

    def shadowing(self, template: Template) -> Iterator[T]:
        """The values of all templates that :meth:`Template.shadows` this one."""
        return self._shadowing(self._root, template, 0)

    def overlapping(self, template: Template) -> Iterator[T]:
        """The values of all templates that :meth:`Template.overlaps` this one."""
        return self._overlapping(self._root, template, 0)

    def _shadowing(self, node: _Node[T], template: Template, depth: int) -> Iterator[T]:
        if depth == len(template.segments):
            yield from node.rest if template.rest else node.ending
            return
        yield from node.rest
        segment = template.segments[depth]
        for child in _covering(node, segment):
            yield from self._shadowing(child, template, depth + 1)

    def _overlapping(self, node: _Node[T], template: Template, depth: int) -> Iterator[T]:
        if depth == len(template.segments):
            if template.rest:
                yield from node.rest
                for child in node.children.values():
                    yield from _everything(child)
            else:
                yield from node.ending
            return
        yield from node.rest
        segment = template.segments[depth]
        for child in _fitting(node, segment):
            yield from self._overlapping(child, template, depth + 1)


def _covering(node: _Node[T], segment: str) -> Iterator[_Node[T]]:
    same = {segment, ""} if is_empty(segment) else {segment, "*"}
    yield from (node.children[pattern] for pattern in same & node.children.keys())
    for pattern, child in node.mixed.items():
        if pattern != segment and segment_covers(pattern, segment):
            yield child


def _fitting(node: _Node[T], segment: str) -> Iterator[_Node[T]]:
    if segment in {"", "*"} or GAP in segment:
        yield from (c for p, c in node.children.items() if segments_overlap(p, segment))
    else:
        yield from _covering(node, segment)


def _everything(node: _Node[T]) -> Iterator[T]:
    yield from node.ending
    yield from node.rest
    for child in node.children.values():
        yield from _everything(child)
