"""The values of a policy: what it forbids, what is then done, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["block", "mask", "replace", "warn"]
STRENGTH: dict[Action, int] = {"warn": 0, "mask": 1, "replace": 2, "block": 3}
MASK = "＊"
"""Shown instead of a character. An ASCII asterisk would be a mark of Markdown."""


@dataclass(frozen=True, slots=True)
class PolicyMessage:
    """A text for the user in both languages of the bot; the bot has its own where one is empty."""

    en: str = ""
    zh: str = ""

    def text(self, language: str) -> str:
        """Return the text in `language`, `en` or `zh`."""
        return self.zh if language == "zh" else self.en


NO_MESSAGE = PolicyMessage()


@dataclass(frozen=True, slots=True)
class WordGroup:
    """Words with a common action. With `shadow` they are counted, and nothing else happens.

    `pinyin` also forbids the words in Latin letters, `homophones` other characters that sound the same.
    `secret`: the words are parts of credentials: they count anywhere, with anything between their letters,
    and are not reported.
    """

    name: str
    words: Sequence[str]
    action: Action = "mask"
    replacement: str = ""
    notice: PolicyMessage = NO_MESSAGE
    shadow: bool = False
    pinyin: bool = False
    homophones: bool = False
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that a policy has found: the group or rule, its entry, and the place in the text."""

    rule: str
    entry: str
    action: Action
    start: int
    end: int
    shadow: bool = False
    notice: PolicyMessage = field(default=NO_MESSAGE, compare=False)
    replacement: str = field(default="", compare=False)

    @property
    def acts(self) -> bool:
        """Return whether the text changes or is blocked because of it."""
        return not self.shadow and self.action != "warn"
