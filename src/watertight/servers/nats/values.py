"""How the values of a NATS server's keys are written: sizes, ages, names, subjects."""

import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from watertight.model import codes
from watertight.model.declaration import COUNT, TEXT
from watertight.model.document import quoted
from watertight.model.values import Malformed
from watertight.servers.nats.subjects import parse_subject

MAX_STREAM_NAME = 255
"""Characters; a stream is a directory, too (JSMaxNameLen in nats-server)."""
MAX_PAYLOAD_BYTES = 64 << 20
"""MAX_PAYLOAD_MAX_SIZE in nats-server."""
GIB = 1 << 30
_STREAM = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_STREAM_NAME}}}")
_SIZE = re.compile(r"([0-9]{1,9})(B|KiB|MiB|GiB|TiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": GIB, "TiB": 1 << 40}
_AGE = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_size(value: Any) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = int(match[1]) * _BYTES[match[2]] if match else 0
    if not size:
        raise Malformed(
            codes.BAD_SIZE,
            f"{quoted(value)} is not a size.",
            "Write a whole number above 0 and `B`, `KiB`, `MiB`, `GiB` or `TiB`: `10GiB`.",
        )
    return size


def parse_payload(value: Any) -> int:
    size = parse_size(value)
    if size > MAX_PAYLOAD_BYTES:
        raise Malformed(
            codes.OUT_OF_RANGE, f"`max_payload` is {quoted(value)}: at most 64MiB is allowed."
        )
    return size


def whole_number(most: int) -> Any:
    """A whole number from 1."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise Malformed(
                codes.OUT_OF_RANGE, f"{quoted(value)} is not a whole number from 1 to {most}."
            )
        return value

    return PlainValidator(parse), WithJsonSchema({**COUNT, "maximum": most})


def parse_age(value: Any) -> int:
    match = _AGE.fullmatch(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not seconds:
        raise Malformed(
            codes.BAD_DURATION,
            f"{quoted(value)} is not an age.",
            "Write a whole number above 0 and `s`, `m`, `h` or `d`: `7d`.",
        )
    return seconds


def parse_minimum_tls(value: Any) -> str:
    """Also as YAML's number, which it is without quotes."""
    if str(value) not in ("1.2", "1.3"):
        raise Malformed(
            codes.BAD_CHOICE, f"`minimum_tls` is {quoted(value)}; allowed: `1.2`, `1.3`."
        )
    return str(value)


def parse_stream_name(value: Any) -> str:
    if not isinstance(value, str) or not _STREAM.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a stream's name.",
            f"Use up to {MAX_STREAM_NAME} letters, digits, `_` and `-`: `ORDERS`.",
            on_key=True,
        )
    return value


def parse_bucket_name(value: Any) -> str:
    longest = MAX_STREAM_NAME - len("OBJ_")
    if not isinstance(value, str) or len(value) > longest or not _STREAM.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a bucket's name.",
            f"Use up to {longest} letters, digits, `_` and `-`: `settings`.",
            on_key=True,
        )
    return value


Subject = Annotated[str, PlainValidator(parse_subject), WithJsonSchema(TEXT)]
