"""The blocks of a Markdown document, as a flat sequence: nesting is a property of each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clawd_runtime.bot.text.markdown.rich_text import RichText

Alignment = Literal["None", "Left", "Center", "Right"]

DEEPEST_LIST = 6
"""List items nested more deeply are shown at this level."""
DEEPEST_QUOTE = 3
"""Quotes nested more deeply are shown at this level."""


@dataclass(frozen=True, slots=True)
class ItemMarker:
    """The beginning of a list item. `number` is `3.` or `3)`, or empty; `done` is None if it is no task."""

    number: str = ""
    done: bool | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a block.

    `level` counts the list items that contain it, `quotes` the quotes. `quote` numbers the outermost quote
    (0: none). `marker` is set for the first block of an item. `gap`: an empty line precedes it.
    """

    level: int = 0
    quotes: int = 0
    quote: int = 0
    marker: ItemMarker | None = None
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph. The text of an item without content is empty."""

    place: Place
    text: RichText


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 6; its text is bold."""

    place: Place
    text: RichText
    level: int


@dataclass(frozen=True, slots=True)
class Code:
    """A block of code without the final line break. `language` has only letters, digits and `_+#.-`."""

    place: Place
    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. All rows have as many cells as `alignments`; cells may contain line breaks."""

    place: Place
    head: tuple[RichText, ...]
    rows: tuple[tuple[RichText, ...], ...]
    alignments: tuple[Alignment, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line."""

    place: Place


Block = Paragraph | Heading | Code | Table | Rule
