"""What is wrong with channels to servers of more than one kind. Pure."""

from collections.abc import Iterator, Sequence

from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.rules import Flaw
from watertight.model.system import Channel


def grants_nothing(path: DocumentPath, channel: Channel, remedy: str) -> Flaw:
    """A channel over which nothing can be done."""
    return Flaw(
        codes.GRANTS_NOTHING,
        path,
        f"The channel `{channel.name}` grants nothing: {quoted(channel.source)} may log in, "
        "and that is all.",
        remedy,
        Severity.WARNING,
    )


def repeated(path: DocumentPath, listed: Sequence[str]) -> Iterator[Flaw]:
    """What a list holds more than once."""
    for number, name in enumerate(listed):
        if name in listed[:number]:
            yield Flaw(
                codes.DUPLICATE_GRANT,
                (*path, number),
                f"{quoted(name)} stands here already.",
                "Delete one of them.",
            )
