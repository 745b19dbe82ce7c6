"""What may be declared of a NATS server, and what each mistake is called."""

import pytest

from tests.servers.nats.shop import OLD_SHOP, SHOP
from watertight.model import codes
from watertight.model.document import path_text
from watertight.model.findings import Severity
from watertight.model.load import load_text
from watertight.model.rules import Flaw
from watertight.model.system import System
from watertight.servers.nats.check import check
from watertight.servers.nats.declaration import Grants, grants, max_pending_bytes, server
from watertight.servers.nats.subjects import common, covers, crossing, overlap, widest

PLAIN = """
trust_domain: shop.internal
services: {{orders: {{}}}}
resources: {{events: {{kind: nats, {resource}}}}}
channels: [{{from: orders, to: events, {channel}}}]
"""


def flaws(
    resource: str = "streams: {ORDERS: [orders.>]}", channel: str = "publish: [a]"
) -> list[Flaw]:
    system = load_text(PLAIN.format(resource=resource, channel=channel))
    return list(check(system, system.resources["events"]))


def shop(text: str = SHOP) -> System:
    return load_text(text.replace("{port}", "4222"))


@pytest.mark.parametrize("text", [SHOP, OLD_SHOP])
def test_the_shop_is_right_but_for_the_channel_that_grants_nothing(text: str) -> None:
    system = shop(text)
    (flaw,) = check(system, system.resources["events"])
    assert (flaw.code, flaw.severity) == (codes.GRANTS_NOTHING, Severity.WARNING)
    assert flaw.path == ("channels", 3)


def test_what_is_not_said_has_a_sane_default() -> None:
    said = server(shop().resources["events"])
    assert (said.minimum_tls, said.tls_first) == ("1.3", True)
    assert said.max_payload_bytes == 1 << 20
    assert said.streams["ORDERS"].max_bytes == 1 << 30
    assert said.streams["ORDERS"].max_age_seconds is None
    assert said.streams["AUDIT"].max_age_seconds == 7 * 86_400


def test_what_may_wait_follows_from_the_memory_and_from_no_channel() -> None:
    def pending(resource: str, channel: str = "publish: [a]") -> int:
        system = load_text(PLAIN.format(resource=resource, channel=channel))
        found = system.resources["events"]
        return max_pending_bytes(found, server(found))

    assert pending("limits: {memory: 2GiB}") == 2 << 20
    assert pending("limits: {memory: 4GiB}") == 4 << 20
    assert pending("limits: {memory: 4GiB}", "publish: [a], connections: 16") == 4 << 20
    assert pending("limits: {memory: 64GiB}") == 16 << 20
    assert pending("limits: {memory: 128MiB}") == 2 << 20  # two messages
    assert pending("max_pending: 5MiB") == 5 << 20


@pytest.mark.parametrize(
    "resource", ["max_pending: 16MiB", "limits: {memory: 128MiB}", "max_payload: 16MiB"]
)
def test_more_that_may_wait_than_the_memory_holds_is_a_warning(resource: str) -> None:
    (flaw,) = flaws(resource)
    assert (flaw.code, flaw.severity) == (codes.PENDING_OVER_MEMORY, Severity.WARNING)


def test_grants_are_read_as_written() -> None:
    channel = shop().channel("prices", "events")
    assert channel is not None
    assert grants(channel) == Grants(("price.changed",), ("price.ask",), ("AUDIT",), reply=True)


