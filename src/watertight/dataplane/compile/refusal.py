"""The one way in which the compiler says no."""

from watertight.errors import ExitCode, WatertightError
from watertight.model.system import Position


class NotCompilable(WatertightError):
    """A declared policy that Envoy cannot enforce as declared.

    Nothing is emitted for the whole system then: a door whose policy does not compile is never
    left open, and never silently left out.
    """

    exit_code = ExitCode.FOUND_WRONG

    def __init__(self, at: Position, what: str, *, remedy: str = "") -> None:
        super().__init__(f"{at}: {what}", remedy=remedy)
        self.at = at
