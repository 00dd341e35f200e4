"""Layout of blocks as one text with styles, for platforms without lists, headings and tables."""

from __future__ import annotations

from collections.abc import Iterable

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
from clawd_runtime.bot.text.markdown.rich_text import RichText, RichTextBuilder
from clawd_runtime.bot.text.markdown.tables import aligned, records

BULLETS = ("•", "◦", "▪")
DONE = {False: "☐", True: "☑"}
RULE = "———"
INDENT = "   "
INNER_QUOTE = "> "


def laid_out(blocks: Iterable[Block]) -> RichText:
    """Return the blocks as one text: bullets, indentation, quotes and code as styles, tables as text."""
    built = RichTextBuilder()
    quote, quote_start = 0, 0
    for block in blocks:
        place = block.place
        if place.quote != quote:
            if quote:
                built.mark(quote_start, "quote")
            _separate(built, place)
            quote, quote_start = place.quote, built.length
        else:
            _separate(built, place)
        _add(built, block)
    if quote:
        built.mark(quote_start, "quote")
    return built.built()


def _separate(built: RichTextBuilder, place: Place) -> None:
    if built.length:
        built.add("\n\n" if place.gap else "\n")


def _add(built: RichTextBuilder, block: Block) -> None:
    first, indent = _indents(block.place)
    match block:
        case Paragraph(_, text) | Heading(_, text):
            built.add(first)
            built.add_rich(text.indented(indent))
        case Code(_, text, language):
            _add_code(built, first, text, language)
        case Table():
            if (fitting := aligned(block)) is not None:
                _add_code(built, first, fitting, "")
            else:
                built.add(first)
                built.add_rich(records(block).indented(indent))
        case Rule():
            built.add(f"{first}{RULE}")


def _add_code(built: RichTextBuilder, first: str, text: str, language: str) -> None:
    """Add a block of code, which is not indented: it should be possible to copy it."""
    if first.strip():
        built.add(f"{first.rstrip()}\n")
    start = built.length
    built.add(text)
    built.mark(start, "pre", language)


def _indents(place: Place) -> tuple[str, str]:
    """Return what stands before the first line of a block, and before its other lines."""
    quotes = INNER_QUOTE * (place.quotes - 1)
    if place.marker is None:
        indent = quotes + INDENT * place.level
        return indent, indent
    outer = quotes + INDENT * (place.level - 1)
    return f"{outer}{_shown(place.marker, place.level)} ", outer + INDENT


def _shown(marker: ItemMarker, level: int) -> str:
    bullet = marker.number or BULLETS[(level - 1) % len(BULLETS)]
    if marker.done is None:
        return bullet
    return f"{marker.number} {DONE[marker.done]}".lstrip()