@pytest.mark.parametrize(
    ("resource", "code", "where"),
    [
        ("stream: {A: [a]}", codes.UNKNOWN_KEY, "resources.events.stream"),
        ("streams: [A]", codes.WRONG_TYPE, "resources.events.streams"),
        ("streams: {A.B: [a]}", codes.RESOURCE_NAME, "resources.events.streams[`A.B`]"),
        ("streams: {'A B': [a]}", codes.RESOURCE_NAME, "resources.events.streams[`A B`]"),
        ("streams: {A: []}", codes.OUT_OF_RANGE, "resources.events.streams.A"),
        ("streams: {A: [a..b]}", codes.RESOURCE_GRANT, "resources.events.streams.A[0]"),
        ("streams: {A: [$JS.x]}", codes.RESOURCE_GRANT, "resources.events.streams.A[0]"),
        ("streams: {A: ['>']}", codes.RESOURCE_GRANT, "resources.events.streams.A[0]"),
        ("streams: {A: {}}", codes.MISSING_KEY, "resources.events.streams.A"),
        (
            "streams: {A: {subjects: [a], size: 1GiB}}",
            codes.UNKNOWN_KEY,
            "resources.events.streams.A.size",
        ),
        (
            "streams: {A: {subjects: [a], max_size: lots}}",
            codes.BAD_SIZE,
            "resources.events.streams.A.max_size",
        ),
        (
            "streams: {A: {subjects: [a], max_age: 3}}",
            codes.BAD_DURATION,
            "resources.events.streams.A.max_age",
        ),
        ("streams: {A: [a.>], B: [a.*.c]}", codes.RESOURCE_KEY, "resources.events.streams.B"),
        ("streams: {A: [a, a]}", codes.RESOURCE_KEY, "resources.events.streams.A"),
        (
            "streams: {A: [a], B: [b]}, storage: 1GiB",
            codes.RESOURCE_KEY,
            "resources.events.streams",
        ),
        (
            "buckets: {kept: {discard: old}}",
            codes.RESOURCE_KEY,
            "resources.events.buckets.kept.discard",
        ),
        (
            "streams: {A: {subjects: [a], max_age: 30s, duplicate_window: 2m}}",
            codes.RESOURCE_KEY,
            "resources.events.streams.A.duplicate_window",
        ),
        ("max_payload: 65MiB", codes.OUT_OF_RANGE, "resources.events.max_payload"),
        ("minimum_tls: 1.1", codes.BAD_CHOICE, "resources.events.minimum_tls"),
    ],
)
def test_a_wrong_key_of_the_server_is_named(resource: str, code: str, where: str) -> None:
    (flaw,) = flaws(resource)
    assert (flaw.code, path_text(flaw.path)) == (code, where)
    assert flaw.severity is Severity.ERROR


@pytest.mark.parametrize(
    ("channel", "code", "where"),
    [
        ("publishes: [a]", codes.UNKNOWN_KEY, "channels[0].publishes"),
        ("publish: a", codes.WRONG_TYPE, "channels[0].publish"),
        ("publish: ['>']", codes.RESOURCE_GRANT, "channels[0].publish[0]"),
        ("publish: ['*.placed']", codes.RESOURCE_GRANT, "channels[0].publish[0]"),
        ("subscribe: [orders.placed, a b]", codes.RESOURCE_GRANT, "channels[0].subscribe[1]"),
        ("subscribe: [orders.p*]", codes.RESOURCE_GRANT, "channels[0].subscribe[0]"),
        ("subscribe: [orders.>.x]", codes.RESOURCE_GRANT, "channels[0].subscribe[0]"),
        ("subscribe: [orders.]", codes.RESOURCE_GRANT, "channels[0].subscribe[0]"),
        ("subscribe: [$SYS.ACCOUNT.>]", codes.RESOURCE_GRANT, "channels[0].subscribe[0]"),
        ("subscribe: [_INBOX.mailer.>]", codes.RESOURCE_GRANT, "channels[0].subscribe[0]"),
        ("subscribe: [_R_.x]", codes.RESOURCE_GRANT, "channels[0].subscribe[0]"),
        ("publish: ['a\"b']", codes.RESOURCE_GRANT, "channels[0].publish[0]"),
        ("publish: [7]", codes.RESOURCE_GRANT, "channels[0].publish[0]"),
        ("publish: [a, a]", codes.DUPLICATE_GRANT, "channels[0].publish[1]"),
        ("consume: [ORDER]", codes.RESOURCE_GRANT, "channels[0].consume[0]"),
        ("consume: [ORDERS, ORDERS]", codes.DUPLICATE_GRANT, "channels[0].consume[1]"),
        ("publish: [a], reply: true", codes.RESOURCE_GRANT, "channels[0].reply"),
    ],
)
def test_a_wrong_grant_is_named(channel: str, code: str, where: str) -> None:
    (flaw,) = [f for f in flaws(channel=channel) if f.severity is Severity.ERROR]
    assert (flaw.code, path_text(flaw.path)) == (code, where)


def test_a_stream_that_was_mistyped_is_found() -> None:
    (flaw,) = flaws(channel="consume: [ORDER]")
    assert flaw.remedy == "Did you mean `ORDERS`?"


def test_a_grant_that_another_covers_is_a_warning() -> None:
    (flaw,) = flaws(channel="publish: [orders.placed, orders.>]")
    assert (flaw.code, flaw.severity) == (codes.COVERED_GRANT, Severity.WARNING)


