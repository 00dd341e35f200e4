"""Syllables of Chinese characters, without tones, for words that are also forbidden by their sound."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from clawd_runtime.bot.policy.folding.characters import FOLDER

FIRST = 0xE000
"""Private characters stand for the syllables."""
UNREADABLE = "\x01"
DIGITS = "零一二三四五六七八九"


@dataclass(frozen=True, slots=True)
class Syllables:
    """`usual` maps a character to the unit of its usual reading, `readings` to all readings as Latin text."""

    usual: dict[int, str]
    readings: dict[str, tuple[str, ...]]
    units: dict[str, str]

    def sound(self, units: str) -> str:
        """Return the usual sound of every unit, one unit each; Latin letters stay as they are."""
        return "".join(
            unit if "a" <= unit <= "z" else self.usual.get(ord(unit), UNREADABLE) for unit in units
        )


@cache
def syllables() -> Syllables:
    """Return the table, read when a policy first needs it."""
    usual: dict[int, str] = {}
    readings: defaultdict[str, list[str]] = defaultdict(list)
    units: dict[str, str] = {}
    for number, line in enumerate((FOLDER / "syllables.txt").read_text("utf-8").splitlines()):
        syllable, first, *others = line.split(" ")
        units[syllable] = chr(FIRST + number)
        for character in first:
            usual[ord(character)] = units[syllable]
            readings[character].insert(0, syllable)
        for character in "".join(others):
            readings[character].append(syllable)
    for digit, character in enumerate(DIGITS):  # to which the numerals are folded
        usual[ord(str(digit))] = usual[ord(character)]
        readings[str(digit)] = readings[character]
    return Syllables(usual, {character: tuple(found) for character, found in readings.items()}, units)
