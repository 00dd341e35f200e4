"""Rules for questions: regular expressions in linear time, over normalised text."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clawd_runtime.bot.policy.folding.characters import FOLDING, Gap
from clawd_runtime.bot.policy.ready_made import READY_MADE
from clawd_runtime.bot.policy.values import MASK, NO_MESSAGE, Action, Hit, PolicyMessage
from clawd_runtime.errors import RuntimeFault

LONGEST_PATTERN = 2000
MOST_PATTERNS = 200
PATTERN_MEMORY = 8 * 1024 * 1024
MOST_HITS = 1000


class RuleError(RuntimeFault):
    """A rule that cannot be used."""


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """What happens where a rule matches."""

    action: Action = "mask"
    replacement: str = ""
    notice: PolicyMessage = NO_MESSAGE
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class InputRule:
    """A rule. `holds` checks what the patterns match."""

    name: str
    patterns: tuple[Any, ...]
    effect: RuleEffect
    holds: Callable[[str], bool]

    @classmethod
    def of(
        cls, name: str, patterns: Sequence[str], *, builtin: str | None = None, effect: RuleEffect
    ) -> InputRule:
        """Return a rule of these patterns or of the ready-made ones; raise `RuleError` for a mistake."""
        if (builtin is None) == (not patterns):
            raise RuleError("needs either patterns or the name of a ready-made rule")
        holds: Callable[[str], bool] = lambda _: True  # noqa: E731
        if builtin is not None:
            if builtin not in READY_MADE:
                raise RuleError(f"no ready-made rule {builtin}; there are {', '.join(READY_MADE)}")
            patterns, holds = READY_MADE[builtin].patterns, READY_MADE[builtin].holds
        if len(patterns) > MOST_PATTERNS:
            raise RuleError(f"more than {MOST_PATTERNS} patterns")
        return cls(name, tuple(map(_compiled, patterns)), effect, holds)


class InputRules:
    """Rules that are applied together."""

    def __init__(self, rules: Iterable[InputRule]) -> None:
        self._rules = tuple(rules)

    def __len__(self) -> int:
        return len(self._rules)

    def hits(self, text: str) -> tuple[Hit, ...]:
        """Return what the rules find in `text`, by place."""
        if not self._rules:
            return ()
        normalised, places = normalise(text)
        found = {
            (rule.name, match.span()): _hit(rule, match, places)
            for rule in self._rules
            for pattern in rule.patterns
            for match in _matches(pattern, normalised)
            if match.end() > match.start() and rule.holds(match.group())
        }
        return tuple(sorted(found.values(), key=lambda hit: (hit.start, -hit.end)))


def normalise(text: str) -> tuple[str, list[int]]:
    """Return `text` with compatibility forms and look-alikes replaced and without invisible characters.

    The list has the place in `text` of every character, and at its end the length of `text`.
    """
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isascii():
            characters.append(character)
            places.append(place)
            continue
        folded = FOLDING[character]
        if not folded.units and folded.gap is Gap.NONE:
            continue
        plain = unicodedata.normalize("NFKC", character)
        if folded.script == "spaced" and folded.units.isascii() and not plain.isascii():
            plain = folded.units
        for each in plain:
            characters.append(each)
            places.append(place)
    return "".join(characters), [*places, len(text)]


def without(text: str, hits: Iterable[Hit]) -> str:
    """Return `text` with the hits that act masked or replaced; of overlapping ones the first counts."""
    parts: list[str] = []
    position = 0
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if not hit.acts or hit.end <= position:
            continue
        start = max(hit.start, position)
        parts.append(text[position:start])
        if hit.action == "replace" and start == hit.start:
            parts.append(hit.replacement)
        else:
            parts.append(MASK * (hit.end - start))
        position = hit.end
    return "".join((*parts, text[position:]))


def _matches(pattern: Any, text: str) -> list[Any]:
    found = []
    for match in pattern.finditer(text):
        found.append(match)
        if len(found) == MOST_HITS:
            break
    return found


def _hit(rule: InputRule, match: Any, places: list[int]) -> Hit:
    return Hit(
        rule=rule.name,
        entry="",
        action=rule.effect.action,
        start=places[match.start()],
        end=places[match.end() - 1] + 1,
        shadow=rule.effect.shadow,
        notice=rule.effect.notice,
        replacement=rule.effect.replacement,
    )


def _compiled(pattern: str) -> Any:
    if len(pattern) > LONGEST_PATTERN:
        raise RuleError(f"a pattern is longer than {LONGEST_PATTERN} characters")
    import re2  # where there are rules only: it takes 3 MB

    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid"
        raise RuleError(
            f"cannot compile {pattern[:80]}: {reason.decode() if isinstance(reason, bytes) else reason}"
        ) from None
