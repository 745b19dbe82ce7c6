"""What pydantic found wrong with one part of a declaration, in the words of the declaration."""

import re
from collections.abc import Collection, Iterator

from pydantic import ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from watertight.model import codes
from watertight.model.declaration import (
    PARTS,
    ChannelShape,
    DeclarationFrame,
    GatewayShape,
    IssuerShape,
    ResourceShape,
    RouteShape,
    ServiceShape,
    Shape,
)
from watertight.model.described import descriptions
from watertight.model.document import DocumentPath, path_text, quoted
from watertight.model.flow import as_list
from watertight.model.kinds import KEY_ALSO_CALLED
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.rules import Flaw
from watertight.model.values import Malformed

MAX_REWRITTEN = 80
"""Characters of a value that a remedy repeats in its right form."""
MOST_KEYS = 20
"""Shown, of those that a part may have."""
_EXPECTED = {
    "too_short": "it needs at least {min_length}",
    "greater_than_equal": "at least {ge} is needed",
    "less_than_equal": "at most {le} is allowed",
}
_KINDS = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
}


_HOMES: tuple[tuple[type[Shape], str], ...] = (
    (DeclarationFrame, "the top of the file"),
    (ServiceShape, "a service"),
    (ResourceShape, "a resource"),
    (ChannelShape, "a channel"),
    (GatewayShape, "`gateway`"),
    (RouteShape, "a route of `gateway.routes`"),
    (IssuerShape, "an issuer of `gateway.issuers`"),
)
"""Where a key may be at home that stands in a wrong place."""


def keys_of(shape: type[Shape]) -> tuple[str, ...]:
    """The keys that a part may have, as they are written."""
    return tuple(field.alias or name for name, field in shape.model_fields.items())


def shape_flaws(
    shape: type[Shape],
    path: DocumentPath,
    error: ValidationError,
    *,
    told: Collection[str] = (),
    also: Collection[str] = (),
) -> Iterator[Flaw]:
    """Each thing wrong with the part at ``path`` that was read as ``shape``.

    ``told``: keys that have no value, which is a finding already; they are not missing as well.
    ``also``: keys that the part may have besides those of ``shape``.
    """
    for details in error.errors(include_url=False):
        inner = tuple(step for step in details["loc"] if step != "[key]")
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, Malformed):
            yield Flaw(
                cause.code,
                (*path, *inner, *cause.inside),
                cause.message,
                cause.remedy,
                on_key=cause.on_key or "[key]" in details["loc"],
            )
        elif details["type"] == "extra_forbidden":
            part = _part(shape, inner)
            more = also if len(inner) == 1 else ()
            yield unknown_key(part, (*path, *inner[:-1]), str(inner[-1]), more)
        elif details["type"] == "missing":
            if inner not in {(key,) for key in told}:
                yield _missing_key(_part(shape, inner), (*path, *inner[:-1]), str(inner[-1]))
        else:
            yield _wrong_value((*path, *inner), inner, details)


def _part(shape: type[Shape], inner: DocumentPath) -> type[Shape]:
    return PARTS.get(str(inner[-2]), shape) if len(inner) > 1 else shape


def unknown_key(
    shape: type[Shape], path: DocumentPath, key: str, also: Collection[str] = ()
) -> Flaw:
    """A key that the part at ``path`` does not have."""
    allowed = (*keys_of(shape), *(key for key in also if key not in keys_of(shape)))
    return Flaw(
        codes.UNKNOWN_KEY,
        (*path, key),
        f"There is no key {quoted(key)} here; allowed: {one_of(allowed, MOST_KEYS)}.",
        glued(key) or _other_word(key, allowed) or did_you_mean(key, allowed) or _home(shape, key),
        on_key=True,
    )


def glued(key: str) -> str:
    """What to write where YAML took more for the key than was meant."""
    word, colon, value = key.partition(":")
    if colon and value:
        return f"Write a space after the `:`, {quoted(f'{word}: {value}')}."
    if key.startswith("-") and len(key) > 1:
        return f"Write a space after the `-`, {quoted(f'- {key[1:]}')}."
    return ""


def _other_word(key: str, allowed: Collection[str]) -> str:
    meant = KEY_ALSO_CALLED.get(key.casefold())
    return f"Did you mean {quoted(meant)}?" if meant in allowed else ""


def _home(shape: type[Shape], key: str) -> str:
    homes = [where for other, where in _HOMES if other is not shape and key in keys_of(other)]
    return f"It is a key of {homes[0]}." if homes else ""


def no_value(path: DocumentPath) -> Flaw:
    """A key with nothing after it: ``allow:`` alone must not come to mean 'everything'."""
    return Flaw(
        codes.WRONG_TYPE,
        path,
        f"The key {quoted(str(path[-1]))} has no value.",
        "Give it one, or delete the key.",
        on_key=True,
    )


def _missing_key(shape: type[Shape], path: DocumentPath, key: str) -> Flaw:
    name, field = next((n, f) for n, f in shape.model_fields.items() if (f.alias or n) == key)
    place = f" in {quoted(path_text(path))}" if path else ""
    schemas = (m.json_schema or {} for m in field.metadata if isinstance(m, WithJsonSchema))
    example = next((s["examples"][0] for s in schemas if s.get("examples")), None)
    return Flaw(
        codes.MISSING_KEY,
        path,
        f"The key {quoted(key)} is missing{place}.",
        f"It says: {' '.join(descriptions(shape).get(name, '').split())}"
        + (f" For example {quoted(f'{key}: {example}')}." if example else ""),
        on_key=True,
    )


def _wrong_value(path: DocumentPath, inner: DocumentPath, details: ErrorDetails) -> Flaw:
    what = quoted(path_text(inner or path)) if path else "This"
    expected = _EXPECTED.get(details["type"])
    if expected is not None:
        needed = expected.format(**details.get("ctx", {}))
        found = quoted(details["input"])
        return Flaw(codes.OUT_OF_RANGE, path, f"{what} is {found}: {needed}.")
    kind, found = _KINDS.get(details["type"]), details["input"]
    wanted = f"should be {kind}" if kind else f"is refused ({details['msg']})"
    remedy = _in_its_form(kind, found, key=str(inner[-1]) if inner else "")
    return Flaw(codes.WRONG_TYPE, path, f"{what} {wanted}; it is {quoted(found)}.", remedy)


_RATE = re.compile(r"[0-9]+/[a-z]+")


def _in_its_form(kind: str | None, found: object, *, key: str) -> str:
    """What to write in place of a value that has the form of something else."""
    match kind, found:
        case "a list", str() if len(found) <= MAX_REWRITTEN and found.isprintable():
            words = found.split() if key == "run" else [found]
            return f"Write {quoted(as_list(words), MAX_REWRITTEN * 2)}."
        case "a list", dict():
            return "Begin each part of it with `- `."
        case "a mapping", list():
            return "Write `name: …` in place of `- …`."
        case "a mapping", str() if key == "limit" and _RATE.fullmatch(found):
            return f"Write {quoted(f'{{per: address, rate: {found}}}')}."
        case "a mapping", str():
            return "Is a space missing after a `:`, or the lines below not indented?"
        case "a whole number", str() if found.isdigit():
            return "Write it without quotes."
        case "text", bool() | int():
            return "Put it in quotes."
        case _:
            return ""
