"""Whom the guard of a server's memory blames. Pure: what it knows of a server is told to it."""

from pathlib import Path
from typing import Any

from tests.servers.nats.test_memory import SYSTEM, read
from watertight.model.placement import Placement
from watertight.servers.nats import watch
from watertight.servers.nats.accounts import WayBack
from watertight.servers.nats.held import REQUEST_BYTES, Held
from watertight.servers.nats.server import NATS
from watertight.servers.nats.watch import Guard


def _connection(cid: int, account: str, messages: int, size: int = 0) -> dict[str, Any]:
    counts = {"in_msgs": messages, "in_bytes": size, "subscriptions": 0}
    return {"cid": cid, "account": account, **counts}


def test_the_guard_blames_who_sent_most_and_lately() -> None:
    guard = Guard(1 << 30)
    full = 700 << 20
    guard.note([_connection(1, "alice", 10**9), _connection(2, "bob", 5)], 1.0)
    assert guard.judge(full, 1.0) is None, "nothing is known yet of who took it"
    later = [_connection(1, "alice", 10**9), _connection(2, "bob", 50_000)]
    guard.note(later, 2.0)
    assert guard.judge(600 << 20, 2.0) is None, "there is room"
    assert guard.judge(full, 2.0) == ("bob", "it had sent most")
    guard.note(later, 3.0)
    assert guard.judge(full, 3.0) is None, "it does not grow"
    assert guard.judge(full + (64 << 20), 3.0) is None, "alice has sent nothing since"
    guard.let_in(12.5)
    assert guard.out == {}
    again = [_connection(3, "bob", 50_000)]
    guard.note(again, 13.0)
    assert guard.judge(full + (64 << 20), 13.0) == ("bob", "it had sent most")
    assert guard.out["bob"] == 13.0 + 2 * watch.FIRST_SECONDS


FETCHES = WayBack("alice", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.alice", 300)
ASKS = WayBack("alice", "ask.*", 60)


def test_what_services_can_have_remembered_is_known_from_the_declaration() -> None:
    plans = NATS().compile(read(), Placement(Path("/run/w"), Path("/srv")))
    assert set(plans["events"].grants.ways_back) == {FETCHES, ASKS}
    old = read(SYSTEM.replace("kind: nats", "kind: nats\n    minimum_tls: 1.2"))
    plans = NATS().compile(old, Placement(Path("/run/w"), Path("/srv")))
    assert plans["events"].grants.ways_back == ()


def test_requests_are_counted_as_long_as_their_ways_back_stand() -> None:
    held = Held((FETCHES, ASKS))
    assert set(held.due(5.0, 0.0)) == {FETCHES, ASKS}
    for way in (FETCHES, ASKS):
        held.note_requests(way, 10**6, 0.0)
    assert held.by_service() == {"alice": 0.0}, "of what was before, nothing is known"
    assert held.due(5.0, 4.0) == []
    held.note_requests(ASKS, 10**6 + 1000, 10.0)
    assert held.due(5.0, 12.0) == [FETCHES]
    assert held.by_service() == {"alice": 1000 * REQUEST_BYTES}
    held.note_requests(ASKS, 500, 10.0)
    assert held.by_service() == {"alice": 1500 * REQUEST_BYTES}, "after a reload, it begins with 0"
    held.note_requests(ASKS, 500, 310.0)
    assert held.by_service()["alice"] < 15 * REQUEST_BYTES, "they are forgotten"


def test_what_cannot_be_counted_is_asked_for_again_and_nobodys() -> None:
    held = Held((ASKS,))
    held.note_requests(ASKS, None, 0.0)
    assert held.due(5.0, 4.0) == []
    assert held.due(5.0, 5.0) == [ASKS]
    held.note_requests(ASKS, 10**6, 5.0)
    assert held.by_service() == {"alice": 0.0}
    held.note_requests(ASKS, 10**6 + 10, 5.0)
    assert held.by_service() == {"alice": 10 * REQUEST_BYTES}


def test_the_guard_blames_who_holds_much_before_who_sends_most() -> None:
    guard = Guard(1 << 30, Held((ASKS,)))
    full = 700 << 20
    guard.held.note_requests(ASKS, 0, 1.0)
    guard.note([_connection(1, "alice", 0), _connection(2, "bob", 0)], 1.0)
    guard.held.note_requests(ASKS, 100_000, 2.0)
    now = [_connection(1, "alice", 100_000), _connection(2, "bob", 10**6, 1 << 33)]
    guard.note(now, 2.0)
    assert guard.judge(full, 2.0) == ("alice", "it held most")
    guard.note(now, 2.1)
    more = full + (64 << 20)
    assert guard.judge(more, 2.1) is None, "alice is out, and holds it still"
    assert guard.judge(900 << 20, 2.1) == ("bob", "it had sent most")


def test_the_guard_blames_who_lets_much_wait() -> None:
    guard = Guard(1 << 30)
    guard.note([_connection(1, "alice", 0), _connection(2, "bob", 0)], 1.0)
    slow = {**_connection(1, "alice", 0), "pending_bytes": 200 << 20}
    now = [slow, _connection(2, "bob", 10**6)]
    guard.note(now, 2.0)
    guard.held.note_connections(now)
    assert guard.judge(700 << 20, 2.0) == ("alice", "it held most")
