"""Words that several messages about values have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def shown(value: Any, limit: int = 40) -> str:
    """Return a value that is not a secret, shortened for a message; a login in an address is masked."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "empty"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = re.sub(r"\S*:\S*@", "…@", " ".join(text.split()))
    return f"`{text if len(text) <= limit else text[: limit - 1] + '…'}`"


def edges(text: str, what: str = "this text") -> tuple[str, str] | None:
    """Return what is wrong with a text that begins or ends with white space, and a hint; else `None`.

    No kind of value allows it. A message would show the value without it, so that nothing looks wrong.
    """
    if not text.strip() or text == text.strip():
        return None
    block = "; a text below `|` ends in a line break, so write it next to its key"
    return f"{what} begins or ends with white space", f"remove it{block if text.endswith(chr(10)) else ''}"


def kind_of(value: Any) -> str:
    """Return the kind of a value without showing it: it may be a secret in the wrong place."""
    if value is None or isinstance(value, dict | list):
        return shown(value)
    return (
        "a string" if isinstance(value, str) else "a number" if not isinstance(value, bool) else "a boolean"
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint with the known word that is closest to `word`, or with all known words."""
    words = list(known)
    lower = {candidate.lower(): candidate for candidate in words}
    found = get_close_matches(word.lower(), lower, 1, 0.6)
    return f"did you mean `{lower[found[0]]}`?" if found else f"use one of: {', '.join(words)}"
