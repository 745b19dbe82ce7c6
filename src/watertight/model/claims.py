"""Claims that a route demands of a token: declared nested, as they stand in the token.

``{realm_access: {roles: admin}, "https://example.com/team": [red, blue]}`` → four words deep or
one, a name is never taken apart at its dots or slashes.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.system import Claim, Requirement
from watertight.model.values import Malformed

MAX_DEPTH = 8
LARGEST_INTEGER = 1 << 53
"""JSON's numbers are IEEE 754 doubles (RFC 8259 section 6)."""
_SCALAR = {"type": ["string", "integer", "boolean"]}
_VALUE: dict[str, Any] = {
    "anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1}, {"type": "object"}]
}
CLAIMS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": _VALUE,
    "examples": [{"realm_access": {"roles": "admin"}}],
}


def parse_claims(value: Any) -> tuple[Claim, ...]:
    """A mapping of claims → each claim by itself. Raises :class:`values.Malformed`."""
    return tuple(_claims(value, ()))


def _claims(value: Any, path: tuple[str, ...]) -> Iterator[Claim]:
    if not isinstance(value, Mapping):
        yield from _values(value, path)
        return
    if not value or len(path) == MAX_DEPTH:
        what = "No claim is named here." if not value else f"More than {MAX_DEPTH} deep."
        raise _malformed(what, path)
    for name, inner in value.items():
        if not name:
            raise _malformed("A claim has a name.", path)
        if path == () and name in {"scope", "scp"}:
            raise _malformed("Scopes are demanded with `scopes`.", (name,))
        yield from _claims(inner, (*path, name))


def _values(value: Any, path: tuple[str, ...]) -> Iterator[Claim]:
    if not path:
        raise _malformed(f"Claims are a mapping, not {quoted(value)}.", ())
    wanted = value if isinstance(value, list) else [value]
    if not wanted:
        raise _malformed("The list is empty: it demands nothing.", path)
    for one in wanted:
        if not isinstance(one, str | int | bool):
            raise _malformed(f"{quoted(one)} cannot be compared with a claim.", path)
        if isinstance(one, int) and abs(one) > LARGEST_INTEGER:
            raise _malformed(f"{quoted(one)} is too large for JSON to hold exactly.", path)
        yield Claim(path, one)


def _malformed(what: str, inside: DocumentPath) -> Malformed:
    return Malformed(
        codes.BAD_CLAIM,
        what,
        "Write names as they stand in the token, and text, a number, `true` or `false`: "
        "`{realm_access: {roles: admin}}`.",
        inside=inside,
    )


def nested(claims: tuple[Claim, ...]) -> dict[str, Any]:
    """The mapping that :func:`parse_claims` reads these claims from."""
    mapping: dict[str, Any] = {}
    for claim in claims:
        *outer, last = claim.path
        place = mapping
        for name in outer:
            place = place.setdefault(name, {})
        place.setdefault(last, []).append(claim.value)
    return {name: _without_lists_of_one(value) for name, value in mapping.items()}


def _without_lists_of_one(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_lists_of_one(inner) for name, inner in value.items()}
    return value[0] if len(value) == 1 else value


def claim_texts(require: Requirement) -> Iterator[str]:
    """Every claim that is demanded, as reports show it: ``realm_access → roles: "admin"``."""
    yield from map(_text, require.claims)
    if require.any_claims:
        yield " or ".join(" and ".join(map(_text, group)) for group in require.any_claims)


def _text(claim: Claim) -> str:
    return f"{' → '.join(claim.path)}: {json.dumps(claim.value, ensure_ascii=False)}"
