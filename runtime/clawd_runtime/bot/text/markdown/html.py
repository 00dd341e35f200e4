"""Blocks as HTML, for the page in the browser.

Only the elements and attributes that are written here can occur: text and addresses are escaped, and HTML in
the source is text. There are no `style` attributes, which the page's Content-Security-Policy would block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape

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
from clawd_runtime.bot.text.markdown.guard import LONGEST, PANIC
from clawd_runtime.bot.text.markdown.layout import DONE
from clawd_runtime.bot.text.markdown.links import is_clickable
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.text.markdown.rich_text import RichText, Span, Style

log = logging.getLogger(__name__)

ELEMENTS: dict[Style, str] = {
    "quote": "q",
    "pre": "code",
    "code": "code",
    "bold": "strong",
    "italic": "em",
    "strike": "s",
}
# Answers are below the headings of the page itself.
HIGHEST_HEADING = 3


def html_of(markdown: str) -> tuple[str, ...]:
    """Return Markdown as elements of HTML, one for each outermost block; plain text if that fails."""
    if len(markdown) > LONGEST:
        return plain(markdown)
    try:
        return elements(read_markdown(markdown)) or plain(markdown)
    except Exception:
        log.exception("internal error: an answer is shown without formatting")
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        log.exception("internal error: an answer is shown without formatting")
    return plain(markdown)


def plain(text: str) -> tuple[str, ...]:
    """Return text as one element, with its line breaks."""
    return (f'<p class="plain">{escape(text)}</p>',)


def elements(blocks: Iterable[Block]) -> tuple[str, ...]:
    """Return blocks as elements of HTML, one for each outermost block."""
    written = _Elements()
    for block in blocks:
        written.add(block)
    return written.finished()


@dataclass(slots=True)
class _List:
    """An open list: its element and the number of its last item."""

    name: str
    number: int = 0


@dataclass(slots=True)
class _Elements:
    """Nests blocks in quotes and lists. A list is within the quotes of its blocks."""

    _done: list[str] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)
    _quote: int = 0
    _quotes: int = 0
    _lists: list[_List] = field(default_factory=list)

    def finished(self) -> tuple[str, ...]:
        self._close(0, 0)
        return tuple(self._done)

    def add(self, block: Block) -> None:
        place = block.place
        if place.quote != self._quote:
            self._close(0, 0)
        elif place.quotes != self._quotes:
            self._close(place.quotes, 0)
        self._quote = place.quote
        while self._quotes < place.quotes:
            self._pieces.append("<blockquote>")
            self._quotes += 1
        self._enter_list(place)
        self._pieces.append(_element(block))
        if not self._quotes and not self._lists:
            self._flush()

    def _enter_list(self, place: Place) -> None:
        if place.marker is None:
            self._close(place.quotes, place.level)
            while len(self._lists) < place.level:
                self._open_list(ItemMarker())
            return
        self._close(place.quotes, max(place.level, 1))
        while len(self._lists) < place.level - 1:
            self._open_list(ItemMarker())
        name = _list_name(place.marker)
        if len(self._lists) == max(place.level, 1):
            if self._lists[-1].name == name:
                self._pieces.append("</li>")
                self._open_item(place.marker)
                return
            self._close(place.quotes, len(self._lists) - 1)
        self._open_list(place.marker)

    def _open_list(self, marker: ItemMarker) -> None:
        name = _list_name(marker)
        self._lists.append(_List(name))
        self._pieces.append(f"<{name}>")
        self._open_item(marker)

    def _open_item(self, marker: ItemMarker) -> None:
        current = self._lists[-1]
        value = ""
        if marker.number:
            number = int(marker.number[:-1])
            value = "" if number == current.number + 1 else f' value="{number}"'
            current.number = number
        kind = "" if marker.done is None else ' class="task"'
        self._pieces.append(f"<li{value}{kind}>")
        if marker.done is not None:
            self._pieces.append(f'<span class="box">{DONE[marker.done]}</span>')

    def _close(self, quotes: int, lists: int) -> None:
        """Close lists until `lists` are open, and quotes, which contain them, until `quotes` are."""
        while len(self._lists) > lists:
            self._pieces.append(f"</li></{self._lists.pop().name}>")
        while self._quotes > quotes:
            self._pieces.append("</blockquote>")
            self._quotes -= 1
        if not self._quotes and not self._lists:
            self._flush()

    def _flush(self) -> None:
        if self._pieces:
            self._done.append("".join(self._pieces))
            self._pieces.clear()


def _list_name(marker: ItemMarker) -> str:
    return "ol" if marker.number else "ul"


def _element(block: Block) -> str:
    match block:
        case Paragraph(_, text):
            return f"<p>{_inline(text)}</p>" if text.text else ""
        case Heading(_, text, level):
            name = f"h{min(6, level + HIGHEST_HEADING - 1)}"
            plain = RichText(text.text, tuple(span for span in text.spans if span.style != "bold"))
            return f"<{name}>{_inline(plain)}</{name}>"
        case Code(_, text, language):
            # It can be scrolled with the keyboard only if it can have the focus.
            return (
                f'<figure class="code"><figcaption>{escape(language)}</figcaption>'
                f'<pre tabindex="0"><code>{escape(text)}</code></pre></figure>'
            )
        case Table():
            return _table(block)
        case Rule():
            return "<hr>"


def _table(table: Table) -> str:
    classes = {"Left": "", "None": "", "Right": ' class="right"', "Center": ' class="center"'}
    aligned = [classes[alignment] for alignment in table.alignments]

    def row(cells: Iterable[RichText], name: str) -> str:
        written = (
            f"<{name}{kind}>{_inline(cell)}</{name}>" for cell, kind in zip(cells, aligned, strict=True)
        )
        return f"<tr>{''.join(written)}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return (
        f'<div class="table" tabindex="0"><table><thead>{row(table.head, "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _inline(text: RichText) -> str:
    return "".join(_pieces(text))


def _pieces(text: RichText) -> Iterator[str]:
    """Yield the text between the beginnings and ends of its styles, with their tags."""
    done, opened = 0, list[tuple[int, str]]()
    for span in text.spans:
        opening, closing = _tags(span)
        while opened and opened[-1][0] <= span.start:
            end, tag = opened.pop()
            yield _escaped(text.text[done:end]) + tag
            done = end
        yield _escaped(text.text[done : span.start]) + opening
        done = span.start
        # An element never ends after the one that contains it.
        opened.append((min(span.end, opened[-1][0] if opened else span.end), closing))
    while opened:
        end, tag = opened.pop()
        yield _escaped(text.text[done:end]) + tag
        done = end
    yield _escaped(text.text[done:])


def _tags(span: Span) -> tuple[str, str]:
    if span.style != "link":
        name = ELEMENTS[span.style]
        return f"<{name}>", f"</{name}>"
    if not is_clickable(span.detail):
        return "", ""
    address = escape(span.detail, quote=True)
    return f'<a href="{address}" target="_blank" rel="noopener noreferrer nofollow">', "</a>"


def _escaped(text: str) -> str:
    return escape(text).replace("\n", "<br>")
