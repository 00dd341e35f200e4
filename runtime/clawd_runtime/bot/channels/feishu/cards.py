"""Answers as Feishu cards (JSON 2.0), each with one Markdown element.

Sources: https://open.feishu.cn/document/feishu-cards/card-json-v2-structure and those of inline_markdown.py.
A card may have 30 KB. The documents allow four tables in an element and five in a card; refusals (230099,
11310) have been reported from the fourth table on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from clawd_runtime.bot.channels.feishu.api import size_in_request
from clawd_runtime.bot.channels.feishu.inline_markdown import SEPARATOR, inline_markdown
from clawd_runtime.bot.text.markdown.blocks import (
    Block,
    Code,
    Heading,
    ItemMarker,
    Paragraph,
    Place,
    Rule,
    Table,
)
from clawd_runtime.bot.text.markdown.cutting import MessageLimits, cut
from clawd_runtime.bot.text.markdown.guard import guarded
from clawd_runtime.bot.text.markdown.layout import DONE, laid_out
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.text.markdown.rich_text import RichText
from clawd_runtime.bot.text.markdown.tables import aligned, records
from clawd_runtime.bot.text.splitting import shorten, split
from clawd_runtime.bot.values import Content

LARGEST_MARKDOWN = 26 * 1024
"""Bytes of the Markdown of a card in a request, where it is encoded twice. Other fields take the rest."""
MOST_TABLES = 3
MOST_TABLES_IN_ANSWER = 15
"""Further tables are shown as text, so that an answer does not become dozens of cards."""
LONGEST_SUMMARY = 100
# Parts of a paragraph that alone is too large: every character may be written as a reference of eight bytes.
PARTS = MessageLimits(1200, 4, len)
_BACKTICKS = re.compile(r"(?m)^[^\S\n]*(`{3,})")


def formatted(markdown: str, notes: str = "") -> tuple[Content, ...]:
    """Return Markdown as messages, whose formatting is the content of a card.

    `notes` are plain text below it. None is returned if plain text shows the same, or must be sent.
    """
    return guarded(lambda text: messages(text, notes), markdown)


def messages(markdown: str, notes: str = "") -> tuple[Content, ...]:
    """Return like `formatted`, but raise errors."""
    blocks = read_markdown(markdown)
    if all(_is_plain(block) for block in blocks):
        return ()
    if notes:
        blocks += (Paragraph(Place(gap=True), RichText(notes)),)
    return tuple(_content(card) for card in _cards(_manageable(blocks)))


def beginning(markdown: str) -> str:
    """Return the Markdown of the first card of an answer that is still growing."""
    text = shorten(markdown, LARGEST_MARKDOWN, size_in_request)
    found = guarded(lambda text: _first_card(text), text)
    return found[0].text if found else literal(text)


def literal(text: str) -> str:
    """Return the Markdown of a card that shows `text` as it is."""
    return inline_markdown(RichText(shorten(text, LARGEST_MARKDOWN // 8, size_in_request)))


def plain_card(text: str) -> str | None:
    """Return the content of a card that shows `text` as it is; None if it is too large for one."""
    card = _Card()
    card.takes(Paragraph(Place(), RichText(text)))
    return _content(card).formatting if card.size <= LARGEST_MARKDOWN else None


def _first_card(markdown: str) -> tuple[Content, ...]:
    return tuple(
        Content("".join(card.pieces)) for card in islice(_cards(_manageable(read_markdown(markdown))), 1)
    )


def _is_plain(block: Block) -> bool:
    if not isinstance(block, Paragraph) or block.place.marker or block.place.quotes or block.place.level:
        return False
    return all(
        span.style == "link" and block.text.text[span.start : span.end] == span.detail
        for span in block.text.spans
    )


def _content(card: _Card) -> Content:
    text = laid_out(card.blocks).with_addresses().strip()
    body = {
        "schema": "2.0",
        "config": {
            "update_multi": True,
            "summary": {"content": " ".join(text[: 2 * LONGEST_SUMMARY].split())[:LONGEST_SUMMARY]},
        },
        "body": {"elements": [{"tag": "markdown", "content": "".join(card.pieces)}]},
    }
    return Content(text, json.dumps(body, ensure_ascii=False, separators=(",", ":")))


@dataclass(slots=True)
class _Card:
    """A card that grows. `levels` are the open levels of lists, with the indentation of their content."""

    pieces: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    size: int = 0
    tables: int = 0
    levels: list[tuple[int, int]] = field(default_factory=list)

    def takes(self, block: Block) -> bool:
        """Add a block if the card has room for it."""
        levels = list(self.levels)
        piece = self._separator(block) + self._written(block)
        size = size_in_request(piece)
        tables = self.tables + isinstance(block, Table)
        if self.pieces and (self.size + size > LARGEST_MARKDOWN or tables > MOST_TABLES):
            self.levels = levels
            return False
        self.pieces.append(piece)
        self.blocks.append(block)
        self.size += size
        self.tables = tables
        return True

    def _separator(self, block: Block) -> str:
        if not self.blocks:
            return ""
        before, place = self.blocks[-1].place, block.place
        text = isinstance(block, Paragraph | Heading) and isinstance(self.blocks[-1], Paragraph | Heading)
        if not text or before.quote != place.quote or before.quotes != place.quotes:
            return "\n\n"
        prefix = "> " * place.quotes
        is_item = place.marker is not None and bool(self.levels)
        # A nested list that begins with another number than 1 would continue the paragraph before.
        nested = place.level > before.level
        interrupts = not nested or (place.marker is not None and place.marker.number in ("", "1.", "1)"))
        return "\n" if is_item and interrupts else f"\n{prefix.rstrip()}\n"

    def _written(self, block: Block) -> str:
        match block:
            case Code(_, text, language):
                self.levels.clear()
                return _fenced(text, language)
            case Table():
                self.levels.clear()
                return _table(block)
            case Rule():
                self.levels.clear()
                return "---"
            case Paragraph(place, text):
                return self._indented(place, inline_markdown(text))
            case Heading(place, text, level):
                plain = RichText(text.text, tuple(span for span in text.spans if span.style != "bold"))
                line = inline_markdown(plain.on_one_line())
                return self._indented(place, f"{'#' * level} {line}" if line else "")

    def _indented(self, place: Place, text: str) -> str:
        """Return the lines of a text in its list and quote, relative to the levels that are open here."""
        before = self.blocks[-1].place if self.blocks else place
        # Levels of a list outside of a quote are not open in it.
        if (before.quote, before.quotes) != (place.quote, place.quotes):
            self.levels.clear()
        quotes = "> " * place.quotes
        while self.levels and self.levels[-1][0] >= place.level + (place.marker is None):
            self.levels.pop()
        outer = " " * sum(width for _, width in self.levels)
        if place.marker is None:
            first = rest = quotes + outer
        else:
            mark = _mark(place.marker)
            width = -(-(len(mark) + 1) // 4) * 4
            self.levels.append((place.level, width))
            task = f"{DONE[place.marker.done]} " if place.marker.done is not None else ""
            first, rest = f"{quotes}{outer}{mark} {task}", f"{quotes}{outer}{' ' * width}"
        # An item without content could not contain the blocks after it.
        return f"{first}{text or SEPARATOR}".replace("\n", f"\n{rest}")


def _mark(marker: ItemMarker) -> str:
    return f"{marker.number[:-1]}." if marker.number else "-"


def _fenced(text: str, language: str) -> str:
    fence = max((len(run) for run in _BACKTICKS.findall(text)), default=2) + 1
    return f"{'`' * fence}{language}\n{text}\n{'`' * fence}"


def _table(table: Table) -> str:
    rules = {"Left": ":--", "Right": "--:", "Center": ":-:", "None": "---"}
    rows = [[inline_markdown(cell, is_cell=True) or " " for cell in row] for row in (table.head, *table.rows)]
    rows.insert(1, [rules[alignment] for alignment in table.alignments])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cards(blocks: Iterable[Block]) -> Iterator[_Card]:
    card = _Card()
    for block in blocks:
        if not card.takes(block):
            yield card
            card = _Card()
            card.takes(block)
    if card.blocks:
        yield card


def _manageable(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks so that each fits into a card of its own, and that not too many are tables."""
    tables = 0
    for block in blocks:
        if isinstance(block, Table):
            tables += 1
            if tables > MOST_TABLES_IN_ANSWER:
                yield from _fitting(_as_text(block))
                continue
        yield from _fitting(block)


