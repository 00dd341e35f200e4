"""Other spellings of Chinese words: in Latin letters, in part or as a whole, and by their sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice, product

from clawd_runtime.bot.policy.folding.syllables import syllables

SHORTEST = 3
"""Characters of a word that is forbidden by its sound: two syllables occur everywhere."""
MOST = 256
"""Spellings of a word, whose characters may have several readings."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """A word with some of its characters in Latin letters; `gaps` are the units where a syllable begins."""

    units: str
    gaps: frozenset[int]


def in_latin(units: str) -> Iterator[Spelling]:
    """Yield the spellings of a word with one or more characters in pinyin."""
    readings = syllables().readings
    if any(unit in readings for unit in units):
        yield from _combined([(*readings.get(unit, ()), unit) for unit in units], units)


def by_sound(units: str, *, latin: bool) -> Iterator[Spelling]:
    """Yield a word by the sounds of its characters, with `latin` some or all of them in pinyin."""
    table = syllables()
    if len(units) < SHORTEST or not all(unit in table.readings for unit in units):
        return
    choices = []
    for unit in units:
        readings = table.readings[unit]
        choices.append((*(table.units[each] for each in readings), *(readings if latin else ())))
    yield from _combined(choices, units)


def _combined(choices: list[tuple[str, ...]], units: str) -> Iterator[Spelling]:
    for chosen in islice(product(*choices), MOST):
        spelled = "".join(chosen)
        starts = list(accumulate(map(len, chosen)))[:-1]
        if spelled != units:
            yield Spelling(spelled, frozenset(starts if len(spelled) > len(units) else ()))
