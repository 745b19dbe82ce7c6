"""The JSON Schema (2020-12) of a declaration, for editors.

It is generated from the same shapes that the loader reads with; what it cannot express (does the
target exist?) only the loader says.
"""

from collections.abc import Iterator
from typing import Any

from watertight.model.declaration import DeclarationShape, Shape
from watertight.model.described import descriptions

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema, with a description for every key."""
    generated = DeclarationShape.model_json_schema(by_alias=True)
    definitions = generated.get("$defs", {})
    for shape in _shapes(Shape):
        whole = generated if shape is DeclarationShape else definitions.get(shape.__name__, {})
        _describe(shape, whole.get("properties", {}))
    return {"$schema": DIALECT, **_tidy(generated), "title": "watertight.yaml"}


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
