"""What the protocol offers besides collections of one's own: who one is, what others have, the
server itself, and two identities at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from watertight.attack.arena import Arena
from watertight.attack.login import as_itself
from watertight.attack.probe import Observation, Probe, not_run, refused
from watertight.attack.wire import Closed, Wire
from watertight.servers.mongodb.attacks import dialect as speak
from watertight.servers.mongodb.attacks.cases import (
    INDEX,
    NOBODY,
    NOTHING,
    Caller,
    asks,
    judged,
    sends,
)
from watertight.servers.mongodb.attacks.dialect import DIALECT, MAKE, ask, document

WHOSE = b"\0watertight_owner\0-"
"""What PLAIN says to come in as who owns all collections (RFC 4616)."""
SASL = {"mechanism": "PLAIN", "payload": WHOSE}
CLAIMS: Mapping[str, Mapping[str, Any]] = {
    "sasl-start": {"saslStart": 1, **SASL},
    "sasl-continue": {"saslContinue": 1, "conversationId": 1, "payload": WHOSE},
    "authenticate": {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "watertight_owner"},
    "logout": {"logout": 1},
    "speculative": {"hello": 1, "speculativeAuthenticate": {"saslStart": 1, **SASL, "db": "admin"}},
    "create-user": {"createUser": NOTHING, "pwd": "x", "roles": ["root"]},
    "users-info": {"usersInfo": 1},
}
"""What a client may say of who it is: nothing."""
SERVER: Mapping[str, Mapping[str, Any]] = {
    "list-databases": {"listDatabases": 1},
    "server-status": {"serverStatus": 1},
    "command-line": {"getCmdLineOpts": 1},
    "current-operations": {"currentOp": 1},
    "log": {"getLog": "global"},
    "host": {"hostInfo": 1},
    "parameters": {"getParameter": "*"},
    "shutdown": {"shutdown": 1, "comment": NOTHING},
}


def attacks(caller: Caller, collections: Sequence[str]) -> Iterator[Probe]:
    """Within the caller's own session."""
    for name, asked in CLAIMS.items():
        act = asks("admin", asked)
        yield caller.attack(f"login.{name}", f"{name} within its own session", act)
    for name, asked in SERVER.items():
        yield caller.attack(f"server.{name}", f"{name} of the server's", asks("admin", asked))
    yield from _database(caller)
    yield from _across(caller, collections)
    yield from _frames(caller)


def _database(caller: Caller) -> Iterator[Probe]:
    database, new = caller.database, {"insert": NOTHING, "documents": [NOBODY]}
    renamed = {"renameCollection": f"{database}.{NOTHING}", "to": f"{database}.{NOTHING}2"}
    for name, where, asked in (
        ("create", database, {"create": NOTHING}),
        ("new-collection", database, new),
        ("new-database", NOTHING, new),
        ("public", "public", new),
        ("drop", database, {"drop": NOTHING}),
        ("drop-database", NOTHING, {"dropDatabase": 1}),
        ("rename", "admin", renamed),
        ("alter", database, {"collMod": NOTHING}),
        ("list-collections", database, {"listCollections": 1, "nameOnly": True}),
        ("statistics", database, {"dbStats": 1}),
        ("collection-statistics", database, {"collStats": NOTHING}),
        ("explain", database, {"explain": {"find": NOTHING}}),
    ):
        yield caller.attack(f"database.{name}", f"{name} by command", asks(where, asked))


def _across(caller: Caller, collections: Sequence[str]) -> Iterator[Probe]:
    """From a collection that it may find in, to one that it may not."""
    mine = caller.may("find")
    foreign = next((c for c in collections if "find" not in caller.granted.get(c, ())), None)
    if mine is None or foreign is None:
        return
    lookup = {"from": foreign, "localField": "_id", "foreignField": "_id", "as": NOTHING}
    stages: Mapping[str, Any] = {
        "lookup": {"$lookup": lookup},
        "union": {"$unionWith": foreign},
        "graph": {"$graphLookup": {**lookup, "startWith": "$_id"}},
        "out": {"$out": foreign},
        "merge": {"$merge": {"into": foreign}},
        "changes": {"$changeStream": {}},
        "sizes": {"$collStats": {"count": {}}},
    }
    for name, stage in stages.items():
        of = foreign if name in ("changes", "sizes") else mine
        pipeline = [stage] if of is foreign else [{"$match": NOBODY}, stage]
        asked = {"aggregate": of, "pipeline": pipeline, "cursor": {}}
        yield caller.attack(
            f"across.{name}", f"{name} from {mine} to {foreign}", asks(caller.database, asked)
        )


