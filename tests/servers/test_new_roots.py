"""A server whose kind must be restarted for new roots is so, and only where they are new to it."""

import pytest

from tests.rig import running_server
from tests.servers.rabbitmq.shop import SHOP
from watertight.servers.kind import Part, Way
from watertight.servers.rabbitmq.server import RabbitMQ

pytestmark = pytest.mark.asyncio


class Restarted(RabbitMQ):
    """A broker that is told of a new leaf, and must be started again for a new root."""

    takes = {**RabbitMQ.takes, Part.ROOT: Way.RESTART}


async def test_it_is_started_again_for_a_new_root_and_goes_on_with_a_new_leaf() -> None:
    async with running_server(Restarted(), SHOP) as rig:
        first = rig.host.pid
        await rig.keeper.rotate_issuer()
        rig.deliver()
        await rig.enforcer.rotate(rig.plan, rig.host)
        assert rig.host.pid == first
        rig.keeper.prepare_root()
        rig.deliver()
        await rig.enforcer.rotate(rig.plan, rig.host)
        second = rig.host.pid
        assert second != first
        await rig.enforcer.rotate(rig.plan, rig.host)
        assert rig.host.pid == second
        rig.host.placement.roots_taken(rig.resource).unlink()
        await rig.enforcer.rotate(rig.plan, rig.host)
        assert rig.host.pid != second, "what is not known is new"
