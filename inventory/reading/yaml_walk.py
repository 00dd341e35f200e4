"""Conversion of composed YAML nodes to plain data with positions, collecting all mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isfinite
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from inventory.errors import InventoryError, Mistake
from inventory.reading.source import KeyPath, Source, SourcePosition, Tagged, unreadable

SECRET_TAGS = ("!age", "!env", "!cmd", "!file")
MOST_NODES = 20_000
DEEPEST = 20
LARGEST_NUMBER = 1 << 63

_STANDARD = "tag:yaml.org,2002:"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_NUMBER_IN_BASE = re.compile(r"[-+]?0[xo][0-9a-fA-F_]+")


def walk(root: MappingNode, file: str) -> Source:
    """Return the content of the document `root`. Raises `InventoryError` when it is too large or too deep."""
    steps = _Walk(file)
    data = steps.value(root, ())
    return Source(file, data, steps.keys, steps.values, tuple(steps.mistakes), tuple(steps.mistaken))


def place_of(node: Node) -> SourcePosition:
    """Return the position at which a node begins."""
    return SourcePosition(node.start_mark.line + 1, node.start_mark.column + 1)


def nested_too_deeply(file: str, place: SourcePosition) -> InventoryError:
    """Return the error for a file whose values are nested too deeply."""
    return unreadable(file, place, "the file is nested too deeply", "an inventory needs about six levels")


@dataclass
class _Walk:
    """One pass over the nodes that collects positions and mistakes."""

    file: str
    keys: dict[KeyPath, SourcePosition] = field(default_factory=dict)
    values: dict[KeyPath, SourcePosition] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    mistaken: list[KeyPath] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _seen: int = 0

    def value(self, node: Node, path: KeyPath) -> Any:
        self._count(node)
        if len(path) > DEEPEST:
            raise nested_too_deeply(self.file, place_of(node))
        self.values[path] = place_of(node)
        count = len(self.mistakes)
        value = self._any(node, path)
        if isinstance(node, ScalarNode) and len(self.mistakes) > count:
            self.mistaken.append(path)
        return value

    def _count(self, node: Node) -> None:
        self._seen += 1
        if self._seen > MOST_NODES:
            problem = "the file is too large once its aliases are expanded"
            raise unreadable(self.file, place_of(node), problem, "use fewer aliases (`*name`)")

    def _any(self, node: Node, path: KeyPath) -> Any:
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            self.mistaken.append(path)
            return self._wrong(node, "this alias refers to itself", "write the value out")
        if not str(node.tag).startswith(_STANDARD):
            self.mistaken.append(path)
            self._wrong_tag(node)
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        own: dict[str, SourcePosition] = {}
        for key_node, value_node in self._merged_first(node):
            merged = all(key_node is not key for key, _ in node.value)
            if not isinstance(key_node, ScalarNode):
                self._wrong(key_node, "a key must be a single value", "quote it if it begins with `[` or `{`")
                continue
            key = self._text(key_node)
            if key in own and not merged:
                self._wrong(
                    key_node,
                    f"duplicate key `{key}`, first in line {own[key].line}",
                    "keep one of the two",
                )
                continue
            if not merged:
                own[key] = place_of(key_node)
            self._forget((*path, key))
            self.keys[(*path, key)] = place_of(key_node)
            result[key] = self.value(value_node, (*path, key))
        return result

    def _merged_first(self, node: Node, depth: int = 0) -> Iterator[tuple[Node, Node]]:
        """Yield the entries of a mapping; merged ones (`<<:`) come first, so that its own override them."""
        own = []
        for key, value in node.value:
            if key.tag != f"{_STANDARD}merge":
                own.append((key, value))
                continue
            sources = value.value if isinstance(value, SequenceNode) else [value]
            # YAML's merge key: an earlier source overrides a later one.
            for source in reversed(sources):
                self._count(source)
                if isinstance(source, MappingNode) and depth < DEEPEST:
                    yield from self._merged_first(source, depth + 1)
                else:
                    self._wrong(
                        source, "`<<` requires a mapping", "write `<<: *name` with the anchor of a mapping"
                    )
        yield from own

    def _forget(self, path: KeyPath) -> None:
        """Drop the positions of a merged value that is about to be replaced."""
        if path in self.values:
            for places in (self.keys, self.values):
                for inner in [known for known in places if known[: len(path)] == path]:
                    del places[inner]

    def _scalar(self, node: ScalarNode) -> Any:
        tag = str(node.tag)
        if tag in SECRET_TAGS:
            return Tagged(tag, self._text(node))
        if not tag.startswith(_STANDARD):
            self._wrong_tag(node)
            return self._text(node)
        match tag.removeprefix(_STANDARD):
            case "null":
                return None
            case "bool" if node.value.lower() in ("true", "yes", "on", "y"):
                return True
            case "bool" if node.value.lower() in ("false", "no", "off", "n"):
                return False
            case "int" | "float" | "bool" as kind:
                return self._number(node, kind)
            case _:
                return self._text(node)

    def _number(self, node: ScalarNode, kind: str) -> int | float | str:
        try:
            if kind == "int":
                whole = int(node.value, 0 if _NUMBER_IN_BASE.fullmatch(node.value) else 10)
                if abs(whole) < LARGEST_NUMBER:
                    return whole
                self._wrong(node, "this number is too large", "write a smaller one, or quote it as a string")
                return 0
            if kind == "float" and isfinite(number := float(node.value)):
                return number
        except ValueError:
            pass
        self._wrong(node, "this number cannot be parsed", "write a decimal number, or quote it as a string")
        return str(node.value)

    def _text(self, node: ScalarNode) -> str:
        text = str(node.value)
        if found := _CONTROL.search(text):
            self._wrong(node, f"the string contains the character U+{ord(found[0]):04X}", "remove it")
            return _CONTROL.sub("�", text)
        return text

    def _wrong_tag(self, node: Node) -> None:
        near = get_close_matches(str(node.tag), SECRET_TAGS, 1)
        advice = f"did you mean `{near[0]}`?" if near else f"use one of: {', '.join(SECRET_TAGS)}"
        if str(node.tag) in SECRET_TAGS:
            self._wrong(
                node,
                f"`{node.tag}` takes a string, not a mapping or list",
                f"write `{node.tag} …` on one line",
            )
        else:
            self._wrong(node, f"unknown tag `{node.tag}`", advice)

    def _wrong(self, node: Node, problem: str, advice: str) -> None:
        place = place_of(node)
        self.mistakes.append(Mistake(self.file, place.line, place.column, problem, advice))
