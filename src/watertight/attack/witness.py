"""What a witness behind a door has seen: the bytes that reached an app, and what it answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Conversation:
    """One connection to an app, as it passed on the network between the app and its proxy."""

    asked: bytes
    """What reached the app, from the first byte of a request on."""
    answered: bytes
    """What the app said since."""
    answered_bytes: int
    """How much the app said in all; ``answered`` may be cut short."""
    whole: bool
    """False if either of the two was longer than a witness keeps."""
    ended: bool
    """Whether the app has closed its side."""
    asked_cut: bool = False
    """Whether more reached the app than ``asked`` holds: then absence in it proves nothing."""


class Witness(Protocol):
    """Sees every connection to one app, and touches none."""

    def conversations(self, marker: bytes = b"") -> Sequence[Conversation]:
        """What was seen so far of connections on which ``marker`` reached the app."""
        ...

    def moment(self) -> int:
        """Now, as ``missed_since`` takes it."""
        ...

    def missed_since(self, moment: int) -> bool:
        """Whether anything was not seen since then, or is forgotten: absence proves nothing."""
        ...
