"""A service that is shown out for a while: the server's configuration has no user for it.

Its account stays, and so does what it may do once it is back. Who is out stands in the first line
of the file, for whoever looks after the server next, and for ``drift``.
"""

from collections.abc import Collection

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.converge import changing, files_of
from watertight.servers.nats.accounts import quoted
from watertight.servers.nats.compile import CONFIGURATION
from watertight.servers.nats.reload import reload

_FIRST = "# shown out: "


def without_users(text: str, services: Collection[str]) -> str:
    """A configuration of ours in which nobody is let in as one of ``services``."""
    for service in sorted(services):
        head, account, rest = text.partition(f"\n  {quoted(service)} {{\n")
        before, users, listed = rest.partition("\n    users: [")
        if account and users:
            after = listed.partition("\n    ]\n")[2]
            text = f"{head}{account}{before}\n    users: []\n{after}"
    return f"{_FIRST}{' '.join(sorted(services))}\n{text}" if services else text


def shown_out(plan: ServerPlan, host: ServerHost) -> frozenset[str] | None:
    """Who is out by the file that stands; None: it is of no such kind, nor the plan's."""
    return _said(plan, files_of(plan, host).get(CONFIGURATION, ""))


def _said(plan: ServerPlan, standing: str) -> frozenset[str] | None:
    first, _, _ = standing.partition("\n")
    names = first.removeprefix(_FIRST).split() if first.startswith(_FIRST) else []
    expected = without_users(plan.files[CONFIGURATION], names)
    return frozenset(names) if standing == expected else None


async def show_out(plan: ServerPlan, host: ServerHost, services: Collection[str]) -> None:
    """Has exactly these out. Nothing, where another plan is in force by now: it is newer.

    Raises :class:`~watertight.servers.nats.reload.ReloadFailed`.
    """
    async with changing(plan.resource):
        now = shown_out(plan, host)
        if now is None or now == frozenset(services):
            return
        await host.write({CONFIGURATION: without_users(plan.files[CONFIGURATION], services)})
        await reload(plan, host)
