"""Kafka's requests as an attacker writes them, and where in an answer its verdict stands.

kafka.apache.org/protocol; versions without tagged fields where there are any, ``flexible`` where
there are none. Each is harmless where it is permitted: it only validates, or is about what is not
there; for a verdict comes before that.
"""

import struct
from dataclasses import dataclass

STRANGER = "watertight-probe"
NOWHERE = 99_999
"""A partition, a node or an offset that is not there."""
NOTHING_S_ID = b"watertight-probe"
"""A topic's, of 16 bytes."""
NO_PRODUCER = 1 << 40
"""A producer's number that no broker has given."""


@dataclass(frozen=True, slots=True)
class Request:
    """``verdict``: how to come to the first error code: `i` `h` `q` `b` skip a number, `s` text,
    `a` enters an array, `S` and `A` the compact ones, `t` skips no tags, `*` is it."""

    api: int
    version: int
    verdict: str
    body: bytes
    flexible: bool = False

    def encoded(self, number: int) -> bytes:
        """With its header and length."""
        head = struct.pack(">hhi", self.api, self.version, number) + text(STRANGER)
        tags = b"\x00" if self.flexible else b""
        whole = head + tags + self.body + tags
        return struct.pack(">i", len(whole)) + whole


def num(shape: str, *values: float) -> bytes:
    """Numbers, big-endian."""
    return struct.pack(">" + shape, *values)


def text(value: str | None) -> bytes:
    """A string, or null."""
    data = b"" if value is None else value.encode()
    return num("h", -1 if value is None else len(data)) + data


def many(*items: bytes) -> bytes:
    """An array."""
    return num("i", len(items)) + b"".join(items)


NULL = num("i", -1)
NONE = b"\x00"
"""A compact null; also no tags."""
NONE_OF = b"\x01"
"""A compact array of nothing."""
NO_STRUCT = b"\xff"


def few(*items: bytes) -> bytes:
    """A compact array, of few."""
    return bytes([len(items) + 1]) + b"".join(items)


def compact(value: str) -> bytes:
    """A compact string, of fewer than 127 bytes."""
    data = value.encode()[:126]
    return bytes([len(data) + 1]) + data


def of_partition(topic: str, partition: bytes) -> bytes:
    """One topic with one partition."""
    return many(text(topic) + many(partition))


def corrupt_batch() -> bytes:
    """A batch of one record, whose checksum is wrong: judged, and never written."""
    after_crc = num("hiqqqhii", 0, 0, 0, 0, -1, -1, -1, 1) + b"\x0c\x00\x00\x00\x01\x00\x00"
    body = num("ibI", 0, 2, 0xBAD) + after_crc
    return num("qi", 0, len(body)) + body


def produce(topic: str, *, transaction: str | None = None) -> Request:
    """Produce."""
    batch = corrupt_batch()
    records = of_partition(topic, num("ii", 0, len(batch)) + batch)
    return Request(0, 3, "asai*", text(transaction) + num("hi", 1, 5000) + records)


def fetch(topic: str) -> Request:
    """Fetch, a little, without waiting; nobody's position moves."""
    limits = num("iiiib", -1, 0, 1, 1024, 0)
    return Request(1, 4, "iasai*", limits + of_partition(topic, num("iqi", 0, 0, 1024)))


def fetch_as_node(topic: str) -> Request:
    """Fetch, as a node that keeps a copy does: it may read everything."""
    limits = num("iiiib", NOWHERE, 0, 1, 1024, 0)
    return Request(1, 4, "iasai*", limits + of_partition(topic, num("iqi", 0, 0, 1024)))


def producers(topic: str) -> Request:
    """DescribeProducers: whoever knows another's number and epoch can write as it does."""
    one = compact(topic) + few(num("i", 0)) + NONE
    return Request(61, 0, "tiASAi*", few(one), flexible=True)


