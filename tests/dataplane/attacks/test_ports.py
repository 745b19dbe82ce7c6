"""Which sockets a declaration explains."""

from tests.dataplane.compile.systems import PLACEMENT
from watertight.dataplane.attacks.ports import expected
from watertight.model.system import GATEWAY, Gateway, System


def test_a_gateway_on_ipv6_listens_as_it_is_declared() -> None:
    """As the runtime tells what it sees (tests/runtime/test_listeners.py)."""
    system = System("shop.internal", gateway=Gateway("shop.example", (), "::1", 9844))
    assert ("proxy", "[::1]:9844") in expected(system, PLACEMENT, GATEWAY)
