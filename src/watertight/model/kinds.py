"""The kinds of resources: where they listen, and what may speak TLS for their clients.

Which there are, the installed enforcers say, and the model may not know them: so they are handed to
it (:func:`known_from`). A resource of another kind must say its ``port``, and no proxy speaks TLS
in its clients' place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Kind:
    """What the model must know of one kind."""

    port: int
    """Where its server listens for TLS, unless the declaration says another port."""
    originates: tuple[str, ...] | None = None
    """The client's proxy may speak mTLS for a client that cannot, with this ALPN. None: the
    protocol starts in the clear, or its clients insist on TLS of their own."""
    also_called: tuple[str, ...] = ()
    """What people call it."""


_known: list[Callable[[], Mapping[str, Kind]]] = []


def known_from(tells: Callable[[], Mapping[str, Kind]]) -> None:
    """Who tells which kinds there are, whenever a declaration is read."""
    _known[:] = [tells]


def kinds() -> Mapping[str, Kind]:
    """By the word that the declaration uses. Raises LookupError where nobody has told."""
    if not _known:
        raise LookupError("nobody has told which kinds there are: enforcers.registry does")
    return _known[0]()


def also_called(word: str) -> str | None:
    """The kind that people mean by this word, if it is one's."""
    known = (name for name, kind in kinds().items() if word.casefold() in kind.also_called)
    return next(known, None)


def usual_port(kind: str) -> int | None:
    """Where servers of this kind listen, if that is known."""
    found = kinds().get(kind)
    return found.port if found else None


KEY_ALSO_CALLED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("env", "vars", "variables"), "environment"),
        **dict.fromkeys(("cmd", "command", "exec", "entrypoint"), "run"),
        **dict.fromkeys(("cwd", "workdir", "working_dir", "dir"), "directory"),
        **dict.fromkeys(("health", "healthcheck", "readiness"), "ready"),
        **dict.fromkeys(("ports", "expose"), "listens"),
    }
)
"""What other tools call a key → the key here, where there is one."""