def offsets(topic: str) -> Request:
    """ListOffsets."""
    return Request(2, 1, "asai*", num("i", -1) + of_partition(topic, num("iq", 0, -1)))


def epochs(topic: str) -> Request:
    """OffsetForLeaderEpoch."""
    return Request(23, 3, "iasa*", num("i", -1) + of_partition(topic, num("iii", 0, -1, 0)))


def partitions(topic: str) -> Request:
    """DescribeTopicPartitions."""
    body = few(compact(topic) + NONE) + num("i", 10) + NO_STRUCT
    return Request(75, 0, "tiA*", body, flexible=True)


def metadata(topic: str, *, create: bool = False) -> Request:
    """Metadata of one topic."""
    return Request(3, 4, "iaisissia*", many(text(topic)) + num("b", create))


EVERYTHING = Request(3, 4, "", NULL + num("b", 0))
"""Metadata of all topics that one may see."""
ALL_GROUPS = Request(16, 2, "", b"")
"""ListGroups: those that one may see."""
ALL_TRANSACTIONS = Request(66, 0, "", NONE_OF * 2, flexible=True)
"""ListTransactions: those that one may see."""


def find(key: str, kind: int = 0) -> Request:
    """FindCoordinator: of a group (0) or a transactional id (1)."""
    return Request(10, 1, "i*", text(key) + num("b", kind))


def of_group(group: str, topic: str) -> dict[str, Request]:
    """All that may be done to a group: what → request."""
    name, place = text(group), of_partition(topic, num("iq", NOWHERE, 0) + text(""))
    member = compact(group) + compact(STRANGER)
    change = text("consumer.session.timeout.ms") + num("b", 0) + text("50000")
    setting = num("b", 32) + name + many(change)
    return {
        "asked for": find(group),
        "joined": Request(
            11,
            5,
            "i*",
            name
            + num("ii", 10_000, 10_000)
            + text("")
            + text(None)
            + text("consumer")
            + many(text("range") + num("i", 0)),
        ),
        "given its share": Request(14, 1, "i*", name + num("i", 1) + text(STRANGER) + many()),
        "kept alive": Request(12, 1, "i*", name + num("i", 1) + text(STRANGER)),
        "left for another": Request(13, 1, "i*", name + text(STRANGER)),
        "moved to another offset": Request(
            8, 2, "asai*", name + num("i", -1) + text("") + num("q", -1) + place
        ),
        "asked for its offsets": Request(9, 1, "asaiqs*", name + of_partition(topic, num("i", 0))),
        "robbed of an offset": Request(47, 0, "*", name + of_partition(topic, num("i", NOWHERE))),
        "described": Request(15, 1, "ia*", many(name)),
        "described (of the new protocol)": Request(
            69, 0, "tiA*", few(compact(group)) + b"\x00", flexible=True
        ),
        "joined (by the new protocol)": Request(
            68,
            0,
            "ti*",
            member + num("i", -1) + NONE * 2 + num("i", -1) + NONE * 3,
            flexible=True,
        ),
        "set otherwise": Request(44, 0, "ia*", many(setting) + num("b", 1)),
        "described (as a share group)": Request(
            77, 1, "tiA*", few(compact(group)) + b"\x00", flexible=True
        ),
        "fetched for, as a share group": Request(
            78,
            1,
            "ti*",
            member + num("iiiiii", 0, 0, 0, 1024, 1, 1) + NONE_OF * 2,
            flexible=True,
        ),
        "acknowledged for, as a share group": Request(
            79, 1, "ti*", member + num("i", 0) + NONE_OF, flexible=True
        ),
        "asked for its shares": Request(
            90, 0, "tiASb*", few(compact(group) + NONE * 2), flexible=True
        ),
        "moved to another share": Request(
            91,
            0,
            "ti*",
            compact(group) + few(compact(topic) + few(num("iq", NOWHERE, 0) + NONE) + NONE),
            flexible=True,
        ),
        "robbed of a share": Request(
            92, 0, "ti*", compact(group) + few(compact(topic) + NONE), flexible=True
        ),
        "joined as a streams group": Request(
            88,
            0,
            "ti*",
            member
            + num("ii", -1, 0)
            + NONE * 2
            + num("i", -1)
            + NO_STRUCT
            + NONE * 4
            + NO_STRUCT
            + NONE * 3
            + b"\x00",
            flexible=True,
        ),
        "described (as a streams group)": Request(
            89, 0, "tiA*", few(compact(group)) + b"\x00", flexible=True
        ),
        "joined as a share group": Request(
            76, 1, "ti*", member + num("i", -1) + NONE * 2, flexible=True
        ),
    }


