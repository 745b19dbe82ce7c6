"""What a person is told of an apply that failed, once what was in force before is so again.

Whoever refuses to start in the new declaration keeps what it would have taken from him: that must
be said, with what to do against it. Pure.
"""

from watertight.errors import WatertightError
from watertight.model.diff import compare
from watertight.model.system import System

LISTED = 10
"""Of a long declaration, the first few say enough."""


def gone_back(failure: WatertightError, before: System, refused: System) -> WatertightError:
    """The declaration ``before`` is in force, its programs run."""
    message = f"{failure.message}\nThe declaration before is in force again, and its programs run."
    taken = [str(change) for change in compare(before, refused) if change.tightens]
    if not taken:
        return WatertightError(message, remedy=failure.remedy)
    listed = taken[:LISTED]
    if len(taken) > LISTED:
        listed.append(f"… and {len(taken) - LISTED} more")
    return WatertightError(
        f"{message} So what this apply would have taken away is still allowed:\n"
        + "\n".join(f"  {line}" for line in listed),
        remedy=f"{failure.remedy} An apply of these alone starts no program anew; "
        "`watertight revoke` cuts a service off at once.".strip(),
    )


def not_even_back(failure: WatertightError, again: WatertightError) -> WatertightError:
    """What came before does not come up either, as when its program was replaced on the disk."""
    return WatertightError(
        f"{failure.message}\nGoing back to the declaration before failed too: {again.message} "
        "Its grants are in force, as far as that says.",
        remedy=f"{failure.remedy} `watertight status` says what is down.".strip(),
    )
