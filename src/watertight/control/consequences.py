"""What going from one declaration to the next does besides what it grants: for ``plan``. Pure."""

from collections.abc import Iterator

from watertight.control.clients import all_reached, told
from watertight.model.diff import Change, starts_anew
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.runtime.settled import changed


def told_otherwise(before: System, after: System, placement: Placement) -> Iterator[Change]:
    """The programs that ``apply`` starts anew, for what they were told at their start of something
    that they use is another (docs/adr/0048)."""
    was, now = all_reached(before, placement), all_reached(after, placement)
    for name, service in after.services.items():
        old = before.services.get(name)
        if old is None or not service.run or starts_anew(old, service):
            continue
        ran = told(before, name, was.get(name, {}))
        wanted = told(after, name, now.get(name, {}))
        if parts := changed(ran, wanted):
            yield Change(
                "~",
                f"service {name} is started anew: what it is told of {', '.join(parts)} changes",
                at=service.at,
            )


def left_behind(before: System, after: System) -> Iterator[Change]:
    """The data that nobody uses any more: a server's, or a database's under its old name."""
    for name, old in before.resources.items():
        if old.external:
            continue
        new = after.resources.get(name)
        if new is None:
            yield Change(
                "~",
                f"data of {name} stays behind: nothing of it is removed, or moved to another name",
                at=old.at,
            )
        elif (was := old.options.get("database")) != (now := new.options.get("database")) and was:
            yield Change(
                "~",
                f"data of {name} stays behind in {was}: nothing of it is moved to {now}",
                at=new.at,
            )
