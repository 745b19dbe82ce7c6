"""What no probe of RabbitMQ tries is said."""

from tests.servers.rabbitmq.shop import SHOP
from watertight.model.load import load_text
from watertight.servers.rabbitmq.attacks.gaps import AMQP_1_0, ONE_CALLER
from watertight.servers.rabbitmq.server import RabbitMQ

ALONE = """
trust_domain: shop.internal
services: {orders: {}}
resources:
  jobs: {kind: rabbitmq, queues: [parcels]}
  theirs: {kind: rabbitmq, external: mq.shop.example, queues: [parcels]}
channels:
  - {from: orders, to: jobs, send: [parcels]}
  - {from: orders, to: theirs, send: [parcels]}
"""


def told(text: str) -> list[tuple[str, str]]:
    system = load_text(text.replace("{port}", "5671"))
    return [(gap.channel, gap.what) for gap in RabbitMQ().unattacked(system)]


def test_a_service_that_can_only_meet_itself_is_named() -> None:
    assert told(SHOP) == [("anyone -> jobs", AMQP_1_0)]
    assert told(ALONE) == [("anyone -> jobs", AMQP_1_0), ("orders -> jobs", ONE_CALLER)]
