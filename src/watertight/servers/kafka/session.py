"""What is so at a running broker."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.facts import Change, Fact, fact
from watertight.servers.kafka.compile import (
    LISTENERS,
    NODE,
    PROPERTIES,
    keystore,
    truststore,
)
from watertight.servers.kafka.facts import (
    ACCESS,
    QUOTA,
    SETTING,
    TOPIC,
    acl_fact,
    acl_of,
    entity_of,
    quota_fact,
    topic_fact,
)
from watertight.servers.kafka.operator import (
    BROKER_CONFIG,
    DELETE,
    OF_ALL_BROKERS,
    OF_BROKER,
    OF_FILE,
    OF_TOPIC,
    SET,
    TOPIC_CONFIG,
    BrokerRefused,
    Operator,
    operator,
)
from watertight.servers.kind import Part, RunsOtherwise

POLL_SECONDS = 0.02
SEEN_SECONDS = 5.0
"""A change is in force once the broker has read its controller's log; that takes milliseconds."""
TAKEN_SECONDS = 20.0
TAKES_NOT = "the broker does not take up its certificate and roots"
PARTITIONS = "partitions"
DERIVED = "broker.id"
"""What Kafka calls ``node.id``, too."""


class BrokerSession:
    """Implements :class:`~watertight.servers.kind.Session`."""

    def __init__(self, session: Operator, resource: str, file: Mapping[str, str]) -> None:
        self._session, self._resource, self._file = session, resource, file

    async def stale(self) -> Sequence[str]:
        """See the protocol: what the broker read when it was started, and its file does not say.

        What it tells nobody is left out: its super users, and whether it lets in whom no entry
        names. That shows in an attack.
        """
        settings = await self._settings()
        odd = {
            name
            for name, (value, source) in settings.items()
            if source == OF_FILE and name not in self._file and name != DERIVED
        }
        for name, wanted in self._file.items():
            value, source = settings.get(name, ("", OF_FILE))
            if value not in (None, wanted) and source not in (OF_BROKER, OF_ALL_BROKERS):
                odd.add(name)
        what = "the broker runs with other settings than its file says"
        return [f"{what}: {', '.join(sorted(odd))}"] if odd else []

    async def facts(self) -> frozenset[Fact]:
        """See the protocol."""
        found = set(self._odd_settings(await self._settings()))
        topics = {
            name: partitions
            for name, (partitions, internal) in (await self._session.topics()).items()
            if not internal
        }
        configs = await self._session.configs(TOPIC_CONFIG, topics) if topics else {}
        for name, partitions in topics.items():
            own = {k: v or "" for k, (v, source) in configs[name].items() if source == OF_TOPIC}
            found.add(topic_fact(name, partitions, own))
        found |= {quota_fact(who, what) for who, what in (await self._session.quotas()).items()}
        found |= {acl_fact(acl) for acl in await self._session.acls()}
        return frozenset(found)

    async def _settings(self) -> Mapping[str, tuple[str | None, int]]:
        return (await self._session.configs(BROKER_CONFIG, [NODE]))[NODE]

    def _odd_settings(self, settings: Mapping[str, tuple[str | None, int]]) -> Iterator[Fact]:
        """Those that were changed while it runs, and say something else than its file."""
        for name, (value, source) in settings.items():
            wanted = self._file.get(name)
            if source in (OF_BROKER, OF_ALL_BROKERS) and value not in (
                wanted,
                respelled(wanted or ""),
            ):
                whose = NODE if source == OF_BROKER else ""
                yield fact(SETTING, (name, whose), value=value or "")

    async def execute(self, changes: Sequence[Change]) -> None:
        """See the protocol."""
        for change in changes:
            if change.thing.kind == SETTING:
                name, whose = change.thing.key
                await self._session.alter(BROKER_CONFIG, whose, [(name, DELETE, None)])
            elif change.thing.kind == TOPIC:
                await self._topic(change)
            elif change.thing.kind == QUOTA:
                await self._quota(change)
        access = [change for change in changes if change.thing.kind == ACCESS]
        if gone := [acl_of(change.thing) for change in access if change.removes]:
            await self._session.delete_acls(gone)
        if come := [acl_of(change.thing) for change in access if not change.removes]:
            await self._session.create_acls(come)
        await self._until_seen(changes)

    async def _topic(self, change: Change) -> None:
        [name] = change.thing.key
        is_, should = _values(change.found), _values(change.wanted)
        had, wanted = int(is_.pop(PARTITIONS, "0")), int(should.pop(PARTITIONS, "0"))
        if change.removes:
            if await self._session.empty(name, had):
                await self._session.delete_topic(name)
            return
        if change.found is None:
            await self._session.create_topic(name, wanted, should)
            return
        if had < wanted:
            await self._session.grow_topic(name, wanted)
        odd: list[tuple[str, int, str | None]]
        odd = [(key, DELETE, None) for key in is_.keys() - should.keys()]
        odd += [(key, SET, value) for key, value in should.items() if is_.get(key) != value]
        if odd:
            await self._session.alter(TOPIC_CONFIG, name, odd)

    async def _quota(self, change: Change) -> None:
        is_, should = _values(change.found), _values(change.wanted)
        values: dict[str, float | None] = dict.fromkeys(is_)
        await self._session.alter_quota(
            entity_of(change.thing), values | {key: float(value) for key, value in should.items()}
        )

    async def _until_seen(self, changes: Sequence[Change]) -> None:
        """The controller has answered; the broker, who is asked, comes to know it a moment later.

        What does not come is for the engine to say.
        """
        coming = [change for change in changes if not _may_stay(change)]
        wanted = {change.wanted for change in coming} - {None}
        gone = {change.found for change in coming} - {None}
        deadline = asyncio.get_running_loop().time() + SEEN_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            found = await self.facts()
            if wanted <= found and not gone & found:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def take(self, _part: Part) -> None:
        """See the protocol.

        A broker says yes before it has read a file anew; whoever goes on then may have his next
        files read in place of these. So each file is named in another way, and then as before:
        such a change the broker tries at once, and says that it runs with it only when it does.
        Once it has come to the second, all its listeners, and its controller's, have taken the
        first.
        """
        had = await self._settings()
        names = [of(listener) for listener in LISTENERS for of in (truststore, keystore)]
        before = {name: had[name][0] or "" for name in names}
        for paths in ({name: respelled(path) for name, path in before.items()}, before):
            try:
                await self._session.alter(
                    BROKER_CONFIG, NODE, [(name, SET, path) for name, path in paths.items()]
                )
            except BrokerRefused as refused:
                raise RunsOtherwise(f"{TAKES_NOT}: {refused.message}") from refused
            await self._until_runs_with(paths)

    async def _until_runs_with(self, wanted: Mapping[str, str]) -> None:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + TAKEN_SECONDS
        while True:
            settings = await self._settings()
            if all(settings[name][0] == value for name, value in wanted.items()):
                return
            if clock.time() > deadline:
                raise RunsOtherwise(TAKES_NOT)
            await asyncio.sleep(POLL_SECONDS)

    async def kick(self, service: str) -> int:
        """See the protocol. Kafka ends no session: who has one may do nothing in it any more, and
        loses it with its door."""
        principal = f"User:{service}"
        await self._session.delete_all_acls(principal)
        deadline = asyncio.get_running_loop().time() + SEEN_SECONDS
        while any(acl.principal == principal for acl in await self._session.acls()):
            if asyncio.get_running_loop().time() > deadline:
                raise BrokerRefused(f"{self._resource} does not forget what {service} may do")
            await asyncio.sleep(POLL_SECONDS)
        return 0


def _may_stay(change: Change) -> bool:
    """A topic that holds messages is not deleted, and none loses partitions."""
    had, wanted = (_values(one).get(PARTITIONS, "0") for one in (change.found, change.wanted))
    return change.thing.kind == TOPIC and int(had) > int(wanted)


def _values(one: Fact | None) -> dict[str, str]:
    return dict(one.value) if one else {}


def respelled(path: str) -> str:
    """The same file under another name; of that one, the first."""
    directory, _, name = path.rpartition("/")
    return (
        f"{directory.removesuffix('/.')}/{name}"
        if directory.endswith("/.")
        else f"{directory}/./{name}"
    )


def read(properties: str) -> dict[str, str]:
    """What ``compile.written`` wrote."""
    pairs = (line.partition("=") for line in properties.splitlines() if line)
    return {key: value for key, _, value in pairs}


@asynccontextmanager
async def session(plan: ServerPlan, host: ServerHost) -> AsyncIterator[BrokerSession]:
    """The broker, also if it has just been started."""
    async with operator(plan, host) as asked:
        yield BrokerSession(asked, plan.resource, read(plan.files[PROPERTIES]))
