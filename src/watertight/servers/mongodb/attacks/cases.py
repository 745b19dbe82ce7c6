"""What a service may do with the collections, and all else that the protocol offers it.

Nothing here changes what a program of a service's would see: what is permitted is tried on
documents that are not there, and one that is inserted is taken away again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watertight.attack.login import Login
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.session import Act, attacked, used
from watertight.attack.wire import Closed, Wire
from watertight.model.system import System
from watertight.servers.mongodb.attacks import dialect as speak
from watertight.servers.mongodb.attacks.dialect import DIALECT, MAKE, Answer, ask
from watertight.servers.mongodb.declaration import ACTIONS, declared, granted

NOTHING = "watertight_probe"
"""A collection, index, field or user that is not there."""
NOBODY = {"_id": NOTHING}
INDEX = {"key": {NOTHING: 1}, "name": NOTHING}
TWICE = ({**NOBODY, NOTHING: 1}, {**NOBODY, NOTHING: 1})
"""A server that may insert inserts the first, which is taken away again."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One declared channel."""

    system: System
    login: Login

    @property
    def database(self) -> str:
        """The declared one."""
        return declared(self.login.resource).database

    @property
    def granted(self) -> Mapping[str, Sequence[str]]:
        """Collection → what may be done with it."""
        channel = self.system.channel(self.login.service, self.login.resource.name)
        return granted(channel).collections if channel else {}

    def may(self, action: str) -> str | None:
        """A collection on which it may do this."""
        return next((name for name, actions in self.granted.items() if action in actions), None)

    def attack(self, identifier: str, attempt: str, act: Act) -> Probe:
        """A probe that must be refused, within the caller's own session."""
        return MAKE.attack(
            identifier, self.login.channel, attempt, attacked, DIALECT, self.login, act
        )

    def use(self, identifier: str, attempt: str, act: Act) -> Probe:
        """A probe that must be served."""
        return MAKE.use(identifier, self.login.channel, attempt, used, DIALECT, self.login, act)


def judged(seen: Answer) -> Observation:
    """Denied is refused; what the server does not have, it refuses to all."""
    if seen.denied or seen.code in (speak.NOT_IMPLEMENTED, speak.NO_SUCH_COMMAND):
        return refused(str(seen))
    if seen.done:
        return served(str(seen))
    return not_run(f"neither done nor denied: {seen}")


def asks(database: str, asked: Mapping[str, Any], *more: tuple[str, Any]) -> Act:
    """Whether one command is done."""

    async def act(wire: Wire) -> Observation:
        return judged(await ask(wire, database, asked, *more))

    return act


def sends(raw: bytes) -> Act:
    """Whether a message that no driver writes is answered as if it were one."""

    async def act(wire: Wire) -> Observation:
        try:
            await wire.send(raw)
            seen = await speak.answer(wire)
        except Closed as end:
            return refused(str(end))
        return judged(seen)

    return act


# --- what may be granted -------------------------------------------------------------------------


def commands(action: str, name: str) -> Mapping[str, Any]:
    """How one grant is tried on one collection, so that nothing of a service's changes."""
    every: Mapping[str, Mapping[str, Any]] = {
        "find": {"find": name, "filter": NOBODY, "limit": 1},
        "insert": {"insert": name, "documents": [{**NOBODY}]},
        "update": {
            "update": name,
            "updates": [{"q": {"_id": f"{NOTHING}-none"}, "u": {"$set": {NOTHING: 1}}}],
        },
        "remove": {"delete": name, "deletes": [{"q": {"_id": f"{NOTHING}-none"}, "limit": 1}]},
        "index": {"listIndexes": name},
    }
    return every[action]


def also(action: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Other ways to the same: what it is called, and the command."""
    if action == "find":
        yield "count", {"count": name}
        yield "distinct", {"distinct": name, "key": NOTHING}
        yield "aggregate", {"aggregate": name, "pipeline": [{"$match": NOBODY}], "cursor": {}}
    elif action == "update":
        change = {"$set": {NOTHING: 1}}
        query = {"_id": f"{NOTHING}-none"}
        yield "find-and-modify", {"findAndModify": name, "query": query, "update": change}
    elif action == "remove":
        query = {"_id": f"{NOTHING}-none"}
        yield "find-and-remove", {"findAndModify": name, "query": query, "remove": True}
    elif action == "index":
        yield "create-indexes", {"createIndexes": name, "indexes": [INDEX]}
        yield "drop-indexes", {"dropIndexes": name, "index": NOTHING}


def inserts(caller: Caller, name: str) -> Act:
    """Whether a document comes in: one that is there twice, so that none does that may be kept.

    What comes in is taken away by those who may remove; who may only insert inserts for good, so
    it is tried on an empty list.
    """

    async def act(wire: Wire) -> Observation:
        if "remove" not in caller.granted.get(name, ()):
            return judged(await ask(wire, caller.database, {"insert": name, "documents": []}))
        seen = await ask(wire, caller.database, commands("insert", name))
        if seen.done:
            gone = {"delete": name, "deletes": [{"q": NOBODY, "limit": 1}]}
            await ask(wire, caller.database, gone)
        return judged(seen)

    return act


def uses(caller: Caller) -> Iterator[Probe]:
    """Every grant."""
    yield caller.use("use.ping", "a ping", asks("admin", {"ping": 1}))
    for name, actions in caller.granted.items():
        for action in actions:
            act = asks(caller.database, commands(action, name))
            if action == "insert":
                act = inserts(caller, name)
            yield caller.use(f"use.{action}", f"{action} in {name}", act)


def grants(caller: Caller, collections: Sequence[str]) -> Iterator[Probe]:
    """By complement: every action on every collection that is not granted, each in every way."""
    for name in collections:
        for action in ACTIONS:
            if action in caller.granted.get(name, ()):
                continue
            what = f"{action} in {name}"
            act = asks(caller.database, commands(action, name))
            yield caller.attack(f"grants.{action}", what, act)
            for way, asked in also(action, name):
                yield caller.attack(
                    f"grants.{action}", f"{what} by {way}", asks(caller.database, asked)
                )
