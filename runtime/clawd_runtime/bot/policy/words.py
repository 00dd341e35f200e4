"""Word lists as automata, which find all words of all lists in one pass."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ahocorasick

from clawd_runtime.bot.policy.folding.characters import Gap
from clawd_runtime.bot.policy.folding.syllables import syllables
from clawd_runtime.bot.policy.folding.text import BREAK, FoldedText
from clawd_runtime.bot.policy.spellings import by_sound, in_latin
from clawd_runtime.bot.policy.values import STRENGTH, Hit, WordGroup

LONGEST_WORD = 48
"""Units. Every beginning of a word may have to be held back."""
ALLOWED = -1


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A word that cannot be used as it is written."""

    group: str
    word: str
    reason: str

    def __str__(self) -> str:
        return f"{self.group}: {self.word}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Match:
    """The units from `start` to `end` are a spelling of a word of the group `group` (`ALLOWED`: of none)."""

    start: int
    end: int
    group: int
    spelling: int


class WordLists:
    """The words of `groups` in one automaton; `allowed` are longer words, in which none is forbidden.

    `problems` are words that were left out. The length is the number of words, without those of credentials.
    """

    def __init__(self, groups: Sequence[WordGroup], allowed: Iterable[str] = ()) -> None:
        self.groups = tuple(groups)
        self.problems: list[WordProblem] = []
        self._written = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        self._sounds = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        self._words: list[str] = []
        self._listed = 0
        # Group, word and length of each spelling, in arrays: there may be 100,000.
        self._groups, self._word_of, self._lengths = array("h"), array("l"), array("b")
        # Where the word itself has spaces or symbols, or another syllable of its pinyin begins.
        self._own_gaps: dict[int, frozenset[int]] = {}
        for word in allowed:
            self._add_word(ALLOWED, word)
        for number, group in enumerate(groups):
            for word in group.words:
                self._add_word(number, word)
        self._automata = tuple(each for each in (self._written, self._sounds) if len(each))
        for automaton in self._automata:
            automaton.make_automaton()

    def __len__(self) -> int:
        return self._listed

    def hit(self, match: Match, text: FoldedText) -> Hit:
        """Return a match as it is reported."""
        group = self.groups[match.group]
        return Hit(
            rule=group.name,
            entry="" if group.secret else self._words[self._word_of[match.spelling]],
            action=group.action,
            start=text.starts[match.start],
            end=text.ends[match.end - 1],
            shadow=group.shadow,
            notice=group.notice,
            replacement=group.replacement,
        )

    def undecided(self, text: FoldedText) -> int:
        """Return where the longest end of `text` begins that may still become a word, or another one."""
        length = len(text.units)
        earliest = max(0, length - LONGEST_WORD)
        tails = [(automaton, self._heard(automaton, text.units[earliest:])) for automaton in self._automata]
        for start in range(length - earliest):
            for automaton, tail in tails:
                if automaton.match(tail[start:]) and not self._is_complete(
                    automaton, tail[start:], text, earliest + start
                ):
                    return earliest + start
        return length

    def _is_complete(self, automaton: Any, units: str, text: FoldedText, start: int) -> bool:
        """Return whether the end of `text` is a word of which nothing that follows makes another one."""
        return (
            automaton.exists(units)
            and text.scripts[-1] == "unspaced"
            and not any(text.gaps[start + 1 :])
            and len(list(islice(automaton.keys(units), 2))) == 1
        )

    def matches(self, text: FoldedText) -> list[Match]:
        """Return the words in `text` that count, by their place.

        Where the text may continue, only those before `undecided` are certain.
        """
        found: dict[tuple[int, int], Match] = {}
        for match in self._candidates(text.units):
            place = (match.start, match.end)
            if self._counts(match, text) and (
                place not in found or self._strength(match.group) > self._strength(found[place].group)
            ):
                found[place] = match
        allowed = [match for match in found.values() if match.group == ALLOWED]
        return sorted(
            (
                match
                for match in found.values()
                if not any(each.start <= match.start and match.end <= each.end for each in allowed)
            ),
            key=lambda match: (match.start, -match.end),
        )

    def _strength(self, group: int) -> int:
        if group == ALLOWED:
            return 1 + max(STRENGTH.values())
        return -1 if self.groups[group].shadow else STRENGTH[self.groups[group].action]

    def _heard(self, automaton: ahocorasick.Automaton, units: str) -> str:
        return units if automaton is self._written else syllables().sound(units)

    def _candidates(self, units: str) -> Iterator[Match]:
        for automaton in self._automata:
            for last, spelling in automaton.iter(self._heard(automaton, units)):
                start = last + 1 - self._lengths[spelling]
                yield Match(start, last + 1, self._groups[spelling], spelling)

    def _counts(self, match: Match, text: FoldedText) -> bool:
        """Return whether the gaps in a match and the text around it show that it is this word."""
        if match.group != ALLOWED and self.groups[match.group].secret:
            return True
        own = self._own_gaps.get(match.spelling, frozenset())
        within = [place for place in range(match.start + 1, match.end) if place - match.start not in own]
        gaps = [place for place in within if text.gaps[place]]
        if match.group == ALLOWED:
            return not gaps
        before, after = _neighbours(match, text)
        if (before and _spaced_both(text, match.start)) or (after and _spaced_both(text, match.end)):
            return False  # a part of a longer word
        spelled_out = len(gaps) == len(within) and match.end - match.start > 2
        alone = not before and not after
        return all(_may_lie(text, place, spelled_out, alone) for place in gaps)

    def _add_word(self, group: int, word: str) -> None:
        word = word.strip()
        text = FoldedText(word)
        if problem := _problem(text):
            name = "allow" if group == ALLOWED else self.groups[group].name
            self.problems.append(WordProblem(name, word, problem))
            return
        self._words.append(word)
        self._listed += group == ALLOWED or not self.groups[group].secret
        own = frozenset(place for place in range(1, len(text.units)) if text.gaps[place])
        self._add(self._written, text.units, group, own)
        if group == ALLOWED:
            return
        if self.groups[group].pinyin:
            for spelling in in_latin(text.units):
                self._add(self._written, spelling.units, group, spelling.gaps or own)
        if self.groups[group].homophones:
            for spelling in by_sound(text.units, latin=self.groups[group].pinyin):
                self._add(self._sounds, spelling.units, group, spelling.gaps or own)

    def _add(self, automaton: ahocorasick.Automaton, units: str, group: int, own: frozenset[int]) -> None:
        if len(units) > LONGEST_WORD:
            return
        known = automaton.get(units, None)
        if known is not None and self._strength(self._groups[known]) >= self._strength(group):
            return
        spelling = len(self._lengths)
        self._groups.append(group)
        self._word_of.append(len(self._words) - 1)
        self._lengths.append(len(units))
        if own:
            self._own_gaps[spelling] = own
        automaton.add_word(units, spelling)


