"""Write the tables by which the bot's policy folds characters, from OpenCC, pypinyin and confusables.

The bot needs single characters only: two tables of 60 KB instead of packages of 20 MB on every host.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import opencc
from confusable_homoglyphs import confusables
from pypinyin import Style, pinyin

FOLDER = Path(__file__).resolve().parent.parent / "clawd_runtime/bot/policy/folding"
HAN = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00), range(0x20000, 0x2EBF0))
# Characters of other scripts that look like Latin letters are foreign to the words of these alone.
SCRIPTS = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "LISU", "COPTIC")
FROM_TRADITIONAL = ("t2s", "hk2s", "tw2s")
READABLE = "gb2312"
"""The characters that have a syllable: those that people know, 6,763."""


def simplified() -> str:
    """Return pairs of a traditional character and its simplified one."""
    characters = [chr(code) for block in HAN for code in block]
    found: dict[str, str] = {}
    for name in FROM_TRADITIONAL:
        converted = opencc.OpenCC(name).convert("\n".join(characters)).split("\n")
        for before, after in zip(characters, converted, strict=True):
            if before != after and len(after) == 1:
                found.setdefault(before, after)
    return "".join(map("".join, sorted(found.items())))


def latin() -> str:
    """Return pairs of a letter of another script, in lower case, and the Latin letter it looks like."""
    found: dict[str, str] = {}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        for base in (letter, letter.upper()):
            for entry in confusables.confusables_data.get(base, ()):
                for character in entry["c"].lower():
                    if _looks_alike(character):
                        found.setdefault(character, letter)
    return "".join(map("".join, sorted(found.items())))


def _looks_alike(character: str) -> bool:
    name = unicodedata.name(character, "")
    plain = unicodedata.normalize("NFKD", character)
    return plain == character and not character.isascii() and name.startswith(SCRIPTS) and character.isalpha()


def syllables() -> Iterator[str]:
    """Yield lines of a syllable without tone and the characters that are read so, the usual reading first."""
    first, others = defaultdict(list), defaultdict(list)
    for character in sorted(_readable()):
        usual, *rest = pinyin(character, style=Style.NORMAL, heteronym=True)[0]
        usual = _ascii(pinyin(character, style=Style.NORMAL)[0][0] or usual)
        first[usual].append(character)
        for reading in {_ascii(each) for each in (usual, *rest)} - {usual}:
            others[reading].append(character)
    for syllable in sorted(first.keys() | others.keys()):
        yield f"{syllable} {''.join(first[syllable])} {''.join(others[syllable])}".rstrip()


def _readable() -> Iterator[str]:
    for block in HAN:
        for code in block:
            try:
                chr(code).encode(READABLE)
            except UnicodeEncodeError:
                continue
            yield chr(code)


def _ascii(reading: str) -> str:
    return unicodedata.normalize("NFKD", reading.replace("ü", "v")).encode("ascii", "ignore").decode()


def tables() -> dict[str, str]:
    """Return the content of each file, by its name."""
    return {
        "characters.txt": f"simplified {simplified()}\nlatin {latin()}\n",
        "syllables.txt": "".join(f"{line}\n" for line in syllables()),
    }


if __name__ == "__main__":
    for name, content in tables().items():
        (FOLDER / name).write_text(content, "utf-8")