def of_transaction(name: str, topic: str, group: str) -> dict[str, Request]:
    """All that may be done to a transactional id of a producer that there is not."""
    who = text(name) + num("qh", NO_PRODUCER, 0)
    commit = text(name) + text(group) + num("qh", NO_PRODUCER, 0)
    return {
        "asked for": find(name, 1),
        "fenced": Request(22, 1, "i*", text(f"{name}.{STRANGER}") + num("i", 10_000)),
        "ended": Request(26, 1, "i*", who + num("b", 0)),
        "given a topic": Request(24, 1, "iasai*", who + of_partition(topic, num("i", 0))),
        "given a group's offsets": Request(25, 1, "i*", who + text(group)),
        "made to move a group": Request(
            28, 1, "iasai*", commit + of_partition(topic, num("iq", 0, 0) + text(""))
        ),
        "described": Request(65, 0, "tiA*", few(compact(name)), flexible=True),
    }


IDEMPOTENT = Request(22, 1, "i*", text(None) + num("i", 10_000))
"""InitProducerId without a transactional id: what every producer asks first."""


def of_topic(topic: str) -> dict[str, Request]:
    """What only an operator may do to a topic."""
    settings = num("b", 2) + text(topic)
    change = text("retention.ms") + num("b", 0) + text("1")
    grown = text(topic) + num("i", 100) + NULL
    return {
        "asked for its settings": Request(32, 1, "ia*", many(settings + NULL) + num("b", 0)),
        "set otherwise": Request(44, 0, "ia*", many(settings + many(change)) + num("b", 1)),
        "set otherwise (as of old)": Request(
            33,
            1,
            "ia*",
            many(settings + many(text("retention.ms") + text("1"))) + num("b", 1),
        ),
        "given partitions": Request(37, 1, "ias*", many(grown) + num("ib", 5000, 1)),
        "fetched as a node copies it": fetch_as_node(topic),
        "emptied": Request(21, 1, "iasaiq*", of_partition(topic, num("iq", 0, 0)) + num("i", 5000)),
    }


def create_topic(topic: str) -> Request:
    """CreateTopics, validated only."""
    one = text(topic) + num("ih", 1, 1) + many() + many()
    return Request(19, 2, "ias*", many(one) + num("ib", 5000, 1))


def delete_topic(topic: str) -> Request:
    """DeleteTopics."""
    return Request(20, 1, "ias*", many(text(topic)) + num("i", 5000))


def delete_group(group: str) -> Request:
    """DeleteGroups."""
    return Request(42, 1, "ias*", many(text(group)))


def _acl(principal: str) -> bytes:
    return (
        num("b", 2)
        + text(STRANGER)
        + num("b", 3)
        + text(f"User:{principal}")
        + text("*")
        + num("bb", 3, 3)
    )


def _shares(api: int, partition: bytes) -> Request:
    """What nodes do to the state of a share group; here, of a topic that there is not."""
    of_topic = NOTHING_S_ID + few(partition + NONE) + NONE
    return Request(api, 0, "tAqqAi*", compact(STRANGER) + few(of_topic), flexible=True)


