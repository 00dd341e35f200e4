from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from inventory import json_schema
from inventory.reading.source import Tagged
from inventory.reading.yaml_source import read
from inventory.types import Declared
from tests.inventory.conftest import VALID

INVENTORIES = Path(json_schema.FILE).parent


def test_schema_file_is_up_to_date() -> None:
    assert json_schema.FILE.read_text(encoding="utf-8") == json_schema.schema_text(), (
        "run `python -m inventory.json_schema`"
    )


@pytest.mark.parametrize("name", ["example-prod.yml", "sandbox.yml"])
def test_shipped_inventories_are_valid_against_the_schema(name: str) -> None:
    validator().validate(untagged(read(INVENTORIES / name).data))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("project: team", "projekt: team"),
        ("nginx]", "ngnix]"),
        ("    engine: llama-cpp\n", ""),
        ("    address: 192.0.2.11\n", ""),
        ("memory_max: 1G", "memory_max: 1"),
        ("team", "team"),
    ],
)
def test_mistakes_are_invalid_against_the_schema(laptop: Path, old: str, new: str) -> None:
    (laptop / "prod.yml").write_text(VALID.replace(old, new))
    valid = validator().is_valid(untagged(read(laptop / "prod.yml").data))
    assert valid is (old == new)


def test_descriptions_of_secrets_say_how_to_give_them() -> None:
    definitions = json_schema.json_schema()["$defs"]
    for model, field in (("Telegram", "token"), ("Telegram", "secret_token"), ("RemoteModel", "api_key")):
        assert json_schema.HOW_TO_GIVE in definitions[model]["properties"][field]["description"]
    assert json_schema.HOW_TO_GIVE not in definitions["Host"]["properties"]["address"]["description"]


def test_every_field_has_a_description() -> None:
    models = Declared.__subclasses__()
    assert len(models) > 10
    assert [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ] == []


def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(json_schema.json_schema())
    return Draft202012Validator(json_schema.json_schema())


def untagged(data: Any) -> Any:
    """The data as an editor sees it: a tagged value is its text."""
    if isinstance(data, dict):
        return {key: untagged(value) for key, value in data.items()}
    if isinstance(data, list):
        return [untagged(item) for item in data]
    return data.text if isinstance(data, Tagged) else deepcopy(data)