def _problem(text: FoldedText) -> str:
    units = text.units
    if not units:
        return "has no letters or digits"
    if BREAK in units:
        return "has too many symbols in a row"
    if len(units) > LONGEST_WORD:
        return f"is longer than {LONGEST_WORD} letters"
    if len(units) == 1 and (text.end > 1 or text.scripts[0] == "spaced"):
        return "is a single letter without its symbols; use an input rule"
    return ""


def _neighbours(match: Match, text: FoldedText) -> tuple[bool, bool]:
    """Return whether a unit directly precedes and follows a match, with no gap between."""
    first = match.start == 0 and text.before is None
    before = not first and not text.gaps[match.start]
    after = match.end < len(text.units) and not text.gaps[match.end]
    return before, after


def _spaced_both(text: FoldedText, place: int) -> bool:
    """Return whether the units around `place` are of scripts with spaces between words."""
    left = text.scripts[place - 1] if place else text.before
    return left == "spaced" and text.scripts[place] == "spaced"


def _may_lie(text: FoldedText, place: int, spelled_out: bool, alone: bool) -> bool:
    """Return whether the gap before the unit `place` may lie within a word.

    Spaces separate words of the one kind of scripts, and separators those of both, unless every letter of a
    word is apart, or nothing else is next to a word of two.
    """
    spaced = _spaced_both(text, place)
    match text.gaps[place]:
        case Gap.SEPARATOR:
            return spelled_out or (alone and not spaced)
        case Gap.SPACE:
            return spelled_out or not spaced
        case _:
            return True
