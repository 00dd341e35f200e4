"""Tables as text: aligned for a fixed-width font, or as records if they are too wide for that."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from clawd_runtime.bot.text.markdown.blocks import Alignment, Table
from clawd_runtime.bot.text.markdown.rich_text import RichText, RichTextBuilder

WIDEST = 60
"""The width, in columns of a fixed-width font, up to which a table is aligned."""
LARGEST_GROWTH = 4
SMALL = 2000


def display_width(text: str) -> int:
    """Return the columns that `text` takes in a fixed-width font: 2 for each wide East Asian character."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def aligned(table: Table) -> str | None:
    """Return the table with aligned columns; None if it is too wide, or would be mostly spaces."""
    rows = [[cell.on_one_line().with_addresses() for cell in row] for row in (table.head, *table.rows)]
    widths = [max(1, *map(display_width, column)) for column in zip(*rows, strict=True)]
    width = sum(widths) + 3 * (len(widths) - 1)
    written = sum(len(cell) + 3 for row in rows for cell in row)
    if width > WIDEST or width * len(rows) > LARGEST_GROWTH * written + SMALL:
        return None
    head, *body = (_row(row, widths, table.alignments) for row in rows)
    return "\n".join((head, "-+-".join("-" * width for width in widths), *body))


def _row(cells: Sequence[str], widths: Sequence[int], alignments: Sequence[Alignment]) -> str:
    padded = map(_padded, cells, widths, alignments)
    return " | ".join(padded).rstrip()


def _padded(cell: str, width: int, alignment: Alignment) -> str:
    missing = width - display_width(cell)
    left = {"Right": missing, "Center": missing // 2}.get(alignment, 0)
    return f"{' ' * left}{cell}{' ' * (missing - left)}"


def records(table: Table) -> RichText:
    """Return a wide table as a group of lines for each row, each with the name of its column.

    If the names would take most of the text, they are shown once.
    """
    names = sum(len(cell.text) + 4 for cell in table.head)
    written = sum(len(cell.text) + 4 for row in table.rows for cell in row)
    if not table.rows or names * len(table.rows) > LARGEST_GROWTH * (written + names) + SMALL:
        groups = [_joined(row) for row in (table.head, *table.rows)]
    else:
        groups = [_record(table.head, row) for row in table.rows]
    return _lines(groups, "\n" if not table.rows else "\n\n")


def _record(head: Sequence[RichText], row: Sequence[RichText]) -> RichText:
    return _lines([_field(name, cell) for name, cell in zip(head, row, strict=True)], "\n")


def _field(name: RichText, cell: RichText) -> RichText:
    built = RichTextBuilder()
    if name.text.strip():
        built.open("bold")
        built.add(f"{name.on_one_line().with_addresses()}:")
        built.close("bold")
        built.add(" ")
    built.add_rich(cell.indented("  "))
    return built.built()


def _joined(row: Sequence[RichText]) -> RichText:
    return _lines([cell.on_one_line() for cell in row], " | ")


def _lines(texts: Sequence[RichText], between: str) -> RichText:
    built = RichTextBuilder()
    for piece in _separated(texts, between):
        built.add_rich(piece)
    return built.built()


def _separated(texts: Sequence[RichText], between: str) -> Iterator[RichText]:
    for number, text in enumerate(texts):
        if number:
            yield RichText(between)
        yield text
