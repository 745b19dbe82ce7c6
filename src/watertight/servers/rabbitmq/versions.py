"""Which versions of RabbitMQ can hold a service to its routing keys, with our guard or without.

Read in the sources of 3.10.8, 3.13.7, 4.0.2, 4.0.3 and 4.3.5 (``rabbit_channel``,
``rabbit_amqp_session``): the routing keys in the headers CC and BCC, and in ``x-cc`` of AMQP 1.0,
are held against topic permissions since 4.0.3 (rabbitmq-server, pull request 12553).
"""

import re

OLDEST = (3, 10, 0)
AMQP_1_0 = (4, 0, 0)
"""From here on a broker speaks it, too, which our guard does not see."""
FIXED = (4, 0, 3)


def looks_at_copies(version: str) -> bool:
    """Whether the broker itself holds all routing keys of a message against topic permissions."""
    return _parsed(version) >= FIXED


def fit(version: str) -> bool:
    """Whether it does so with our guard."""
    return OLDEST <= _parsed(version) < AMQP_1_0 or looks_at_copies(version)


def _parsed(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
