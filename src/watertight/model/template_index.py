"""Many path templates, and which of them shadow or overlap another, without comparing all pairs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from watertight.model.templates import Template

T = TypeVar("T")


@dataclass(slots=True)
class _Node(Generic[T]):
    """All templates whose first segments led here."""

    children: "dict[str, _Node[T]]" = field(default_factory=dict)
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
            node = node.children.setdefault(segment, _Node())
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
        for pattern in dict.fromkeys((segment, "*")) if segment else ("",):
            child = node.children.get(pattern)
            if child is not None:
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


def _fitting(node: _Node[T], segment: str) -> Iterator[_Node[T]]:
    if segment == "*":
        yield from (child for p, child in node.children.items() if p != "")
        return
    for pattern in (segment, "*") if segment else (segment,):
        if pattern in node.children:
            yield node.children[pattern]


def _everything(node: _Node[T]) -> Iterator[T]:
    yield from node.ending
    yield from node.rest
    for child in node.children.values():
        yield from _everything(child)