def _fitting(block: Block) -> Iterator[Block]:
    if isinstance(block, Paragraph | Heading) and _is_short(block.text):
        yield block
        return
    alone = _Card()
    alone.takes(block)
    if alone.size <= LARGEST_MARKDOWN:
        yield block
        return
    match block:
        case Code(place, text, language):
            for number, part in enumerate(_lines_in_parts(text)):
                yield Code(place if number == 0 else _following(place), part, language)
        case Table():
            yield from _fitting_tables(block)
        case Paragraph(place, text) | Heading(place, text):
            for number, piece in enumerate(cut(text, PARTS)):
                yield Paragraph(place if number == 0 else _following(place), piece)
        case Rule():
            yield block


def _is_short(text: RichText) -> bool:
    return len(text.text) <= PARTS.length and len(text.spans) <= PARTS.spans


def _fitting_tables(table: Table) -> Iterator[Block]:
    """Yield a large table as several with the same head, or as text if not even one row fits."""
    half = len(table.rows) // 2
    if half and size_in_request(_table(replace(table, rows=()))) <= LARGEST_MARKDOWN // 4:
        yield from _fitting(replace(table, rows=table.rows[:half]))
        yield from _fitting(replace(table, rows=table.rows[half:], place=_following(table.place)))
    else:
        yield from _fitting(_as_text(table))


def _as_text(table: Table) -> Block:
    text = aligned(table)
    return Paragraph(table.place, records(table)) if text is None else Code(table.place, text)


def _following(place: Place) -> Place:
    return replace(place, marker=None, gap=False)


def _lines_in_parts(text: str) -> Sequence[str]:
    """Return code in parts that fit into a card, between lines if possible, with their indentation."""
    parts: list[str] = []
    lines: list[str] = []
    size = 0
    for line in text.split("\n"):
        for piece in (line,) if size_in_request(line) < LARGEST_MARKDOWN // 2 else _pieces_of(line):
            taken = size_in_request(f"{piece}\n")
            if lines and size + taken > LARGEST_MARKDOWN - 200:
                parts.append("\n".join(lines))
                lines, size = [], 0
            lines.append(piece)
            size += taken
    return (*parts, "\n".join(lines))


def _pieces_of(line: str) -> Sequence[str]:
    return split(line, LARGEST_MARKDOWN // 2, size_in_request)