def of_cluster(topic: str, node: str) -> dict[str, Request]:
    """What only an operator, or a node, may do; kind of attack and what → request."""
    broker = num("b", 4) + text(node)
    level = text("log.cleaner.threads") + num("b", 0) + text("1")
    quota = many(text("user") + text(STRANGER))
    quota += many(text("producer_byte_rate") + num("db", 1.0, 0))
    anybody = num("b", 1) + text(None) + num("b", 1) + text(None) + text(None) + num("bb", 1, 1)
    metrics = num("b", 16) + text(STRANGER) + many(text("interval.ms") + num("b", 0) + text("1000"))
    logger = num("b", 8) + text(node) + many(text("kafka") + num("b", 0) + text("WARN"))
    text_of_bytes = num("i", len(STRANGER)) + STRANGER.encode()
    marker = num("qhb", NO_PRODUCER, 0, 0)
    marker += few(compact(topic) + few(num("i", NOWHERE)) + NONE) + num("i", 0) + NONE
    return {
        "access, told": Request(29, 1, "i*", anybody),
        "access, given": Request(30, 1, "ia*", many(_acl(STRANGER))),
        "access, taken": Request(31, 1, "ia*", many(_acl(STRANGER))),
        "settings of the node, told": Request(32, 1, "ia*", many(broker + NULL) + num("b", 0)),
        "settings of the node, changed": Request(
            44, 0, "ia*", many(broker + many(level)) + num("b", 1)
        ),
        "quotas, told": Request(48, 0, "i*", many() + num("b", 0)),
        "quotas, given": Request(49, 0, "ia*", many(quota) + num("b", 1)),
        "passwords, told": Request(50, 0, "ti*", NONE, flexible=True),
        "passwords, taken": Request(
            51, 0, "tiAS*", few(compact(STRANGER) + num("b", 1) + NONE) + few(), flexible=True
        ),
        "delegation token, made": Request(38, 1, "*", many() + num("q", 60_000)),
        "delegation token, renewed": Request(39, 1, "*", text_of_bytes + num("q", 60_000)),
        "delegation token, ended": Request(40, 1, "*", text_of_bytes + num("q", -1)),
        "delegation tokens, told": Request(41, 1, "*", NULL),
        "what has settings, told": Request(74, 1, "ti*", NONE_OF, flexible=True),
        "what clients measure, changed": Request(44, 0, "ia*", many(metrics) + num("b", 1)),
        "what the node logs, changed": Request(44, 0, "ia*", many(logger) + num("b", 1)),
        "shares of a group, read as a node does": _shares(84, num("ii", 0, 0)),
        "shares of a group, written as a node does": _shares(85, num("iiiq", 0, 0, 0, 0) + NONE_OF),
        "shares of a group, deleted as a node does": _shares(86, num("i", 0)),
        "log directories, told": Request(35, 3, "ti*", NONE, flexible=True),
        "log directories, changed": Request(
            34,
            1,
            "iasai*",
            many(text("/tmp") + of_partition(topic, num("i", 0))),  # noqa: S108
        ),
        "a leader, elected": Request(
            43, 1, "i*", num("b", 0) + of_partition(topic, num("i", 0)) + num("i", 5000)
        ),
        "copies, moved": Request(45, 0, "ti*", num("i", 5000) + few(), flexible=True),
        "copies, told": Request(46, 0, "ti*", num("i", 5000) + NONE, flexible=True),
        "the controller's quorum, told": Request(
            55,
            0,
            "t*",
            few(compact("__cluster_metadata") + few(num("i", 0) + NONE) + NONE),
            flexible=True,
        ),
        "a controller, removed": Request(
            81, 0, "ti*", NONE + num("i", NOWHERE) + bytes(16), flexible=True
        ),
        "a node, removed": Request(64, 0, "ti*", num("i", NOWHERE), flexible=True),
        "features, changed": Request(57, 0, "ti*", num("i", 5000) + few(), flexible=True),
        "a transaction of another, ended as a node does": Request(
            27, 1, "tAqASAi*", few(marker), flexible=True
        ),
    }
