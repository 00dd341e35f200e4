"""Regular expressions that match any of many texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


def any_of(texts: Iterable[str]) -> str:
    """Return a regular expression that matches any of `texts`, preferring the longest.

    It is a tree of their characters, so that searching for thousands of texts takes hardly longer than for
    a few.
    """
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return _expression(tree)


def _expression(node: dict[str, Any]) -> str:
    branches = [re.escape(first) + _expression(rest) for first, rest in node.items() if first]
    if len(branches) == 1 and "" not in node:
        return branches[0]
    return (f"(?:{'|'.join(branches)})" + ("?" if "" in node else "")) if branches else ""
