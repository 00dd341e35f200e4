"""Splitting of a text into messages that a platform accepts."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable

TextLength = Callable[[str], int]

# From the best place to split to the worst; each matches a boundary, which stays in the first part.
BOUNDARIES = (
    re.compile(r"\n[ \t]*\n"),
    re.compile(r"\n"),
    re.compile(r"(?<![.!?…])[.!?…]++[\"')\]]*+(?=\s)|[。！？；]+[”’」』）]*"),
    re.compile(r"[,;:](?=\s)|[，、：]"),
    re.compile(r"\s"),
)
ZERO_WIDTH_JOINER = "\u200d"


def utf16_units(text: str) -> int:
    """Return the length in UTF-16 code units, as Telegram counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf8_bytes(text: str) -> int:
    """Return the length in UTF-8 bytes."""
    return len(text.encode("utf-8", "surrogatepass"))


def split(text: str, limit: int, measure: TextLength = utf16_units) -> tuple[str, ...]:
    """Split `text` into parts of at most `limit` by `measure`, between paragraphs, lines, sentences or words.

    Only white space around the splits is lost. Parts are never blank, so a blank text has none. `measure`
    must be additive over characters, each of which measures at least 1. A split is in the second half of a
    part unless no boundary is.
    """
    parts = []
    rest = text.strip()
    while rest:
        longest = longest_prefix(rest, limit, measure)
        cut = longest if longest == len(rest) else best_cut(rest, longest)
        parts.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return tuple(parts)


def shorten(text: str, limit: int, measure: TextLength = utf16_units) -> str:
    """Return the longest beginning of `text` of at most `limit` by `measure`."""
    return text[: longest_prefix(text, limit, measure)]


def longest_prefix(text: str, limit: int, measure: TextLength) -> int:
    """Return the length of the longest beginning of at most `limit` by `measure`, at least 1."""
    most = min(len(text), limit)  # a character measures at least 1
    fitting = bisect_right(range(1, most + 1), limit, key=lambda length: measure(text[:length]))
    return max(fitting, 1)


def best_cut(text: str, longest: int) -> int:
    """Return the best length, at most `longest`, of the first part of `text`, which must be longer."""
    # One more character is checked: white space may be beyond the limit, since it is dropped.
    for boundary in BOUNDARIES:
        cuts = [match.end() for match in boundary.finditer(text, longest // 2, longest + 1)]
        fitting = [cut for cut in cuts if cut <= longest or text[longest].isspace()]
        if fitting:
            return fitting[-1]
    return _between_graphemes(text, longest)


def _between_graphemes(text: str, longest: int) -> int:
    """Return the last position that does not split a character from its modifiers, within a search limit."""
    for cut in range(longest, max(longest - 32, longest // 2), -1):
        if not (_modifies(text[cut]) or text[cut - 1] == ZERO_WIDTH_JOINER):
            return cut
    return longest


def _modifies(character: str) -> bool:
    return (
        unicodedata.combining(character) != 0
        or unicodedata.category(character) in ("Mn", "Me", "Mc")
        or character == ZERO_WIDTH_JOINER
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
