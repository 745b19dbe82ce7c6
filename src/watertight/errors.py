"""The one error type that a person is shown, and the exit codes of the command.

Every failure that has a cause outside this program derives from :class:`WatertightError`: it says
what is wrong, where, and what to do. Anything else that escapes is a bug of ours.
"""

import errno
from enum import IntEnum

WITHOUT_ROOM = (
    "`watertight revoke SERVICE` works without room. `watertight restart SERVICE` frees what its "
    "program holds in files that have no name any more; `du -sh .watertight/data/*` shows others."
)
"""What to do about a full disk that one of the services may have filled."""


class ExitCode(IntEnum):
    """Exit status of every command (DESIGN.md section 11)."""

    GOOD = 0
    FOUND_WRONG = 1
    MISUSE = 2
    COULD_NOT = 3


class WatertightError(Exception):
    """Something is wrong that a person can mend.

    ``message`` is one sentence that says what is wrong (and where); ``remedy`` one that says what
    to do. Neither may ever hold a secret: both are logged and printed.
    """

    exit_code = ExitCode.COULD_NOT

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class MachineRefused(WatertightError):
    """The operating system would not: the disk is full, a file is not ours to read."""

    def __init__(self, error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        remedies = {
            errno.ENOSPC: "Make room on the disk (also that of .watertight), and do it again. "
            + WITHOUT_ROOM,
            errno.EACCES: "Run it as the user whose file that is.",
        }
        super().__init__(
            f"This machine refuses: {where}{error.strerror or error}.",
            remedy=remedies.get(error.errno or 0, ""),
        )
