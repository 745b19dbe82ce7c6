"""What pydantic found wrong with one part of a declaration, in the words of the declaration."""

from collections.abc import Collection, Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from watertight.model import codes
from watertight.model.declaration import PARTS, Shape
from watertight.model.document import DocumentPath, path_text, quoted
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.rules import Flaw
from watertight.model.values import Malformed

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


def keys_of(shape: type[Shape]) -> tuple[str, ...]:
    """The keys that a part may have, as they are written."""
    return tuple(field.alias or name for name, field in shape.model_fields.items())


def shape_flaws(
    shape: type[Shape], path: DocumentPath, error: ValidationError, *, told: Collection[str] = ()
) -> Iterator[Flaw]:
    """Each thing wrong with the part at ``path`` that was read as ``shape``.

    ``told``: keys that have no value, which is a finding already; they are not missing as well.
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
            yield unknown_key(_part(shape, inner), (*path, *inner[:-1]), str(inner[-1]))
        elif details["type"] == "missing":
            if inner not in {(key,) for key in told}:
                yield _missing_key(_part(shape, inner), (*path, *inner[:-1]), str(inner[-1]))
        else:
            yield _wrong_value((*path, *inner), inner, details)


def _part(shape: type[Shape], inner: DocumentPath) -> type[Shape]:
    return PARTS.get(str(inner[-2]), shape) if len(inner) > 1 else shape


def unknown_key(shape: type[Shape], path: DocumentPath, key: str) -> Flaw:
    """A key that the part at ``path`` does not have."""
    allowed = keys_of(shape)
    return Flaw(
        codes.UNKNOWN_KEY,
        (*path, key),
        f"There is no key {quoted(key)} here; allowed: {one_of(allowed)}.",
        did_you_mean(key, allowed),
        on_key=True,
    )


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
    meaning = next(
        field.description
        for name, field in shape.model_fields.items()
        if (field.alias or name) == key
    )
    place = f" in {quoted(path_text(path))}" if path else ""
    return Flaw(
        codes.MISSING_KEY,
        path,
        f"The key {quoted(key)} is missing{place}.",
        f"It says: {meaning}",
        on_key=True,
    )


def _wrong_value(path: DocumentPath, inner: DocumentPath, details: ErrorDetails) -> Flaw:
    what = quoted(path_text(inner or path)) if path else "This"
    expected = _EXPECTED.get(details["type"])
    if expected is not None:
        needed = expected.format(**details.get("ctx", {}))
        found = quoted(details["input"])
        return Flaw(codes.OUT_OF_RANGE, path, f"{what} is {found}: {needed}.")
    kind = _KINDS.get(details["type"])
    wanted = f"should be {kind}" if kind else f"is refused ({details['msg']})"
    return Flaw(codes.WRONG_TYPE, path, f"{what} {wanted}; it is {quoted(details['input'])}.")
