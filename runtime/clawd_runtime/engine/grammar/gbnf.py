"""GBNF, the notation of llama.cpp's grammars: literals, character classes, and rules within a size limit.

Source: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

from collections.abc import Iterable

from clawd_runtime.errors import RequestError

LONGEST_GRAMMAR = 96 * 1024  # characters; one message to the process that compiles it
MOST_REPETITIONS = 1000  # llama.cpp refuses more than 2000 and copies the item for each

# White space between JSON tokens, limited so that a model cannot fill its answer with it.
SPACE = r'ws ::= ("\n" " "{0,20} | " ")?'
# Surrogates are left out: two of them are one character.
CHARACTER = r"""char ::= [^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" code)
code ::= [0-9a-cefA-CEF] hex hex hex | [dD] [0-7] hex hex
hex ::= [0-9a-fA-F]"""
STRING = r'string ::= "\"" char* "\""'
INTEGER = 'integer ::= "-"? ("0" | [1-9] [0-9]{0,15})'
NUMBER = 'number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?'
OBJECT = 'object ::= "{" ws (string ws ":" ws value ws ("," ws string ws ":" ws value ws)*)? "}"'
ARRAY = 'array ::= "[" ws (value ws ("," ws value ws)*)? "]"'
VALUE = 'value ::= object | array | string | number | "true" | "false" | "null"'
JSON = (SPACE, CHARACTER, STRING, INTEGER, NUMBER, OBJECT, ARRAY, VALUE)

JSON_OBJECT = "\n".join(("root ::= object", *JSON))
"""The grammar of any JSON object."""

NOTHING = '""'
"""The expression of the empty text."""

Range = tuple[int, int]
"""The first and the last code point of a range."""


def literal(text: str) -> str:
    """Return the GBNF literal that matches exactly `text`."""
    return '"' + "".join(_escaped(ord(character), '"\\') for character in text) + '"'


def character_class(ranges: Iterable[Range]) -> str:
    """Return the GBNF class of these code points, which must not be empty."""
    return "[" + "".join(f"{_in_class(first)}-{_in_class(last)}" for first, last in ranges) + "]"


def repeated(item: str, least: int, most: int | None) -> str:
    """Return `item` repeated; `most` is `None` for any number."""
    if most is None:
        return f"{item}*" if least == 0 else f"{item}{{{least},}}"
    return f"{item}{{{least},{most}}}" if most else NOTHING


def _escaped(code: int, special: str) -> str:
    if chr(code) in special:
        return f"\\{chr(code)}"
    return chr(code) if 0x20 <= code < 0x7F else f"\\U{code:08X}"


def _in_class(code: int) -> str:
    return f"\\U{code:08X}" if not chr(code).isalnum() or code >= 0x7F else chr(code)


class Rules:
    """The rules of a grammar that is being written. `field` is the field of the request that it is from."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._rules: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._size = sum(map(len, JSON))

    def reserve(self) -> str:
        """Return the name of a new rule, to be defined with `define`."""
        name = f"r{len(self._rules)}"
        self._rules[name] = ""
        return name

    def define(self, name: str, body: str) -> str:
        """Define the rule `name` and return the name.

        Raises:
            RequestError: The grammar has become too large.

        """
        self._size += len(name) + len(body) + 6
        if self._size > LONGEST_GRAMMAR:
            raise RequestError(f"{self._field}: too large: its grammar is too long", param=self._field)
        self._rules[name] = body
        return name

    def add(self, body: str) -> str:
        """Return the name of a rule with this body."""
        if body not in self._known:
            self._known[body] = self.define(self.reserve(), body)
        return self._known[body]

    def text(self, root: str) -> str:
        """Return the grammar whose text matches the rule `root`."""
        rules = [f"{name} ::= {body}" for name, body in self._rules.items()]
        return "\n".join([f"root ::= {root}", *rules, *JSON])
