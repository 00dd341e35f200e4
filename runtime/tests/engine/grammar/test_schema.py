"""Grammars of JSON schemas: every text within them conforms, and what cannot be guaranteed is refused."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest

from clawd_runtime.engine.grammar.gbnf import JSON_OBJECT
from clawd_runtime.engine.grammar.integers import integers_between
from clawd_runtime.engine.grammar.schema import schema_grammar
from clawd_runtime.errors import RequestError

PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "full name"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "nick": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value"],
        }
    },
    "$ref": "#/$defs/node",
}
# Schema, texts that conform and are in its grammar, texts that are not.
SCHEMAS: dict[str, tuple[Any, list[str], list[str]]] = {
    "person": (
        PERSON,
        [
            '{"name": "Bo", "age": 7}',
            '{"name":"B","age":0,"nick":null}',
            '{\n  "name": "\\u00e9é漢",\n  "age": 150\n}',
        ],
        [
            '{"age": 7, "name": "Bo"}',
            '{"name": "Bo"}',
            '{"name": "Bo", "age": 151}',
            '{"name": "Bo", "age": 07}',
            "{}",
        ],
    ),
    "optional": (
        {"type": "object", "properties": {name: {"type": "boolean"} for name in "abc"}, "required": ["b"]},
        ['{"b": true}', '{"a": true, "b": true}', '{"b": false, "c": true}', '{"a":true,"b":true,"c":false}'],
        [
            "{}",
            '{"a": true}',
            '{,"b": true}',
            '{"b": true,}',
            '{"c": true, "b": true}',
            '{"b": true "c": true}',
        ],
    ),
    "all optional": (
        {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}},
        ["{}", '{"a": null}', '{"b": null}', '{"a": null, "b": null}'],
        ['{"b": null, "a": null}', '{"c": null}'],
    ),
    "tree": (
        TREE,
        ['{"value": 1, "children": [{"value": -2}]}'],
        ['{"children": []}', '{"value": 1, "children": [1]}'],
    ),
    "recursive": (
        {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
            "required": ["next"],
        },
        ['{"next": {"next": null}}'],
        ['{"next": 1}', "{}"],
    ),
    "enum": (
        {"enum": ["a", 'say "x"', 1, 2.5, None, True, ["x"], {"k": 1}]},
        ['"a"', '"say \\"x\\""', "null", '["x"]'],
        ["3", "a"],
    ),
    "enum of a type": ({"type": "string", "enum": ["a", 1]}, ['"a"'], ["1"]),
    "const": ({"const": "漢\n"}, ['"漢\\n"'], ['"漢"']),
    "types": ({"type": ["string", "null"]}, ['"x"', "null"], ["1"]),
    "array": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        ["[1]", "[1, 2,3]"],
        ["[]", "[1,2,3,4]"],
    ),
    "array of one": ({"type": "array", "items": {"const": 1}, "maxItems": 1}, ["[]", "[1]"], ["[1,1]"]),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        ['[1, "x"]'],
        ['["x", 1]', "[1]"],
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        ["{}", '{"x": 1, "y": 2}'],
        ['{"x": "y"}'],
    ),
    "closed": ({"type": "object", "additionalProperties": False}, ["{}"], ['{"x": 1}']),
    "length": ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"漢\\n字"'], ['"a"', '"abcd"']),
    "pattern": (
        {"type": "string", "pattern": r"^[A-Z]{2}-\d+(\.x|y)?$"},
        ['"AB-12"', '"AB-1.x"', '"AB-1y"'],
        ['"AB-"', '"ABC-1"', '"AB-1.xy"'],
    ),
    "part": ({"type": "string", "pattern": "b|cd"}, ['"abc"', '"b"', '"xcdx"'], ['"c"', '"ad"']),
    "quotes": (
        {"type": "string", "pattern": r'^["\\]a[^"]$'},
        [r'"\"ab"', r'"\\ab"', r'"\\a\\"'],
        ['""ab"', r'"\"a\""'],
    ),
    "date": (
        {"type": "string", "format": "date-time"},
        ['"2026-11-30T08:05:00Z"'],
        ['"2026-13-01T00:00:00Z"', '"today"'],
    ),
    "uuid": ({"type": "string", "format": "uuid"}, ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123"']),
    "number": ({"type": "number"}, ["1", "-1.5", "2e10", "0.25"], ["01", ".5", "1.", "NaN", "--1"]),
    "integer": (
        {"type": "integer", "exclusiveMinimum": -2, "maximum": 11},
        ["-1", "0", "9", "10", "11"],
        ["-2", "12", "1.0"],
    ),
    "any": ({}, ['{"x": [1, null]}', "1", '"x"'], ["x"]),
    "escaped reference": ({"$defs": {"a/b~c": {"const": 1}}, "$ref": "#/$defs/a~1b~0c"}, ["1"], ["2"]),
    "same name twice": (
        {
            "$defs": {"x": {"string": {"const": 1}}, "y": {"string": {"const": 2}}},
            "type": "array",
            "prefixItems": [{"$ref": "#/$defs/x/string"}, {"$ref": "#/$defs/y/string"}, {"type": "string"}],
        },
        ['[1, 2, "z"]'],
        ["[1, 1, 1]"],
    ),
}


@pytest.mark.model
@pytest.mark.parametrize("name", SCHEMAS)
def test_grammar_matches_conforming_texts_only(within, name):
    schema, texts, others = SCHEMAS[name]
    matches = within(schema_grammar(schema, "schema"))
    for text in texts:
        jsonschema.validate(json.loads(text), schema)
        assert matches.whole(text), text
    for text in others:
        assert not matches.whole(text), text


@pytest.mark.model
@pytest.mark.parametrize("name", [name for name in SCHEMAS if name not in ("any", "part", "quotes")])
def test_random_texts_of_grammar_conform_to_schema(within, name):
    schema = SCHEMAS[name][0]
    matches = within(schema_grammar(schema, "schema"))
    source = random.Random(7)
    texts = [text for _ in range(4) if (text := matches.random(source, 60)) is not None]
    for text in texts:
        jsonschema.validate(json.loads(text), schema)
    assert texts, "or nothing was checked"


@pytest.mark.model
def test_json_object_grammar_matches_objects(within):
    matches = within(JSON_OBJECT)
    for text in ("{}", '{"a": {"b": [1, -2.5e3, "x\\n", true, null]}}', '{\n  "a" : [ ]\n}'):
        assert matches.whole(text), text
    for text in ("[]", "1", '{"a"}', '{"a": "\n"}', '{"a": "\\ud800"}', "{} x"):
        assert not matches.whole(text), text


def deep(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def chain(count: int) -> Any:
    names = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(count)}
    return {"$defs": names | {f"d{count}": {"type": "null"}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "place", "why"),
    [
        (False, "", "must be a schema"),
        ([], "", "must be a schema"),
        ({"type": "strin"}, ".type", "must be one of object"),
        ({"type": []}, ".type", "must be one of"),
        ({"type": 5}, ".type", "must be a type"),
        ({"not": {}}, ".not", "keyword not supported"),
        ({"type": "array", "uniqueItems": True}, ".uniqueItems", "keyword not supported"),
        ({"type": "object", "patternProperties": {}}, ".patternProperties", "keyword not supported"),
        ({"type": "number", "minimum": 1}, ".minimum", "not supported for the type number"),
        ({"type": "string", "properties": {}}, ".properties", "not supported for the type string"),
        ({"properties": {"a": {"if": {}}}}, ".properties.a.if", "keyword not supported"),
        ({"properties": []}, ".properties", "must be an object"),
        ({"properties": {}, "required": ["x"]}, ".required", "'x' is not in properties"),
        ({"properties": {"x": True}, "required": "x"}, ".required", "list of names"),
        ({"enum": []}, ".enum", "at least one"),
        ({"type": "integer", "enum": ["a"]}, ".type", "no listed value"),
        ({"enum": ["\ud800"]}, "", "incomplete character"),
        ({"anyOf": []}, ".anyOf", "at least one"),
        ({"anyOf": [{}], "type": "string"}, ".type", "not supported together"),
        ({"anyOf": [{}], "properties": {}}, ".properties", "not supported together"),
        ({"allOf": [{}, {}]}, ".allOf", "more than one"),
        ({"$ref": "https://example.com/x"}, ".$ref", "reference within the schema"),
        ({"$ref": 5}, ".$ref", "reference within the schema"),
        ({"$ref": "#/$defs/none"}, ".$ref", "does not exist"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, ".maxItems", "less than minItems"),
        ({"type": "array", "maxItems": -1}, ".maxItems", "positive"),
        ({"type": "array", "maxItems": True}, ".maxItems", "positive"),
        ({"type": "array", "items": False, "minItems": 1}, ".minItems", "no array"),
        ({"type": "array", "items": [{}]}, ".items", "must be a schema"),
        ({"type": "string", "maxLength": 10**9}, ".maxLength", "more than 1000"),
        ({"type": "string", "minLength": 1, "pattern": "x"}, "", "only one of"),
        ({"type": "string", "format": "hostname"}, ".format", "must be one of"),
        ({"type": "string", "pattern": "("}, ".pattern", "invalid regular expression"),
        ({"type": "string", "pattern": 5}, ".pattern", "must be a string"),
        ({"type": "string", "pattern": "x" * 501}, ".pattern", "500"),
        ({"type": "string", "pattern": r"(a)\1"}, ".pattern", "groupref"),
        ({"type": "string", "pattern": "^(?=a)"}, ".pattern", "assert"),
        ({"type": "string", "pattern": r"\bx"}, ".pattern", "at"),
        ({"type": "string", "pattern": "a{5000}"}, ".pattern", "repetitions"),
        ({"type": "string", "pattern": "(?i:x)"}, ".pattern", "flags"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "", "no integer"),
        ({"type": "integer", "minimum": 10**400}, ".minimum", "15 digits"),
        ({"type": "integer", "minimum": 0.5}, ".minimum", "integer"),
        (deep(100), "", "too deeply nested"),
        (deep(5000), "", "too deeply nested"),
        (chain(1000), "", "too deeply nested"),
        ({"enum": ["x" * 70_000]}, "", "too large"),
        ({"type": "array", "prefixItems": [{"type": "null"}] * 5001}, "", "too large"),
    ],
)  # fmt: skip
def test_unsupported_schema_is_refused_with_its_place(schema, place, why):
    with pytest.raises(RequestError) as caught:
        schema_grammar(schema, "schema")
    assert caught.value.status == 400
    assert (caught.value.param or "").startswith(f"schema{place}")
    assert why in str(caught.value)
    assert len(str(caught.value)) < 400


def test_exponential_references_are_a_small_grammar():
    """Each definition refers twice to the next one: expanded, that would be 2 ** 25 schemas."""
    definitions: dict[str, Any] = {
        f"d{number}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{number + 1}"}] * 2}
        for number in range(25)
    }
    schema = {"$defs": definitions | {"d25": {"type": "null"}}, "$ref": "#/$defs/d0"}
    assert len(schema_grammar(schema, "schema")) < 10_000


def expression(grammar: str) -> re.Pattern[str]:
    """Return the regular expression that is equal to these alternatives of digits."""
    return re.compile(
        "|".join("".join(part.strip('"') for part in each.split()) for each in grammar.split(" | "))
    )


def some_integers() -> Iterable[tuple[int | None, int | None]]:
    yield from ((0, 0), (5, 17), (-3, 120), (99, 1000), (-1000, -7), (1, None), (None, -1), (None, None))
    source = random.Random(3)
    for _ in range(30):
        first, second = sorted(source.randrange(-3000, 3000) for _ in range(2))
        yield first, second


@pytest.mark.parametrize(("least", "most"), some_integers())
def test_integers_between_bounds(least, most):
    matches = expression(integers_between(least, most))
    for number in range(-3100, 3100):
        inside = (least is None or number >= least) and (most is None or number <= most)
        assert bool(matches.fullmatch(str(number))) == inside, number