def _frames(caller: Caller) -> Iterator[Probe]:
    """Messages whose two readers might read two different commands."""
    login = document({"saslStart": 1, **SASL, "$db": "admin"})
    ping = document({"ping": 1, "$db": "admin"})
    twice = document({"ping": 1, "$db": "admin"}, ("ping", 1))
    section = b"\x01" + (4 + 10 + len(login)).to_bytes(4, "little") + b"saslStart\0" + login
    for name, raw in {
        "query": speak.query("admin", document({"saslStart": 1, **SASL})),
        "compressed": speak.message(b"\xdd\x07\0\0\0\0\0\0\0", operation=speak.OP_COMPRESSED),
        "two-documents": speak.command(ping, sections=b"\0" + login),
        "sequence": speak.command(ping, sections=section),
        "checksum": speak.command(ping, flags=1, sections=b"\0\0\0\0"),
        "two-fields": speak.command(twice),
        "too-long": (1 << 30).to_bytes(4, "little") + speak.command(ping)[4:],
    }.items():
        yield caller.attack(f"frames.{name}", f"a message of an odd kind: {name}", sends(raw))
    index = {"createIndexes": NOTHING, "indexes": [INDEX]}
    mine = caller.may("index")
    if mine is not None:
        act = asks(caller.database, {**index, "createIndexes": mine}, ("createIndexes", NOTHING))
        what = f"an index of {mine} and, by a second field, of another"
        yield caller.attack("frames.two-collections", what, _closed(act))
        elsewhere = asks("another", {**index, "createIndexes": mine})
        yield caller.attack("grants.index", f"an index of {mine} in another database", elsewhere)


def _closed(act: Any) -> Any:
    """An end without a word is how a message is refused that cannot be read in one way."""

    async def tried(wire: Wire) -> Observation:
        try:
            seen: Observation = await act(wire)
        except Closed as end:
            return refused(str(end))
        return seen

    return tried


def pairs(callers: Sequence[Caller]) -> Iterator[Probe]:
    """Two identities at once: one's cursor in another's hands."""
    for owner in callers:
        mine = owner.may("find")
        for other in callers:
            if mine is None or other is owner:
                continue
            for name in ("getMore", "killCursors"):
                yield MAKE.attack(
                    "pairs.cursor",
                    other.login.channel,
                    f"{name} of a cursor of {owner.login.service}'s",
                    _cursor,
                    owner,
                    other,
                    name,
                )


async def _cursor(arena: Arena, owner: Caller, other: Caller, name: str) -> Observation:
    mine = owner.may("find")
    wire = await as_itself(arena, DIALECT, owner.login)
    stolen = await as_itself(arena, DIALECT, other.login)
    try:
        made = await ask(wire, owner.database, {"find": mine, "batchSize": 0})
        number = made.said.get("cursor", {}).get("id", 0)
        if not number:
            return not_run(f"no cursor to take: {made}")
        asked = {"getMore": number, "collection": mine}
        if name == "killCursors":
            asked = {"killCursors": mine, "cursors": [number]}
        seen = await ask(stolen, owner.database, asked)
        gone = seen.said.get("cursorsKilled")
        await ask(wire, owner.database, {"killCursors": mine, "cursors": [number]})
        if seen.code == speak.CURSOR_NOT_FOUND or gone == []:
            return refused(str(seen.said)[:200])
        return judged(seen)
    finally:
        await wire.close()
        await stolen.close()
