"""Folding of single characters into units, which are compared instead of the characters."""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from clawd_runtime.visible import DEFAULT_IGNORABLE

FOLDER = Path(__file__).parent
# Marks that change how a letter looks. Other marks, such as vowels of Indian scripts, are letters of words.
DECORATIONS = (
    (0x0300, 0x036F),
    (0x0591, 0x05C7),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0x3099, 0x309A),
    (0xFE20, 0xFE2F),
)
# Letters in squares and circles, and the letters of flags, which Unicode does not decompose.
ALPHABETS = (0x1F150, 0x1F170, 0x1F1E6)
NUMERALS = ("〇零○", "一壹弌", "二贰弍", "三叁弎", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖")
# Scripts without spaces between words, and Korean, whose particles follow a word directly.
UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1100, 0x11FF),
    (0x1780, 0x17FF),
    (0x2E80, 0xA4CF),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
SEPARATORS = frozenset("\n\r\v\f\u0085\u2028\u2029,.!?;:、。…()[]{}<>《》〈〉「」『』【】〔〕“”‘’\"'|/\\")


class Gap(IntEnum):
    """What lies between two units; of several, the largest counts."""

    NONE = 0
    SYMBOL = 1
    SPACE = 2
    SEPARATOR = 3


Script = Literal["spaced", "unspaced"]
"""Whether words of the script have spaces between them, as in Latin, or not, as in Chinese."""


class Folded(NamedTuple):
    """A character as units; without units it is a gap, or ignored (`Gap.NONE`)."""

    units: str
    script: Script = "unspaced"
    gap: Gap = Gap.NONE


@cache
def _tables() -> dict[str, str]:
    table: dict[str, str] = {}
    for line in (FOLDER / "characters.txt").read_text("utf-8").splitlines():
        pairs = line.split(" ", 1)[1]
        table |= dict(zip(pairs[::2], pairs[1::2], strict=True))
    for first in ALPHABETS:
        table |= {chr(first + number): chr(ord("a") + number) for number in range(26)}
    for digit, numerals in enumerate(NUMERALS):
        table |= dict.fromkeys(numerals, str(digit))
    return table


class FoldingTable(dict[str, Folded]):
    """The folding of each character, computed when it is first needed."""

    def __missing__(self, character: str) -> Folded:
        found = self[character] = folded(character)
        return found


def folded(character: str) -> Folded:
    """Return a character as units: case, width, marks, look-alikes, variants and forms of digits folded."""
    if _within(character, DEFAULT_IGNORABLE) or _within(character, DECORATIONS):
        return Folded("")
    if character in SEPARATORS:
        return Folded("", gap=Gap.SEPARATOR)
    table = _tables()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    # Twice: a variant may be a numeral, too.
    simple = (table.get(each, each) for each in plain if not _within(each, DECORATIONS))
    units = "".join(table.get(each, each) for each in simple if _is_unit(each))
    if units:
        own = character if character.isalnum() else units[0]
        return Folded(units, "unspaced" if _within(own, UNSPACED) and not _is_latin(plain) else "spaced")
    if any(each in SEPARATORS for each in plain):
        return Folded("", gap=Gap.SEPARATOR)
    category = unicodedata.category(character)
    if category in ("Cc", "Cf") and character != "\t":
        return Folded("")
    return Folded("", gap=Gap.SPACE if category[0] == "Z" or character == "\t" else Gap.SYMBOL)


def _is_unit(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN" or unicodedata.category(character) in ("Mn", "Mc")


def _is_latin(plain: str) -> bool:
    return any("a" <= each <= "z" or "0" <= each <= "9" for each in plain)


def _within(character: str, blocks: tuple[tuple[int, int], ...]) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in blocks)


FOLDING = FoldingTable()
