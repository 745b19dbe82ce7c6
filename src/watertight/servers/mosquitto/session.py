"""A running broker, asked and told by its dynamic security plugin."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.servers.facts import Change, Fact, difference
from watertight.servers.kind import Part, RunsOtherwise
from watertight.servers.mosquitto.compile import (
    KINDS,
    MosquittoGrants,
    facts_of,
)
from watertight.servers.mosquitto.operator import Operator, OperatorRefused, operating

OTHER_OPERATOR = "what its operator may do was changed by hand"


class BrokerSession:
    """Implements :class:`~watertight.servers.kind.Session`."""

    def __init__(
        self, plan: ServerPlan, host: ServerHost, stack: AsyncExitStack, operator: Operator
    ) -> None:
        self._plan, self._host, self._stack, self._operator = plan, host, stack, operator
        grants: MosquittoGrants = plan.grants
        self._security = grants.security

    async def stale(self) -> Sequence[str]:
        """See the protocol: a change of its own rights would end the session that makes it."""
        odd = difference(facts_of(self._security), await self.facts(), KINDS)
        own = (self._plan.resource,)
        return [OTHER_OPERATOR] if any(c.thing.key == own for c in odd) else []

    async def facts(self) -> frozenset[Fact]:
        """See the protocol."""
        answers = await self._ask(
            {"command": "getDefaultACLAccess"},
            {"command": "listClients", "verbose": True, "count": -1},
            {"command": "listGroups", "verbose": True, "count": -1},
            {"command": "listRoles", "verbose": True, "count": -1},
        )
        access, clients, groups, roles = (answer["data"] for answer in answers)
        return facts_of(
            {
                "defaultACLAccess": {one["acltype"]: one["allow"] for one in access["acls"]},
                **clients,
                **groups,
                **roles,
            }
        )

    async def execute(self, changes: Sequence[Change]) -> None:  # noqa: ARG002
        """See the protocol: it is started again, with the file that says what is declared.

        Not by commands of the plugin: of 2.0.11, one that ends the session of who gives it hangs.
        """
        await self._again()

    async def _again(self) -> None:
        await self._stack.aclose()
        await self._host.stop()
        await self._host.start()
        self._operator = await self._stack.enter_async_context(operating(self._plan, self._host))

    async def take(self, _part: Part) -> None:
        """See the protocol: it takes nothing by a command."""

    async def kick(self, service: str) -> int:
        """See the protocol. The plugin ends the session before it answers."""
        try:
            await self._operator.ask({"command": "deleteClient", "username": service})
            await self._operator.ask({"command": "getDefaultACLAccess"})  # it goes on
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            await self._again()
            return 1
        ended = f"Client {service} been disconnected by administrative action."
        return sum(ended in notice for notice in self._operator.notices)

    async def _ask(self, *commands: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        answers = await self._operator.ask(*commands)
        self._refused(answers)
        return answers

    def _refused(self, answers: Sequence[Mapping[str, Any]]) -> None:
        for answer in answers:
            if "error" in answer:
                raise ServerRefused(
                    self._plan.at,
                    f"{self._plan.resource}: {answer['command']}: {answer['error']}",
                )


@asynccontextmanager
async def session(plan: ServerPlan, host: ServerHost) -> AsyncIterator[BrokerSession]:
    """The broker; raises RunsOtherwise where its operator may not do what he must."""
    try:
        async with AsyncExitStack() as stack:
            operator = await stack.enter_async_context(operating(plan, host))
            yield BrokerSession(plan, host, stack, operator)
    except OperatorRefused as refused:
        raise RunsOtherwise(OTHER_OPERATOR) from refused
