"""One caller's way into one callee, as declared."""

from dataclasses import dataclass

from watertight.model.system import Grant, Listen, Position, Route

_DOOR = "in|"


def door_name(caller: str) -> str:
    """Of the listener at a callee that awaits one caller."""
    return f"{_DOOR}{caller}"


def is_door(name: str) -> bool:
    """Whether a listener or a route configuration is a door's."""
    return name.startswith(_DOOR)


@dataclass(frozen=True, slots=True)
class Door:
    """What is known of a door before it is compiled."""

    callee: str
    caller: str
    listens: Listen
    grants: tuple[Grant, ...]
    """Empty: whatever the protocol can say."""
    timeout_seconds: float | None
    retries: int
    """Of what the app may be asked again."""
    at: Position
    routes: tuple[Route, ...] = ()
    """Of the gateway's door: what its grants follow from, for what they take of slashes."""

    @property
    def name(self) -> str:
        """Name of the mTLS listener and of its route configuration."""
        return door_name(self.caller)
