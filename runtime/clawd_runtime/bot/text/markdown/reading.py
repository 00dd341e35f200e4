r"""Reading of Markdown into blocks.

The parser is pyromark (pulldown-cmark): CommonMark with tables, strikethrough, task lists, footnotes and
formulas; linear in time and not recursive. Its events have byte ranges of the source, which serve to keep
what the events do not contain: numbers of items, definitions of links, formulas in `\(…\)`.

Everything that is written stays: HTML is shown as it is written, definitions that no link uses as lines, an
address that cannot be a link behind its label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pyromark

from clawd_runtime.bot.text.markdown.blocks import (
    DEEPEST_LIST,
    DEEPEST_QUOTE,
    Alignment,
    Block,
    Code,
    Heading,
    ItemMarker,
    Paragraph,
    Place,
    Rule,
    Table,
)
from clawd_runtime.bot.text.markdown.inline import JOINER, Inline
from clawd_runtime.bot.text.markdown.rich_text import RichText
from clawd_runtime.bot.text.unicode import whole_characters

_PARSER = pyromark.Markdown(
    options=pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_TASKLISTS
    | pyromark.Options.ENABLE_FOOTNOTES
    | pyromark.Options.ENABLE_MATH
)
# CommonMark does not recognise the end of `**名称：**值` or the beginning of `值**“名称”**`: the stars stand
# between punctuation and a letter, as they often do in languages without spaces. They are recognised with
# `JOINER` next to them, which is not punctuation.
_CJK = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
_STARS_BEFORE_LETTER = re.compile(rf"([^\w\s*\\])(\*{{1,3}})(?={_CJK})")
_STARS_AFTER_LETTER = re.compile(rf"({_CJK}\*{{1,3}})(?=[^\w\s*\\])")
_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), " ") | {0xFDD0: " "}
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,32}")
_NUMBER = re.compile(rb"(\d{1,9})([.)])")
_EMPTY_LINE = re.compile(rb"\n[ \t>]*\n")
_MARKERS = re.compile(rb"(?m)^(?:[ \t>]|(?:[-+*]|\d{1,9}[.)])[ \t]|\[\^[^\]\n]*\]:)+")
_DEFINED = re.compile(rb"\]:\s*<?([^\s>]+)")


def read_markdown(source: str) -> tuple[Block, ...]:
    """Return the blocks of a Markdown text."""
    text = whole_characters(source).replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROLS)
    if "*" in text:
        text = _STARS_BEFORE_LETTER.sub(rf"\1{JOINER}\2", text)
        text = _STARS_AFTER_LETTER.sub(rf"\1{JOINER}", text)
    reader = _Reader(text.encode())
    joined = JOINER in text
    for event, where in _PARSER.events_with_range(text):
        kind, name, data = _parts_of(event)
        if joined:
            data = _without_joiners(data)
        reader.take(kind, name, data, where["start"], where["end"])
    return reader.finished()


def _parts_of(event: Any) -> tuple[str, str, Any]:
    """Return the kind of an event, the name of its element and its data."""
    if isinstance(event, str):
        return event, "", ""
    ((kind, value),) = event.items()
    if kind not in ("Start", "End"):
        return kind, "", value
    if isinstance(value, str):
        return kind, value, None
    ((name, data),) = value.items()
    return kind, name, data


def _without_joiners(data: Any) -> Any:
    if isinstance(data, str):
        return data.replace(JOINER, "")
    if isinstance(data, dict):
        return {key: _without_joiners(value) for key, value in data.items()}
    return data


@dataclass(slots=True)
class _Item:
    """An open list item, whose marker waits for its first block."""

    marker: ItemMarker | None
    start: int


@dataclass(slots=True)
class _OpenTable:
    alignments: tuple[Alignment, ...]
    rows: list[list[RichText]] = field(default_factory=list)
    end: int = 0


@dataclass(slots=True)
class _OpenCode:
    info: str
    lines: list[str] = field(default_factory=list)


class _Reader:
    """Collects blocks from events. Positions are bytes of the source."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._blocks: list[Block] = []
        # The number of the last item of each open list; -1 if the list is not ordered.
        self._lists: list[int] = []
        self._items: list[_Item] = []
        self._quotes = 0
        self._quote = 0
        self._inline: Inline | None = None
        self._level = 0
        self._table: _OpenTable | None = None
        self._code: _OpenCode | None = None
        self._footnote = ""
        # The end of what has been read, and whether an empty line follows it.
        self._read = 0
        self._gap = False
        self._addresses: set[bytes] = set()

    def finished(self) -> tuple[Block, ...]:
        """Return the blocks."""
        self._end_text()
        self._pass_over(len(self._source))
        return tuple(self._blocks)

    def take(self, kind: str, name: str, data: Any, start: int, end: int) -> None:
        """Handle an event."""
        match kind:
            case "Start":
                self._begin(name, data, start, end)
            case "End":
                self._end(name, start, end)
            case "Rule":
                self._end_text()
                self._pass_over(start)
                self._add(Rule(self._place()), end)
            case "TaskListMarker":
                self._mark_task(done=bool(data), start=start, end=end)
            case _ if self._code is not None:
                self._code.lines.append(data)
            case _:
                self._text(start).add(kind, data, start, end)

    def _begin(self, name: str, data: Any, start: int, end: int) -> None:
        match name:
            case "Paragraph" | "HtmlBlock" | "TableCell":
                self._end_text()
                self._begin_text(start, is_line=name == "TableCell")
            case "Heading":
                self._end_text()
                self._level = int(data["level"][1:])
                self._begin_text(start, is_line=True).open("bold")
            case "CodeBlock":
                self._end_text()
                self._pass_over(start)
                self._code = _OpenCode(data["Fenced"] if isinstance(data, dict) else "")
            case "Table":
                self._end_text()
                self._pass_over(start)
                self._table = _OpenTable(tuple(data))
            case "TableHead" | "TableRow":
                if self._table is not None:
                    self._table.rows.append([])
            case "List":
                self._end_text()
                self._lists.append(-1 if data is None else data - 1)
            case "Item":
                self._begin_item(start)
            case "BlockQuote":
                self._end_text()
                self._quote += self._quotes == 0
                self._quotes += 1
            case "FootnoteDefinition":
                self._end_text()
                self._pass_over(start)
                self._footnote = f"[{data}] "
            case _:
                self._text(start).begin(name, data, start, end)

    def _end(self, name: str, start: int, end: int) -> None:
        match name:
            case "Paragraph" | "HtmlBlock" | "Heading":
                self._end_text()
            case "TableCell":
                self._end_cell(end)
            case "CodeBlock":
                self._end_code(end)
            case "Table":
                self._end_table(end)
            case "List":
                self._end_text()
                self._lists.pop()
            case "Item":
                self._end_text()
                self._flush_marker()
                self._items.pop()
            case "BlockQuote":
                self._end_text()
                self._quotes -= 1
            case "FootnoteDefinition":
                self._end_text()
                self._footnote = ""
            case "TableHead" | "TableRow":
                self._end_row(end)
            case _ if self._inline is not None:
                self._inline.finish(name, start, end)

    def _begin_item(self, start: int) -> None:
        self._end_text()
        self._flush_marker()
        self._pass_over(start)
        number = ""
        if self._lists[-1] >= 0 or self._source[start : start + 1].isdigit():
            written = _NUMBER.match(self._source, start)
            value, mark = (int(written[1]), written[2].decode()) if written else (0, ".")
            # Numbers that do not increase are counted, as in "1. … 1. …".
            value = max(value, self._lists[-1] + 1)
            self._lists[-1] = value
            number = f"{value}{mark}"
        self._items.append(_Item(ItemMarker(number), start))

    def _mark_task(self, *, done: bool, start: int, end: int) -> None:
        if self._items and self._items[-1].marker is not None:
            self._items[-1].marker = ItemMarker(self._items[-1].marker.number, done)
        if self._inline is not None:
            self._inline.end = max(self._inline.end, end)
        else:
            self._text(start).end = end

    def _flush_marker(self) -> None:
        """Show an item that begins with another list, or that is empty."""
        if self._items and self._items[-1].marker is not None:
            if len(self._items) <= DEEPEST_LIST:
                self._blocks.append(Paragraph(self._place(), RichText("")))
            self._items[-1].marker = None

    def _text(self, start: int) -> Inline:
        """Return the open text; open one in an item whose text has no paragraph of its own."""
        return self._inline if self._inline is not None else self._begin_text(start)

    def _begin_text(self, start: int, *, is_line: bool = False) -> Inline:
        if self._table is None:
            self._pass_over(start)
        self._inline = Inline(self._source, start, is_line=is_line)
        if self._footnote and not is_line:
            self._inline.add("Text", self._footnote, start, start)
            self._footnote = ""
        return self._inline

    def _end_text(self) -> None:
        if (inline := self._inline) is None:
            return
        self._inline = None
        self._addresses |= inline.addresses
        level, self._level = self._level, 0
        if level:
            self._add(Heading(self._place(), inline.text(), level), inline.end)
            return
        for section in inline.sections():
            if isinstance(section, RichText):
                self._add(Paragraph(self._place(), section), inline.end)
            else:
                self._add(Code(self._place(), section, "latex"), inline.end)

    def _end_cell(self, end: int) -> None:
        inline, self._inline = self._inline, None
        if inline is not None and self._table is not None and self._table.rows:
            self._addresses |= inline.addresses
            self._table.rows[-1].append(inline.text())
            self._table.end = end

    def _end_row(self, end: int) -> None:
        """Add the cells beyond the last column, which the parser leaves out, to the last cell."""
        if self._table is None or not self._table.rows or not self._table.rows[-1]:
            return
        left = _without_joiners(self._source[self._table.end : end].strip(b" \t\n|").decode())
        if left and self._table.end < end:
            row = self._table.rows[-1]
            row[-1] = RichText(f"{row[-1].text} | {left}", row[-1].spans)

    def _end_code(self, end: int) -> None:
        code, self._code = self._code, None
        if code is None:
            return
        text = "".join(code.lines).removesuffix("\n").expandtabs(4)
        language, _, title = code.info.strip().partition(" ")
        if not _LANGUAGE.fullmatch(language) or not text.strip():
            language, title = "", code.info
        if title.strip():
            self._add(Paragraph(self._place(), RichText(title.strip())), end)
        self._add(Code(self._place(), text, language), end)

    def _end_table(self, end: int) -> None:
        table, self._table = self._table, None
        if table is None or not table.rows:
            return
        width = len(table.alignments)
        head, *rows = (tuple(row[:width] + [RichText("")] * (width - len(row))) for row in table.rows)
        self._add(Table(self._place(), head, tuple(rows), table.alignments), end)

    def _place(self) -> Place:
        """Return the place of the next block, which takes the marker of its item."""
        marker = self._items[-1].marker if self._items else None
        if marker is not None:
            self._items[-1].marker = None
        gap, self._gap = self._gap and bool(self._blocks), False
        return Place(
            level=min(len(self._items), DEEPEST_LIST),
            quotes=min(self._quotes, DEEPEST_QUOTE),
            quote=self._quote if self._quotes else 0,
            marker=marker,
            gap=gap,
        )

    def _add(self, block: Block, end: int) -> None:
        self._blocks.append(block)
        self._read = max(self._read, end)
        while self._read and self._source[self._read - 1 : self._read] in (b"\n", b" ", b"\t"):
            self._read -= 1

    def _pass_over(self, start: int) -> None:
        """Note whether an empty line precedes `start`, and show the definitions before it."""
        if start <= self._read:
            return
        between = self._source[self._read : start]
        self._read = start
        self._gap = self._gap or _EMPTY_LINE.search(between) is not None
        if b"]:" not in between:
            return
        lines = (line.strip() for line in _MARKERS.sub(b"", between).split(b"\n"))
        text = b"\n".join(filter(None, lines))
        if b"]:" in text and not self._all_used(text):
            self._blocks.append(Paragraph(self._place(), RichText(_without_joiners(text.decode()))))

    def _all_used(self, text: bytes) -> bool:
        defined = _DEFINED.findall(text)
        return len(defined) == text.count(b"]:") and self._addresses.issuperset(defined)
