"""The JSON Schema (2020-12) of a declaration, for editors.

It is generated from the same shapes that the loader reads with; what it cannot express (does the
target exist?) only the loader says.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from watertight.model.declaration import ChannelShape, DeclarationShape, ResourceShape, Shape
from watertight.model.described import descriptions
from watertight.model.translate import keys_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


KindShapes: TypeAlias = Mapping[str, Mapping[str, type[Shape]]]
"""Kind of resource → ``resource``, ``channel``, and what stands inside them."""


def json_schema(kinds: KindShapes = MappingProxyType({})) -> dict[str, Any]:
    """The schema, with a description for every key.

    ``kinds``: those whose own keys it knows. Without any, it lets every key of theirs be; with
    them, a resource may have its kind's, and a channel those of one kind.
    """
    generated = DeclarationShape.model_json_schema(by_alias=True)
    definitions = generated.get("$defs", {})
    for shape in _shapes(Shape):
        whole = generated if shape is DeclarationShape else definitions.get(shape.__name__, {})
        _describe(shape, whole.get("properties", {}))
    for kind, shapes in sorted(kinds.items()):
        for part, shape in sorted(shapes.items(), key=lambda found: found[0] not in _COMMON):
            if f"{kind}.{shape.__name__}" not in definitions:  # as what stands inside another
                definitions |= _own(f"{kind}.{part}", shape, _COMMON.get(part))
    if kinds:
        _compose(definitions, sorted(kinds))
    return {"$schema": DIALECT, **_tidy(generated), "title": "watertight.yaml"}


_COMMON: Mapping[str, type[Shape]] = MappingProxyType(
    {"resource": ResourceShape, "channel": ChannelShape}
)


def _own(name: str, shape: type[Shape], common: type[Shape] | None) -> dict[str, Any]:
    """The definition of one kind's keys, and of what it refers to; strict, as the loader is."""
    kind = name.partition(".")[0]
    whole = shape.model_json_schema(by_alias=True, ref_template=f"#/$defs/{kind}.{{model}}")
    inner = {f"{kind}.{model}": found for model, found in whole.pop("$defs", {}).items()}
    _describe(shape, whole.get("properties", {}))
    for other in _shapes(Shape):
        if other.__module__ == shape.__module__ and f"{kind}.{other.__name__}" in inner:
            _describe(other, inner[f"{kind}.{other.__name__}"].get("properties", {}))
    for found in (whole, *inner.values()):
        for value in found.get("properties", {}).values():
            value.pop("default", None)  # as it is kept, not as it is written; its text says it
    if common is not None:
        whole["properties"] = {**whole.get("properties", {}), **_any_of(common)}
    return {**inner, name: whole}


def _compose(definitions: dict[str, Any], kinds: Sequence[str]) -> None:
    """Which of them hold where: a resource says its kind, a channel does not say where it leads."""
    definitions["ResourceShape"]["allOf"] = [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"$ref": f"#/$defs/{kind}.resource"},
        }
        for kind in kinds
    ]
    plain = {"properties": _any_of(ChannelShape), "additionalProperties": False}
    definitions["ChannelShape"]["anyOf"] = [
        plain,
        *({"$ref": f"#/$defs/{kind}.channel"} for kind in kinds),
    ]


def _any_of(common: type[Shape]) -> dict[str, Any]:
    """Keys that another definition says all of."""
    return dict.fromkeys(keys_of(common), True)


def _shapes(above: type[Shape]) -> Iterator[type[Shape]]:
    for shape in above.__subclasses__():
        yield shape
        yield from _shapes(shape)


def _describe(shape: type[Shape], properties: dict[str, Any]) -> None:
    for name, text in descriptions(shape).items():
        key = shape.model_fields[name].alias or name
        if key in properties:
            properties[key]["description"] = text


def _tidy(schema: Any) -> Any:
    """Without ``null`` (a key without a value is refused), and without generated titles."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        schema = {**schema, "properties": {k: _tidy(v) for k, v in schema["properties"].items()}}
        schema.pop("title", None)
        return {k: v if k == "properties" else _tidy(v) for k, v in schema.items()}
    tidy = {
        key: _tidy(value)
        for key, value in schema.items()
        if key != "title" and not (key == "default" and value is None)
    }
    choices = [choice for choice in tidy.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        del tidy["anyOf"]
        return {**choices[0], **tidy}
    return tidy
