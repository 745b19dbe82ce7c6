"""Two who hear the same and read the same stream: none is taken for having reached the other."""

from tests.servers import not_held, running_server
from watertight.enforcers.nats.enforcer import NATSEnforcer

ALIKE = """
trust_domain: alike.internal
services: {ann: {}, ben: {}, herald: {}}
resources:
  bus: {kind: nats, port: {port}, streams: {EV: [ev.>]}}
channels:
  - {from: ann, to: bus, publish: [ev.ann.>], subscribe: [news.>, alarm], consume: [EV]}
  - {from: ben, to: bus, publish: [ev.ben.>], subscribe: [news.>, alarm], consume: [EV]}
  - {from: herald, to: bus, publish: [news.x, alarm]}
"""
ROUNDS = 3


async def test_an_answer_to_ones_own_question_is_none_to_anothers() -> None:
    async with running_server(NATSEnforcer(), ALIKE) as rig:
        probes = [p for p in rig.probes if p.id.startswith("reach")]
        for _ in range(ROUNDS):
            assert not_held(await rig.run(probes)) == {}
