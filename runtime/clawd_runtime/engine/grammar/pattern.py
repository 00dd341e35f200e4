"""Translation of a JSON schema's regular expressions to GBNF.

The expression is parsed by Python's own parser; only what is regular, and has no options, is translated.
The text is that of a JSON string: a quotation mark in it is written as an escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from clawd_runtime.engine.grammar.gbnf import (
    MOST_REPETITIONS,
    NOTHING,
    Range,
    character_class,
    literal,
    repeated,
)
from clawd_runtime.errors import RequestError

LONGEST_PATTERN = 500  # characters

_parser: Any = re._parser  # type: ignore[attr-defined]
_LAST = 0x10FFFF
# What a JSON string contains unescaped.
_PLAIN: tuple[Range, ...] = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0xA0, 0xD7FF), (0xE000, _LAST))
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_CATEGORIES: dict[str, tuple[Range, ...]] = {
    "DIGIT": ((0x30, 0x39),),
    "WORD": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "SPACE": ((0x09, 0x0D), (0x20, 0x20)),
}


def pattern_rule(pattern: str, field: str) -> str:
    """Return the GBNF expression of a JSON string's content that `pattern` matches.

    As in JSON schema, the pattern may match a part of the string unless it has `^` and `$`.

    Raises:
        RequestError: The pattern is invalid, too long, or uses something that is not regular.

    """
    if len(pattern) > LONGEST_PATTERN:
        raise RequestError(f"{field}: more than {LONGEST_PATTERN} characters", param=field)
    try:
        # Python's classes are Unicode's, ECMA's are ASCII.
        tree = list(_parser.parse(pattern, re.ASCII))
        return _anchored(tree)
    except (re.error, RecursionError, OverflowError) as error:
        raise RequestError(f"{field}: invalid regular expression: {error}", param=field) from None
    except _Unsupported as error:
        raise RequestError(f"{field}: not supported in a regular expression: {error}", param=field) from None


class _Unsupported(Exception):
    """A part of a regular expression cannot be translated."""


def _anchored(tree: list[Any]) -> str:
    begins = bool(tree) and _is_anchor(tree[0], "AT_BEGINNING")
    ends = len(tree) > begins and _is_anchor(tree[-1], "AT_END")
    inner = tree[begins : len(tree) - ends]
    parts = [*([] if begins else ["char*"]), _sequence(inner), *([] if ends else ["char*"])]
    return " ".join(part for part in parts if part) or NOTHING


def _is_anchor(node: Any, kind: str) -> bool:
    return _name(node) == "AT" and str(node[1]) == kind


def _name(node: Any) -> str:
    return str(node[0])


def _sequence(nodes: Iterable[Any]) -> str:
    return " ".join(_expression(node) for node in nodes)


def _group(nodes: Iterable[Any]) -> str:
    return f"({_sequence(nodes) or NOTHING})"


def _expression(node: Any) -> str:
    kind, value = _name(node), node[1]
    match kind:
        case "LITERAL":
            return _character(value)
        case "NOT_LITERAL":
            return _class(_without(((value, value),)))
        case "ANY":
            return _class(_without(((0x0A, 0x0A), (0x0D, 0x0D))))
        case "IN":
            return _class(_members(value))
        case "BRANCH":
            return "(" + " | ".join(_sequence(branch) or NOTHING for branch in value[1]) + ")"
        case "SUBPATTERN":
            if value[1] or value[2]:
                raise _Unsupported("flags")
            return _group(value[3])
        case "MAX_REPEAT" | "MIN_REPEAT":
            return _repeat(*value)
    raise _Unsupported(kind.lower().replace("_", " "))


def _repeat(least: Any, most: Any, nodes: Any) -> str:
    limit = None if most is _parser.MAXREPEAT else int(most)
    if max(int(least), limit or 0) > MOST_REPETITIONS:
        raise _Unsupported(f"more than {MOST_REPETITIONS} repetitions")
    return repeated(_group(nodes), int(least), limit)


def _character(code: int) -> str:
    character = chr(code)
    if character not in _ESCAPES and (code < 0x20 or 0xD800 <= code < 0xE000):
        raise _Unsupported(f"the character U+{code:04X}")
    return literal(_ESCAPES.get(character, character))


def _members(nodes: Iterable[Any]) -> tuple[Range, ...]:
    ranges: list[Range] = []
    negated = False
    for node in nodes:
        kind, value = _name(node), node[1]
        if kind == "NEGATE":
            negated = True
        elif kind == "LITERAL":
            ranges.append((value, value))
        elif kind == "RANGE":
            ranges.append(value)
        else:
            name = str(value).removeprefix("CATEGORY_")
            inner = _CATEGORIES[name.removeprefix("NOT_")]
            ranges += _without(inner) if name.startswith("NOT_") else inner
    return _without(ranges) if negated else tuple(ranges)


def _without(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Return all code points but these."""
    left, at = [], 0
    for first, last in sorted(ranges):
        if first > at:
            left.append((at, first - 1))
        at = max(at, last + 1)
    return (*left, (at, _LAST)) if at <= _LAST else tuple(left)


def _class(ranges: Iterable[Range]) -> str:
    """Return the expression of one character in `ranges`, escaped where JSON escapes it."""
    given = tuple(ranges)
    plain = tuple(_common(given, _PLAIN))
    escapes = [literal(text) for mark, text in _ESCAPES.items() if any(a <= ord(mark) <= b for a, b in given)]
    choices = [*([character_class(plain)] if plain else []), *escapes]
    if not choices:
        raise _Unsupported("a class without characters")
    return choices[0] if len(choices) == 1 else f"({' | '.join(choices)})"


def _common(some: Iterable[Range], others: tuple[Range, ...]) -> Iterator[Range]:
    for first, last in some:
        for other_first, other_last in others:
            if max(first, other_first) <= min(last, other_last):
                yield max(first, other_first), min(last, other_last)
