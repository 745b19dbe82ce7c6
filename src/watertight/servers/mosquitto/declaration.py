"""What a declaration says of a Mosquitto broker: its bounds, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.declaration import SIZE, TEXT, Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.model.values import Malformed, parse_size

KIND = "mosquitto"
MESSAGE_BYTES, QUEUE_BYTES = 1 << 20, 16 << 20
MAX_MESSAGE_BYTES = 256 << 20
"""The longest that MQTT can say of a packet is one byte less (MQTT 5, section 1.5.5)."""
MAX_FILTER_BYTES, MAX_LEVELS = 1024, 100
"""Mosquitto refuses more than 200 levels."""
OWN = "$watertight/"
"""Below it each service has a topic of its own, which nobody else writes or reads: the proof asks
there who somebody is, and no program notices. No ``#`` covers it (MQTT 5, section 4.7.2)."""
ANY_LEVEL, ANY_LEVELS = "+", "#"
_LEVEL = re.compile(r"[A-Za-z0-9_.:@~-]+|\+")


def _filter(value: Any) -> str:
    """A topic filter: levels between slashes; `+` is one level, a last `#` any number of them."""
    levels = value.split("/") if isinstance(value, str) else []
    head = levels[:-1] if levels[-1:] == [ANY_LEVELS] else levels
    if not levels or not all(_LEVEL.fullmatch(level) for level in head):
        raise Malformed(
            codes.RESOURCE_GRANT,
            f"{quoted(value)} is not a topic, nor a pattern of topics.",
            "For example `orders/placed`, `orders/+/eu` or `orders/#`; "
            "letters, digits and `_ . : @ ~ -` between slashes.",
        )
    if len(value) > MAX_FILTER_BYTES or len(levels) > MAX_LEVELS:
        raise Malformed(
            codes.RESOURCE_GRANT,
            f"{quoted(value)} is longer than a broker can be held to.",
            f"At most {MAX_FILTER_BYTES} bytes in {MAX_LEVELS} levels.",
        )
    return str(value)


def _message_bytes(value: Any) -> int:
    size = parse_size(value)
    if size >= MAX_MESSAGE_BYTES:
        raise Malformed(
            codes.BAD_SIZE, f"{quoted(value)} is more than MQTT can say.", "Less than `256MiB`."
        )
    return size


MessageSize = Annotated[int, PlainValidator(_message_bytes), WithJsonSchema(SIZE)]
Filter = Annotated[str, PlainValidator(_filter), WithJsonSchema(TEXT)]


class BrokerKeys(Shape):
    """A Mosquitto broker."""

    retained: bool = False
    """Whether the broker keeps messages that say so, for those who subscribe later. Mosquitto
    bounds neither how many, nor who: any service that may write fills the broker's memory."""
    max_message_size: MessageSize = MESSAGE_BYTES
    """The largest message, with its topic and properties; 1MiB unless stated."""
    max_queue_size: Annotated[int, PlainValidator(parse_size), WithJsonSchema(SIZE)] = QUEUE_BYTES
    """What is kept for each service that is away or slow; what comes beyond it is dropped.
    16MiB unless stated, and 10,000 messages."""


class ChannelKeys(Shape):
    """What a service may do at a broker."""

    write: list[Filter] = Field(default=[])
    """The topics that it may publish to; `+` is one level, a last `#` any number of them."""
    read: list[Filter] = Field(default=[])
    """The topics that it may subscribe to: as they stand here, or a part of them."""


def broker(resource: Resource) -> BrokerKeys:
    """What a resource that passed :func:`check` says. Raises ValueError on what it refuses."""
    wanted, flaws = keys(BrokerKeys, (), resource.options)
    if wanted is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return wanted


def grants(channel: Channel) -> ChannelKeys:
    """What a channel that passed :func:`check` says. Raises ValueError on what it refuses."""
    wanted, flaws = keys(ChannelKeys, (), channel.options)
    if wanted is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return wanted


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the resource's own keys, and with the channels to it."""
    yield from keys(BrokerKeys, ("resources", resource.name), resource.options)[1]
    for where, channel in channels_to(system, resource.name):
        granted, flaws = keys(ChannelKeys, where, channel.options)
        yield from flaws
        if granted is None:
            continue
        if not (granted.write or granted.read):
            yield Flaw(
                codes.GRANTS_NOTHING,
                where,
                f"The channel `{channel.name}` grants nothing: {quoted(channel.source)} may log "
                "in, and that is all.",
                "Give it `write` or `read`.",
                Severity.WARNING,
            )
        yield from _twice((*where, "write"), granted.write)
        yield from _twice((*where, "read"), granted.read)


def _twice(path: DocumentPath, listed: Sequence[str]) -> Iterator[Flaw]:
    for number, name in enumerate(listed):
        if name in listed[:number]:
            yield Flaw(
                codes.DUPLICATE_GRANT,
                (*path, number),
                f"{quoted(name)} stands here already.",
                "Delete one of them.",
            )


def covers(pattern: str, asked: str) -> bool:
    """Whether a pattern holds every topic that another does, or a plain one (MQTT 5, section 4.7).

    ``orders/#`` holds ``orders`` too; a ``$`` at the beginning is covered by no wildcard.
    """
    if asked.startswith("$") and pattern[:1] in (ANY_LEVEL, ANY_LEVELS):
        return False
    wide, narrow = pattern.split("/"), asked.split("/")
    if wide[-1] == ANY_LEVELS:
        wide.pop()
        narrow = narrow[: len(wide)] if len(narrow) > len(wide) else narrow
    return len(wide) == len(narrow) and all(
        w == n or (w == ANY_LEVEL and n != ANY_LEVELS) for w, n in zip(wide, narrow, strict=True)
    )


USES = ("write TOPIC", "read TOPIC")
"""How one use is asked for."""


def grant_for(channel: Channel, action: str, thing: str) -> str | None:
    """The grant that lets the service do it; None: no grant does.

    Raises ``ValueError`` for an action that there is not.
    """
    wanted, verb = grants(channel), action.lower()
    if verb not in {"write", "read"}:
        raise ValueError(action)
    listed = wanted.write if verb == "write" else wanted.read
    return next((f"{verb} {pattern}" for pattern in listed if covers(pattern, thing)), None)
