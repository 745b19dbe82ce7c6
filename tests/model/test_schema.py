"""The JSON Schema says what the loader says, where a schema can say it."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from tests.model.systems import systems
from tests.model.test_findings import CODES, WITHOUT_EXAMPLE, blocks, page_of
from tests.model.test_load import FULL
from watertight.model import codes
from watertight.model.dump import dump
from watertight.model.load import load_text
from watertight.model.schema import DIALECT, json_schema
from watertight.model.starter import STARTER
from watertight.model.system import System

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/watertight.yaml"))
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


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
            if "description" not in value and value.get("type") != "integer"
        ]
        return own + [name for value in schema.values() for name in undescribed(value)]

    assert undescribed(SCHEMA) == []
