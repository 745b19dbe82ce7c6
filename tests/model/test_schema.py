"""The JSON Schema says what the loader says, where a schema can say it."""

import runpy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from tests.model.systems import systems
from tests.model.test_findings import CODES, WITHOUT_EXAMPLE, blocks, page_of
from tests.model.test_load import FULL
from watertight.enforcers.registry import resource_flaws, shapes
from watertight.model import codes
from watertight.model.declaration import ChannelShape
from watertight.model.dump import dump
from watertight.model.findings import DeclarationError
from watertight.model.load import load_text
from watertight.model.schema import DIALECT, json_schema
from watertight.model.starter import STARTER
from watertight.model.system import System

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/watertight.yaml"))
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
WHOLE = json_schema(shapes())
"""With the keys of every kind that is installed, as the command prints it."""
WITH_KINDS = jsonschema.Draft202012Validator(WHOLE)
ROOT = Path(__file__).parents[2]
SHOPS = {
    path.parent.name: str(runpy.run_path(str(path))["SHOP"]).replace("{port}", "7000")
    for path in sorted((ROOT / "tests" / "servers").glob("*/shop.py"))
}
"""Kind of server → a declaration that uses it."""
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def test_it_is_a_schema_of_2020_12() -> None:
    assert SCHEMA["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_validates_and_loads(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    VALIDATOR.validate(yaml.safe_load(text))
    assert load_text(text).services


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("text", [STARTER, FULL])
def test_every_feature_validates(text: str) -> None:
    # Plain YAML reads `no` as a boolean, and we do not; the schema takes both for a variable.
    VALIDATOR.validate(yaml.safe_load(text))


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(system=systems())
def test_every_system_that_loads_validates(system: System) -> None:
    VALIDATOR.validate(yaml.safe_load(dump(system)))


@pytest.mark.parametrize("code", sorted(c for c in CODES - WITHOUT_EXAMPLE if c > "WT-E11"))
def test_every_mended_example_validates(code: str) -> None:
    [_, mended] = blocks(page_of(code), "yaml")
    VALIDATOR.validate(yaml.safe_load(mended))


IN_THE_SCHEMA = {
    codes.UNKNOWN_KEY,
    codes.MISSING_KEY,
    codes.WRONG_TYPE,
    codes.BAD_NAME,
    codes.BAD_TRUST_DOMAIN,
    codes.BAD_DURATION,
    codes.BAD_RATE,
    codes.BAD_LISTENS,
    codes.BAD_PORT,
    codes.OUT_OF_RANGE,
    codes.BAD_REQUIRE,
    codes.BAD_VARIABLE,
    codes.BAD_TEXT,
    codes.BAD_CHOICE,
    codes.WILDCARD_NAME,
}


@pytest.mark.parametrize("code", sorted(IN_THE_SCHEMA - {codes.UNKNOWN_KEY}))
def test_an_editor_shows_these_mistakes(code: str) -> None:
    wrong = blocks(page_of(code), "yaml")[0]
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(yaml.safe_load(wrong))


def test_an_editor_shows_unknown_keys() -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"trust_domain": "a", "servces": {}})


@pytest.mark.parametrize("key", ["allow", "timeout", "retries"])
def test_an_editor_shows_keys_without_a_value(key: str) -> None:
    channel = {"from": "a", "to": "b"}
    VALIDATOR.validate({"trust_domain": "a", "channels": [channel]})
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"trust_domain": "a", "channels": [{**channel, key: None}]})


def test_every_key_has_a_description() -> None:
    def undescribed(schema: Any) -> list[str]:
        if isinstance(schema, list):
            return [name for item in schema for name in undescribed(item)]
        if not isinstance(schema, dict):
            return []
        own = [
            name
            for name, value in schema.get("properties", {}).items()
            if isinstance(value, dict)  # True: another definition says it
            and "description" not in value
            and value.get("type") != "integer"
        ]
        inside = (value for key, value in schema.items() if key != "if")
        return own + [name for value in inside for name in undescribed(value)]

    assert undescribed(SCHEMA) == []
    assert undescribed(WHOLE) == []


def test_each_kind_is_a_schema_of_its_own() -> None:
    jsonschema.Draft202012Validator.check_schema(WHOLE)
    assert set(SHOPS) == set(shapes())
    for kind in shapes():
        assert {f"{kind}.resource", f"{kind}.channel"} <= WHOLE["$defs"].keys()


@pytest.mark.parametrize("kind", SHOPS)
def test_a_declaration_of_each_kind_validates_and_one_with_a_wrong_key_does_not(kind: str) -> None:
    right = yaml.safe_load(SHOPS[kind])
    WITH_KINDS.validate(right)
    for place in (*right["resources"].values(), *right["channels"]):
        place["nonsense"] = 1
        assert not WITH_KINDS.is_valid(right)
        VALIDATOR.validate(right)
        del place["nonsense"]
    for key, value in _own_keys(right):
        right["channels"].append({"from": "a", "to": "b", key: value})
        WITH_KINDS.validate(right)
        right["channels"][-1][key] = object
        assert not WITH_KINDS.is_valid(right)
        right["channels"].pop()


def _own_keys(declaration: dict[str, Any]) -> list[tuple[str, Any]]:
    common = ChannelShape.model_json_schema(by_alias=True)["properties"]
    return [(k, v) for c in declaration["channels"] for k, v in c.items() if k not in common]


def test_no_channel_has_keys_of_two_kinds() -> None:
    mixed = {"from": "a", "to": "b", "tables": {"t": ["select"]}, "publish": ["t"]}
    assert not WITH_KINDS.is_valid({"trust_domain": "a", "channels": [mixed]})


def test_every_declaration_of_the_documentation_that_is_right_validates() -> None:
    tried: set[str] = set()
    for path in PAGES:
        for text in blocks(path.read_text(encoding="utf-8"), "yaml"):
            try:
                system = load_text(text)
            except DeclarationError:
                continue
            kinds = {resource.kind for resource in system.resources.values()}
            if kinds <= shapes().keys() and not list(resource_flaws(system)):
                WITH_KINDS.validate(yaml.safe_load(text))
                tried |= kinds
    assert {"nats", "postgresql", "rabbitmq"} <= tried
