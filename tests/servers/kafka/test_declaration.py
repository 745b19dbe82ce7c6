"""What a declaration may say of a broker, and how what it may not is refused."""

import pytest

from tests.servers.kafka.shop import SHOP
from watertight.model import codes
from watertight.model.load import load_text
from watertight.servers.kafka.server import Kafka


def found(text: str) -> list[tuple[str, tuple[object, ...], str]]:
    system = load_text(text.replace("{port}", "9093"))
    flaws = Kafka().check(system, system.resources["events"])
    return [(flaw.code, flaw.path, f"{flaw.message} {flaw.remedy}") for flaw in flaws]


def test_nothing_is_wrong_with_the_shop_but_that_the_lobby_may_do_nothing() -> None:
    [(code, path, _)] = found(SHOP)
    assert (code, path) == (codes.GRANTS_NOTHING, ("channels", 4))


@pytest.mark.parametrize(
    ("old", "new", "code", "path", "said"),
    [
        ("consume: [invoices]", "consume: [invoice]", codes.RESOURCE_GRANT,
         ("channels", 3, "consume", 0), "Did you mean `invoices`?"),
        ("consume: [invoices]", "consume: [invoices, invoices]", codes.DUPLICATE_GRANT,
         ("channels", 3, "consume", 1), "Delete one"),
        ("consume: [invoices]", "consume: [invoices], transactions: true", codes.RESOURCE_GRANT,
         ("channels", 3, "transactions"), "may write nothing"),
        ("invoices: {ret", "__consumer_offsets: {ret", codes.RESOURCE_NAME,
         ("resources", "events", "topics", "__consumer_offsets"), "the broker's own"),
        ("invoices: {ret", "in/voices: {ret", codes.RESOURCE_NAME,
         ("resources", "events", "topics", "in/voices"), "not a name for a topic"),
        ("invoices: {ret", f"{'t' * 250}: {{ret", codes.RESOURCE_NAME,
         ("resources", "events", "topics", "t" * 250), "At most 249"),
        ("customers: {compacted: true}", "customers: {compacted: true}\n      orders_placed: {}",
         codes.RESOURCE_NAME, ("resources", "events", "topics", "orders_placed"), "one name"),
        ("partitions: 2", "partitions: 0", codes.RESOURCE_KEY,
         ("resources", "events", "topics", "orders.placed", "partitions"), "from 1 to 1000"),
        ("max_message_size: 2MiB", "max_message_size: 1GiB", codes.BAD_SIZE,
         ("resources", "events", "topics", "invoices", "max_message_size"), "At most `64MiB`"),
        ("retention: 1h", "retention: 0d", codes.BAD_DURATION,
         ("resources", "events", "topics", "orders.placed", "retention"), "`7d`"),
        ("connections: 24", "connections: 0", codes.RESOURCE_KEY,
         ("channels", 4, "connections"), "from 1 to 10000"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_stands(
    old: str, new: str, code: str, path: tuple[object, ...], said: str
) -> None:
    assert SHOP.count(old) == 1
    wrong = [flaw for flaw in found(SHOP.replace(old, new)) if flaw[0] != codes.GRANTS_NOTHING]
    assert (code, path) in [flaw[:2] for flaw in wrong]
    assert said in next(text for its, where, text in wrong if (its, where) == (code, path))


@pytest.mark.parametrize(
    ("use", "granted"),
    [
        ("publish orders.placed", True),
        ("publish customers", False),
        ("consume customers", True),
        ("group orders", True),
        ("group orders.nightly", True),
        ("group orders-eu", False),
        ("transaction orders", False),
    ],
)
def test_a_use_is_explained(use: str, *, granted: bool) -> None:
    system = load_text(SHOP.replace("{port}", "9093"))
    channel = system.channel("orders", "events")
    assert channel is not None
    assert (Kafka().granted(channel, *use.split(" ")) is not None) == granted
