"""Whatever happens in whatever order: a proxy that goes on answering ends with what it shall have.

The proxy of this model behaves as Envoy does: it applies the good part of a refused batch, keeps
what it had of the rest, answers in order, and says what it holds when it connects anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.xds.playbook import (
    CLUSTER,
    LISTENER,
    ROUTE,
    SECRET,
    encoded,
    resource,
    version,
)
from watertight.dataplane.resources import Resource, ResourceType
from watertight.dataplane.xds.events import Event, Requested, ResourcesChanged, Send
from watertight.dataplane.xds.session import Session

NAMES = ("a", "b", "c")
TYPES = (CLUSTER, LISTENER, ROUTE, SECRET)
WILDCARDS = (CLUSTER, LISTENER)
BAD = 13
"""The edition of a resource that the proxy refuses."""

Key = tuple[ResourceType, str]
Plan = Mapping[Key, int]
"""Type and name → edition."""

plans = st.dictionaries(
    st.tuples(st.sampled_from(TYPES), st.sampled_from(NAMES)), st.sampled_from((1, 2, BAD))
)
steps = st.one_of(
    st.tuples(st.just("want"), plans),
    st.tuples(st.just("answer"), st.integers(1, 4)),
    st.tuples(st.just("subscribe"), st.sampled_from((ROUTE, SECRET)), st.sampled_from(NAMES)),
    st.tuples(st.just("unsubscribe"), st.sampled_from((ROUTE, SECRET)), st.sampled_from(NAMES)),
    st.tuples(st.just("reconnect")),
)


def resources(plan: Plan) -> list[Resource]:
    return [resource(type_, name, edition) for (type_, name), edition in plan.items()]


@dataclass
class World:
    """A session and a proxy, and the rules that hold at every moment."""

    session: Session = field(default_factory=Session)
    plan: Plan = field(default_factory=dict)
    held: dict[Key, str] = field(default_factory=dict)
    asked: dict[ResourceType, set[str]] = field(default_factory=dict)
    inbox: list[Send] = field(default_factory=list)

    def connect(self) -> None:
        self.session, self.inbox = Session(), []
        self.want(self.plan)
        for type_ in TYPES:
            names = self.asked.get(type_, set())
            if type_ in WILDCARDS or names:
                holds = {n: v for (t, n), v in self.held.items() if t is type_}
                self.happens(
                    Requested(type_, subscribe=tuple(sorted(names)), initial_versions=holds)
                )

    def want(self, plan: Plan) -> None:
        self.plan = plan
        self.happens(ResourcesChanged(encoded(*resources(plan)), frozenset(ResourceType)))

    def subscribe(self, type_: ResourceType, name: str) -> None:
        if name not in self.asked.setdefault(type_, set()):
            self.asked[type_].add(name)
            self.happens(Requested(type_, subscribe=(name,)))

    def unsubscribe(self, type_: ResourceType, name: str) -> None:
        if name in self.asked.get(type_, set()):
            self.asked[type_].remove(name)
            self.held.pop((type_, name), None)
            self.happens(Requested(type_, unsubscribe=(name,)))

    def answer(self) -> None:
        """The proxy takes the oldest response."""
        send = self.inbox.pop(0)
        refused = []
        for item in send.resources:
            if item.version == version(send.type, item.name, BAD):
                refused.append(item.name)
            elif self.wants(send.type, item.name):
                self.held[send.type, item.name] = item.version
        for name in send.removed:
            self.held.pop((send.type, name), None)
        error = f"refused: {refused}" if refused else None
        self.happens(Requested(send.type, send.nonce, error))

    def wants(self, type_: ResourceType, name: str) -> bool:
        return type_ in WILDCARDS or name in self.asked.get(type_, set())

    def happens(self, event: Event) -> None:
        for command in self.session.handle(event):
            if isinstance(command, Send):
                names = [*(e.name for e in command.resources), *command.removed]
                assert len(names) == len(set(names))  # D9
                assert all(not n or self.wants(command.type, n) for n in names)
                self.inbox.append(command)

    def settle(self) -> None:
        """The proxy answers until nothing more comes, which must be soon."""
        for _ in range(200):
            if not self.inbox:
                return
            self.answer()
        raise AssertionError("the exchange does not end")


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25), plans)
def test_every_exchange_ends_with_the_plan_in_force(
    history: list[tuple[object, ...]], last: dict[Key, int]
) -> None:
    world = World()
    world.connect()
    for step in history:
        match step:
            case ("want", plan):
                world.want(plan)  # type: ignore[arg-type]
            case ("answer", int(count)):
                for _ in range(min(count, len(world.inbox))):
                    world.answer()
            case ("subscribe", type_, name):
                world.subscribe(type_, name)  # type: ignore[arg-type]
            case ("unsubscribe", type_, name):
                world.unsubscribe(type_, name)  # type: ignore[arg-type]
            case _:
                world.connect()
    world.settle()
    world.want({key: 2 if edition == BAD else edition for key, edition in last.items()})
    world.settle()
    assert world.session.refusals == ()
    assert world.held == {
        key: item.version
        for key, item in encoded(*resources(world.plan)).items()
        if world.wants(*key)
    }


@settings(max_examples=100, deadline=None)
@given(plans, plans)
def test_a_plan_with_bad_parts_is_told_and_its_removed_listeners_are_gone(
    first: dict[Key, int], second: dict[Key, int]
) -> None:
    """Fail closed: whatever else a proxy refuses, a door that shall go goes."""
    world = World()
    world.want(dict.fromkeys(first, 1))
    world.connect()
    world.settle()
    world.want(second)
    world.settle()
    bad = {key for key, edition in second.items() if edition == BAD and world.wants(*key)}
    told = {(r.type, r.name) for r in world.session.refusals}
    assert told <= bad
    assert bool(told) == bool(bad)
    assert not {n for t, n in world.held if t is LISTENER and (t, n) not in second}
