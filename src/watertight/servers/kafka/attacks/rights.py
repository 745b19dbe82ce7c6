"""What each service may do, and everything near it that it may not."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from watertight.attack.login import Login
from watertight.attack.probe import Probe
from watertight.attack.session import Act, attacked, few, used
from watertight.servers.kafka.attacks import requests as ask
from watertight.servers.kafka.attacks.dialect import (
    GROUPS,
    MAKE,
    TOPICS,
    TRANSACTIONS,
    KafkaDialect,
    asks,
    asks_all,
    sees_only,
)
from watertight.servers.kafka.attacks.requests import STRANGER, Request
from watertight.servers.kafka.declaration import Broker, Grants

NODE = "1"
INTERNAL = ("__consumer_offsets", "__transaction_state")
"""Topics of the broker's own: who writes there moves any group, and ends any transaction."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One declared channel, and how to make its probes."""

    dialect: KafkaDialect
    login: Login
    granted: Grants

    def attack(self, identifier: str, attempt: str, tried: Act | Request) -> Probe:
        """A probe that must be refused, tried within the caller's own session."""
        act = asks(tried) if isinstance(tried, Request) else tried
        channel = self.login.channel
        return MAKE.attack(
            identifier, channel, attempt, few, attacked, self.dialect, self.login, act
        )

    def use(self, identifier: str, attempt: str, tried: Request) -> Probe:
        """A probe that must be served."""
        channel = self.login.channel
        return MAKE.use(
            identifier, channel, attempt, few, used, self.dialect, self.login, asks(tried)
        )


def uses(caller: Caller) -> Iterator[Probe]:
    """Every grant, so that no application notices: nothing is written, and nobody's place moves."""
    granted, own = caller.granted, caller.login.service
    for topic in granted.publish:
        what = f"a batch for {topic} with a wrong checksum, judged and not written"
        yield caller.use("use.publish", what, ask.produce(topic))
    if granted.publish:
        yield caller.use("use.idempotent", "a number for a producer", ask.IDEMPOTENT)
    for topic in granted.consume:
        yield caller.use("use.consume", f"a little of {topic}, by no group", ask.fetch(topic))
    if granted.consume:
        for group in (own, f"{own}.{STRANGER}"):
            tried = ask.of_group(group, granted.consume[0])
            for how in ("asked for its offsets", "moved to another offset"):
                yield caller.use("use.group", f"the group {group}, {how}", tried[how])
    if granted.transactions:
        for name in (own, f"{own}.{STRANGER}"):
            tried = ask.of_transaction(name, granted.publish[0], own)
            yield caller.use(
                "use.transaction", f"the transactional id {name}, ended", tried["ended"]
            )


def attacks(caller: Caller, declared: Broker, others: tuple[str, ...]) -> Iterator[Probe]:
    """By complement: every topic, group and id that was not granted, and all administration.

    ``others``: the other services with a channel.
    """
    yield from _topics(caller, declared)
    yield from _groups(caller, declared, others)
    yield from _transactions(caller, declared, others)
    topic = next(iter(declared.topics), STRANGER)
    for what, request in ask.of_cluster(topic, NODE).items():
        yield caller.attack("grants.administer", what, request)


def _topics(caller: Caller, declared: Broker) -> Iterator[Probe]:
    granted = caller.granted
    for topic in (*declared.topics, *INTERNAL, STRANGER):
        if topic not in granted.publish:
            yield caller.attack("grants.publish", f"a batch for {topic}", ask.produce(topic))
        if topic not in granted.consume:
            tried = {"fetched": ask.fetch(topic), "its writers told": ask.producers(topic)}
            yield caller.attack("grants.consume", f"messages of {topic}", asks_all(tried))
        if topic not in (*granted.publish, *granted.consume):
            what = f"whether there is a topic {topic}, and how much is in it"
            asked = {
                "metadata": ask.metadata(topic),
                "partitions": ask.partitions(topic),
                "offsets": ask.offsets(topic),
                "epochs": ask.epochs(topic),
            }
            yield caller.attack("grants.ask-topic", what, asks_all(asked))
        tried = ask.of_topic(topic)
        what = f"the topic {topic}, {' or '.join(tried)}"
        yield caller.attack("grants.alter-topic", what, asks_all(tried))
    seen = frozenset({*granted.publish, *granted.consume})
    listed = sees_only(ask.EVERYTHING, TOPICS, seen.__contains__)
    yield caller.attack("grants.list-topics", "the names of all topics", listed)
    for what, request in (
        ("made", ask.create_topic(STRANGER)),
        ("made by asking for it", ask.metadata(STRANGER, create=True)),
        ("deleted", ask.delete_topic(STRANGER)),
    ):
        yield caller.attack("grants.make-topic", f"the topic {STRANGER}, {what}", request)


def _groups(caller: Caller, declared: Broker, others: tuple[str, ...]) -> Iterator[Probe]:
    """A group that another service reads in: who joins it is given what is not his, who commits
    for it makes the other miss messages, or read them again."""
    own = caller.login.service
    listed = sees_only(ask.ALL_GROUPS, GROUPS, partial(_is_of, own))
    yield caller.attack("grants.list-groups", "the names of all groups", listed)
    topic = next(iter(caller.granted.consume or declared.topics), STRANGER)
    for group in (*others, f"{own}-{STRANGER}", STRANGER):
        tried = ask.of_group(group, topic)
        what = f"the group {group}, {' or '.join(tried)}"
        yield caller.attack("grants.group", what, asks_all(tried))
    for group in (f"{name}.{STRANGER}" for name in (own, *others)):
        yield caller.attack(
            "grants.delete-group", f"the group {group}, deleted", ask.delete_group(group)
        )
    if not caller.granted.consume:
        joined = ask.of_group(own, topic)["joined"]
        yield caller.attack("grants.group", "its own group, of which it may read nothing", joined)


def _transactions(caller: Caller, declared: Broker, others: tuple[str, ...]) -> Iterator[Probe]:
    """A transactional id of another's: whoever takes it fences the other out."""
    own = caller.login.service
    listed = sees_only(ask.ALL_TRANSACTIONS, TRANSACTIONS, partial(_is_of, own))
    yield caller.attack("grants.list-transactions", "the ids of all transactions", listed)
    topic = next(iter(caller.granted.publish or declared.topics), STRANGER)
    names = (*others, f"{own}-{STRANGER}", STRANGER)
    for name in names if caller.granted.transactions else (*names, own):
        tried = ask.of_transaction(name, topic, own)
        what = f"the transactional id {name}, {' or '.join(tried)}"
        yield caller.attack("grants.transaction", what, asks_all(tried))


def _is_of(service: str, name: str) -> bool:
    """Whether a group or a transactional id is the service's, or is below its name."""
    return name.partition(".")[0] == service
