"""Translation of JSON schemas to GBNF: strict, so that an answer within the grammar conforms to the schema.

A keyword that would have to be ignored is refused by name. Objects have exactly their declared properties, in
their order; an optional one may be missing. This always conforms, with `additionalProperties` or without.

Source: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from clawd_runtime.engine.grammar.gbnf import MOST_REPETITIONS, NOTHING, Rules, literal, repeated
from clawd_runtime.engine.grammar.integers import integers_between
from clawd_runtime.engine.grammar.pattern import pattern_rule
from clawd_runtime.errors import RequestError

DEEPEST_SCHEMA = 64
MOST_SCHEMAS = 5000  # subschemas of one schema, counted where they are used
LARGEST_SCHEMA = 64 * 1024  # bytes as JSON

_ANNOTATIONS = frozenset(
    [
        "title",
        "description",
        "default",
        "example",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$schema",
        "$id",
        "$comment",
        "$defs",
        "definitions",
        "additionalProperties",
        "discriminator",
    ]
)
_KEYWORDS = {
    "object": frozenset(["properties", "required"]),
    "array": frozenset(["items", "prefixItems", "minItems", "maxItems"]),
    "string": frozenset(["minLength", "maxLength", "pattern", "format"]),
    "integer": frozenset(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
    "number": frozenset[str](),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
_KNOWN = frozenset(["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"]).union(
    _ANNOTATIONS, *_KEYWORDS.values()
)
_DATE = (
    '[0-9]{4} "-" (("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01]) '
    '| ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-9]))'
)
_TIME = (
    '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
    '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
)
_HEX = "[0-9a-f]"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": ' "-" '.join(f"{_HEX}{{{count}}}" for count in (8, 4, 4, 4, 12)),
    "email": '[a-z0-9] [a-z0-9._+-]{0,40} "@" [a-z0-9] [a-z0-9-]{0,40} ("." [a-z] [a-z0-9-]{0,20}){1,4}',
    "uri": '"http" "s"? "://" [a-z0-9.-]{1,80} ("/" [a-zA-Z0-9._~/?#=&%+-]{0,400})?',
    "ipv4": ' "." '.join(['("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])'] * 4),
}


def schema_grammar(schema: Any, field: str) -> str:
    """Return the grammar of the JSON texts that conform to `schema`; `field` is where the request has it.

    Raises:
        RequestError: The schema is invalid, too large, or has a keyword that is not supported.

    """
    rules = Rules(field)
    return rules.text(schema_rule(schema, rules, field))


def schema_rule(schema: Any, rules: Rules, field: str) -> str:
    """Add what is needed for `schema` to `rules` and return the expression of its values.

    Raises:
        RequestError: As of `schema_grammar`.

    """
    return _Translator(schema, rules, field).rule()


class _Translator:
    def __init__(self, schema: Any, rules: Rules, field: str) -> None:
        self._schema, self._rules, self._field = schema, rules, field
        self._references: dict[str, str] = {}
        self._count = 0

    def rule(self) -> str:
        try:
            if len(json.dumps(self._schema)) > LARGEST_SCHEMA:
                raise self._refusal("", f"too large: more than {LARGEST_SCHEMA} bytes")
            return self._rule(self._schema, "", 0)
        except RecursionError:
            raise self._refusal("", "too deeply nested") from None

    def _refusal(self, path: str, why: str) -> RequestError:
        place = f"{self._field}{path}"[:200]
        return RequestError(f"{place}: {why}", param=place)

    def _rule(self, schema: Any, path: str, depth: int) -> str:
        """Return the GBNF expression, a single item, of the values that conform to `schema`."""
        self._count += 1
        if depth > DEEPEST_SCHEMA:
            raise self._refusal("", f"too deeply nested: more than {DEEPEST_SCHEMA} levels")
        if self._count > MOST_SCHEMAS:
            raise self._refusal("", f"too large: more than {MOST_SCHEMAS} subschemas")
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise self._refusal(path, "must be a schema that some value conforms to")
        self._check_keywords(schema, path)
        return self._of_combination(schema, path, depth) or self._of_types(schema, path, depth)

    def _check_keywords(self, schema: Mapping[str, Any], path: str) -> None:
        unknown = next((name for name in schema if name not in _KNOWN), None)
        if unknown is not None:
            raise self._refusal(f"{path}.{unknown[:80]}", "keyword not supported")

    def _of_combination(self, schema: Mapping[str, Any], path: str, depth: int) -> str | None:
        """Return the rule of a schema that refers to others or lists values; `None` if it does neither."""
        found = [name for name in ("$ref", "const", "enum", "anyOf", "oneOf", "allOf") if name in schema]
        if not found:
            return None
        name = found[0]
        mixed = [other for other in schema if other not in _ANNOTATIONS and other not in (name, "type")]
        if mixed:
            raise self._refusal(f"{path}.{mixed[0]}", f"not supported together with {name}")
        value = schema[name]
        if name == "const":
            return self._constants([value], schema, path)
        if name == "enum":
            if not isinstance(value, list) or not value:
                raise self._refusal(f"{path}.enum", "must be a list of at least one value")
            return self._constants(value, schema, path)
        if "type" in schema and not (name == "allOf" or schema["type"] == "object"):
            raise self._refusal(f"{path}.type", f"not supported together with {name}")
        if name == "$ref":
            return self._reference(value, path, depth)
        if not isinstance(value, list) or not value:
            raise self._refusal(f"{path}.{name}", "must be a list of at least one schema")
        if name == "allOf" and len(value) > 1:
            raise self._refusal(f"{path}.allOf", "more than one schema is not supported")
        rules = [self._rule(inner, f"{path}.{name}[{index}]", depth + 1) for index, inner in enumerate(value)]
        return rules[0] if len(rules) == 1 else self._rules.add(" | ".join(dict.fromkeys(rules)))

    def _constants(self, values: list[Any], schema: Mapping[str, Any], path: str) -> str:
        types = self._types(schema, path) if "type" in schema else None
        kept = [value for value in values if types is None or _is_of(value, types)]
        if not kept:
            raise self._refusal(f"{path}.type", "no listed value is of this type")
        texts = dict.fromkeys(json.dumps(value, ensure_ascii=False) for value in kept)
        if any(0xD800 <= ord(character) < 0xE000 for text in texts for character in text):
            raise self._refusal(path, "a value has an incomplete character")
        return self._rules.add(" | ".join(map(literal, texts)))

    def _reference(self, reference: Any, path: str, depth: int) -> str:
        place = f"{path}.$ref"
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise self._refusal(place, "must be a reference within the schema, such as '#/$defs/name'")
        if reference not in self._references:
            target = self._resolved(reference, place)
            # Reserved first: the target may refer to itself.
            self._references[reference] = name = self._rules.reserve()
            self._rules.define(name, self._rule(target, path, depth + 1))
        return self._references[reference]

    def _resolved(self, reference: str, place: str) -> Any:
        target: Any = self._schema
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and name.isascii() and name.isdigit() and int(name) < len(target):
                target = target[int(name)]
            elif isinstance(target, dict) and name in target:
                target = target[name]
            else:
                raise self._refusal(place, f"{reference[:80]!r} does not exist")
        return target

    def _types(self, schema: Mapping[str, Any], path: str) -> list[str]:
        given = schema.get("type")
        types = [given] if isinstance(given, str) else given
        if given is None:
            types = [kind for kind, keywords in _KEYWORDS.items() if not keywords.isdisjoint(schema)]
        if not isinstance(types, list) or not all(isinstance(each, str) for each in types):
            raise self._refusal(f"{path}.type", "must be a type or a list of types")
        wrong = [each for each in types if each not in _KEYWORDS]
        if wrong or (given is not None and not types):
            raise self._refusal(f"{path}.type", f"must be one of {', '.join(_KEYWORDS)}")
        return types

    def _of_types(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        types = self._types(schema, path)
        if not types:
            return self._object(schema, path, depth) if "additionalProperties" in schema else "value"
        for name in schema:
            if name not in _ANNOTATIONS and name != "type" and not any(name in _KEYWORDS[t] for t in types):
                raise self._refusal(f"{path}.{name}", f"not supported for the type {', '.join(types)}")
        writers: dict[str, Callable[[Mapping[str, Any], str, int], str]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
        }
        fixed = {"number": "number", "null": '"null"', "boolean": '("true" | "false")'}
        rules = [fixed[kind] if kind in fixed else writers[kind](schema, path, depth) for kind in types]
        return rules[0] if len(rules) == 1 else self._rules.add(" | ".join(dict.fromkeys(rules)))

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict):
            raise self._refusal(f"{path}.properties", "must be an object")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise self._refusal(f"{path}.required", "must be a list of names")
        extra = schema.get("additionalProperties", True)
        if not isinstance(extra, bool | dict):
            raise self._refusal(f"{path}.additionalProperties", "must be a schema")
        missing = [name for name in required if name not in properties]
        if missing:
            raise self._refusal(f"{path}.required", f"{missing[0][:80]!r} is not in properties")
        if not properties:
            return self._map(extra, path, depth)
        members = []
        for name, inner in properties.items():
            value = self._rule(inner, f"{path}.properties.{name[:80]}", depth + 1)
            key = literal(json.dumps(name, ensure_ascii=False))
            members.append((self._rules.add(f'{key} ws ":" ws {value}'), name in required))
        return self._rules.add('"{" ws ' + self._members(members) + ' "}"')

    def _members(self, members: list[tuple[str, bool]]) -> str:
        """Return the rule of these members in order, of which the required ones must be there.

        For every member there is a rule for the rest if it is the first, and one if it follows another.
        """
        first, following = "", ""
        for member, required in reversed(members):
            rest = f" {following}" if following else ""
            alone, after = f"{member} ws{rest}", f'"," ws {member} ws{rest}'
            if not required:
                alone, after = f"{alone} | {first or NOTHING}", f"{after} | {following or NOTHING}"
            first, following = self._rules.add(alone), self._rules.add(after)
        return first

    def _map(self, extra: bool | dict[str, Any], path: str, depth: int) -> str:
        if extra is True:
            return "object"
        if extra is False:
            return self._rules.add('"{" ws "}"')
        value = self._rule(extra, f"{path}.additionalProperties", depth + 1)
        member = self._rules.add(f'string ws ":" ws {value} ws')
        return self._rules.add(f'"{{" ws ({member} ("," ws {member})*)? "}}"')

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        least, most = self._limits(schema, path, "Items")
        items, tuple_of = schema.get("items", True), schema.get("prefixItems", [])
        if not isinstance(tuple_of, list):
            raise self._refusal(f"{path}.prefixItems", "must be a list of schemas")
        if tuple_of:
            if least > len(tuple_of) or (most is not None and most < len(tuple_of)):
                raise self._refusal(f"{path}.prefixItems", "not supported with another number of items")
            rules = [
                self._rule(inner, f"{path}.prefixItems[{index}]", depth + 1)
                for index, inner in enumerate(tuple_of)
            ]
            return self._rules.add('"[" ws ' + ' ws "," ws '.join(rules) + ' ws "]"')
        if most == 0 or items is False:
            if least:
                raise self._refusal(f"{path}.minItems", "no array conforms to it")
            return self._rules.add('"[" ws "]"')
        item = self._rule(items, f"{path}.items", depth + 1)
        more = repeated(f'("," ws {item} ws)', max(0, least - 1), None if most is None else most - 1)
        some = f"{item} ws {more}"
        return self._rules.add(f'"[" ws {some} "]"' if least else f'"[" ws ({some})? "]"')

    def _string(self, schema: Mapping[str, Any], path: str, _depth: int) -> str:
        least, most = self._limits(schema, path, "Length")
        limited = "minLength" in schema or "maxLength" in schema
        for name in ("pattern", "format"):
            if name in schema and not isinstance(schema[name], str):
                raise self._refusal(f"{path}.{name}", "must be a string")
        if limited + ("pattern" in schema) + ("format" in schema) > 1:
            raise self._refusal(path, "only one of pattern, format, and a length is supported")
        if "pattern" in schema:
            inner = pattern_rule(schema["pattern"], f"{self._field}{path}.pattern"[:200])
        elif "format" in schema:
            if schema["format"] not in _FORMATS:
                raise self._refusal(f"{path}.format", f"must be one of {', '.join(_FORMATS)}")
            inner = _FORMATS[schema["format"]]
        elif limited:
            inner = repeated("char", least, most)
        else:
            return "string"
        return self._rules.add(rf'"\"" {inner} "\""')

    def _integer(self, schema: Mapping[str, Any], path: str, _depth: int) -> str:
        bounds = {}
        for name in sorted(_KEYWORDS["integer"] & set(schema)):
            value = schema[name]
            if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 10**15:
                raise self._refusal(f"{path}.{name}", "must be an integer of at most 15 digits")
            bounds[name] = value
        if not bounds:
            return "integer"
        lows = [bounds.get("minimum"), _plus(bounds.get("exclusiveMinimum"), 1)]
        highs = [bounds.get("maximum"), _plus(bounds.get("exclusiveMaximum"), -1)]
        least = max((low for low in lows if low is not None), default=None)
        most = min((high for high in highs if high is not None), default=None)
        if least is not None and most is not None and least > most:
            raise self._refusal(path, "no integer conforms to it")
        return self._rules.add(integers_between(least, most))

    def _limits(self, schema: Mapping[str, Any], path: str, what: str) -> tuple[int, int | None]:
        limits = []
        for name in (f"min{what}", f"max{what}"):
            value = schema.get(name)
            if name in schema and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise self._refusal(f"{path}.{name}", "must be a positive integer")
            if isinstance(value, int) and value > MOST_REPETITIONS:
                raise self._refusal(f"{path}.{name}", f"more than {MOST_REPETITIONS} is not supported")
            limits.append(value)
        least, most = limits[0] or 0, limits[1]
        if most is not None and most < least:
            raise self._refusal(f"{path}.max{what}", f"less than min{what}")
        return least, most


def _plus(value: int | None, more: int) -> int | None:
    return None if value is None else value + more


def _is_of(value: Any, types: list[str]) -> bool:
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int):
        return "integer" in types or "number" in types
    names = {float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)] in types
