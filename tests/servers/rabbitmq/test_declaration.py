"""What a declaration may say of a broker, and how what it may not is refused."""

import pytest

from tests.servers.rabbitmq.shop import SHOP
from watertight.model import codes
from watertight.model.load import load_text
from watertight.servers.rabbitmq.attacks.examples import covered
from watertight.servers.rabbitmq.server import RabbitMQ
from watertight.servers.rabbitmq.uses import matches


def found(text: str) -> list[tuple[str, tuple[object, ...], str]]:
    system = load_text(text.replace("{port}", "5671"))
    flaws = RabbitMQ().check(system, system.resources["jobs"])
    return [(flaw.code, flaw.path, f"{flaw.message} {flaw.remedy}") for flaw in flaws]


def test_nothing_is_wrong_with_the_shop_but_that_the_lobby_may_do_nothing() -> None:
    [(code, path, _)] = found(SHOP)
    assert (code, path) == (codes.GRANTS_NOTHING, ("channels", 3))


@pytest.mark.parametrize(
    ("old", "new", "code", "path", "said"),
    [
        ("consume: [parcels]", "consume: [parcel]", codes.RESOURCE_GRANT,
         ("channels", 2, "consume", 0), "Did you mean `parcels`?"),
        ("send: [parcels]", "send: [parcels, parcels]", codes.DUPLICATE_GRANT,
         ("channels", 0, "send", 1), "Delete one"),
        ("desk: any}", "desk: [parcels]}", codes.RESOURCE_GRANT,
         ("channels", 1, "publish", "desk"), "`desk: any`"),
        ('{events: ["billing.#"]', "{events: any", codes.RESOURCE_GRANT,
         ("channels", 1, "publish", "events"), "List them"),
        ("publish: {events: [orders.placed,", "publish: {event: [orders.placed,",
         codes.RESOURCE_GRANT, ("channels", 0, "publish", "event"), "Did you mean `events`?"),
        ("[orders.placed, ", '["#.placed", ', codes.RESOURCE_GRANT,
         ("channels", 0, "publish", "events"), "pattern of routing keys"),
        ("news: fanout", "news: headers", codes.BAD_CHOICE,
         ("resources", "jobs", "exchanges", "news"), "`direct`, `fanout`"),
        ("queues: [invoices", "queues: [amq.x, invoices", codes.RESOURCE_NAME,
         ("resources", "jobs", "queues", 0), "the broker's own"),
        ("queues: [invoices", f"queues: [{'q' * 253}, invoices", codes.RESOURCE_NAME,
         ("resources", "jobs", "queues", 0), "At most 252 bytes"),
        ("{queue: audit, exchange: news}", "{queue: audit, exchange: new}", codes.RESOURCE_KEY,
         ("resources", "jobs", "bindings", 2, "exchange"), "Did you mean `news`?"),
        ("{queue: audit, exchange: news}", "{queue: audit, exchange: news, keys: [x]}",
         codes.RESOURCE_KEY, ("resources", "jobs", "bindings", 2), "Delete `keys`"),
        ("keys: [parcels]", 'keys: ["*"]', codes.RESOURCE_KEY,
         ("resources", "jobs", "bindings", 3, "keys"), "no patterns"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_stands(
    old: str, new: str, code: str, path: tuple[object, ...], said: str
) -> None:
    assert SHOP.count(old) == 1
    wrong = [flaw for flaw in found(SHOP.replace(old, new)) if flaw[0] != codes.GRANTS_NOTHING]
    [(its_code, its_path, text)] = wrong
    assert (its_code, its_path) == (code, path)
    assert said in text


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        ("orders.placed", "orders.placed", True),
        ("orders.*", "orders.placed", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.placed.eu", False),
        ("orders.#", "orders", True),
        ("orders.#", "orders.placed.eu", True),
        ("#", "anything.at.all", True),
        ("*.placed", "orders.placed", True),
        ("*.placed", "placed", False),
    ],
)
def test_patterns_are_read_as_amqp_reads_them(pattern: str, key: str, *, fits: bool) -> None:
    assert matches(pattern, key) == fits
    assert covered((pattern,), key) == fits