@pytest.mark.parametrize(
    ("wide", "narrow", "whole", "part"),
    [
        ("a", "a", True, True),
        ("a", "b", False, False),
        ("a.*", "a.b", True, True),
        ("a.b", "a.*", False, True),
        ("a.>", "a.b.c", True, True),
        ("a.>", "a", False, False),
        ("a.>", "a.*.c", True, True),
        ("a.*", "a.>", False, True),
        ("a.*.c", "a.b.*", False, True),
        ("a.*.c", "a.b.d", False, False),
        ("a.b.c", "a.b", False, False),
        ("a.>", "b.>", False, False),
        ("a.>", "a.>", True, True),
    ],
)
def test_which_subject_covers_which(wide: str, narrow: str, whole: bool, part: bool) -> None:
    assert covers(wide, narrow) is whole
    assert overlap(wide, narrow) is overlap(narrow, wide) is part


KEPT = "streams: {KV_settings: ['$KV.settings.>']}, buckets: {more: {history: 5}}"
BOTH = """
trust_domain: shop.internal
services: {one: {}, two: {}}
resources: {events: {kind: nats, minimum_tls: MINIMUM}}
channels:
  - {from: one, to: events, subscribe: [ask], reply: true}
  - {from: two, to: events, subscribe: [ask], reply: true}
"""


@pytest.mark.parametrize(
    "channel",
    [
        "publish: ['$KV.settings.color'], consume: [KV_settings]",
        "subscribe: ['$KV.more.a.>']",
        "buckets: {settings: [read], more: [read, write]}",
    ],
)
def test_a_bucket_is_granted_by_keys_or_as_a_whole(channel: str) -> None:
    assert flaws(KEPT, channel) == []


@pytest.mark.parametrize(
    ("resource", "channel", "where"),
    [
        (KEPT, "publish: ['$KV.setting.x']", "channels[0].publish[0]"),
        (KEPT, "publish: ['$KV.*.x']", "channels[0].publish[0]"),
        (KEPT, "publish: ['$KV.settings']", "channels[0].publish[0]"),
        (KEPT, "subscribe: ['$O.files.C.x']", "channels[0].subscribe[0]"),
        (KEPT, "buckets: {other: [read]}", "channels[0].buckets.other"),
        (KEPT, "object_stores: {settings: [read]}", "channels[0].object_stores.settings"),
        ("streams: {A: ['$KV.b.>']}", "publish: [a]", "resources.events.streams.A[0]"),
        ("streams: {KV_b: ['$KV.b.>', c]}", "publish: [a]", "resources.events.streams.KV_b[1]"),
        (
            "streams: {A: {subjects: [b], history: 2}}",
            "publish: [a]",
            "resources.events.streams.A.history",
        ),
        ("max_payload: 4MiB, max_pending: 4MiB", "publish: [a]", "resources.events"),
        ("storage: 1GiB", "publish: [a.*.c, a.b.*]", "channels[0].publish[1]"),
        ("storage: 1GiB", "publish: [a], connections: 0", "channels[0].connections"),
        ("storage: 1GiB", "publish: [a], subscriptions: yes", "channels[0].subscriptions"),
    ],
)
def test_what_cannot_be_of_buckets_and_limits(resource: str, channel: str, where: str) -> None:
    (flaw,) = flaws(resource, channel)
    assert (path_text(flaw.path), flaw.severity) == (where, Severity.ERROR)


def test_an_old_server_asks_one_service_for_each_subject() -> None:
    for minimum, expected in (("1.3", 0), ("1.2", 1)):
        system = load_text(BOTH.replace("MINIMUM", minimum))
        assert len(list(check(system, system.resources["events"]))) == expected


def test_what_overlaps_is_intersected_or_refused() -> None:
    assert common("a.>", "a.*.c") == "a.*.c"
    assert common("a.*.c", "a.b.*") == "a.b.c"
    assert common("a.*", "a.>") == "a.*"
    assert common("a.b.>", "a.*.c.>") == "a.b.c.>"
    assert widest(["a.b", "a.>", "a.b", "c"]) == ("a.>", "c")
    assert crossing(["a.*.c", "a.b.c", "b"]) is None
    assert crossing(["b", "a.*.c", "a.b.*"]) == ("a.*.c", "a.b.*")
