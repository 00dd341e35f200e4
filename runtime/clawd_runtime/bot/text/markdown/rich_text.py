"""Text with styles at positions, and its construction.

Spans are sorted by start, and of two with the same start the outer one comes first. If two overlap, one
contains the other. `code` and `pre` contain no other span, a `link` contains no `code`, and no style contains
itself. These are the rules of Telegram's entities.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Style = Literal["quote", "pre", "link", "bold", "italic", "strike", "code"]
OUTERMOST_FIRST: dict[Style, int] = {
    "quote": 0,
    "pre": 1,
    "link": 2,
    "bold": 3,
    "italic": 4,
    "strike": 5,
    "code": 6,
}


@dataclass(frozen=True, slots=True)
class Span:
    """The style of the characters from `start` to `end` (exclusive).

    `detail` is the address of a link, or the language of `pre`.
    """

    start: int
    end: int
    style: Style
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RichText:
    """Text with styles."""

    text: str
    spans: tuple[Span, ...] = ()

    def part(self, start: int, end: int, spans: Iterable[Span] | None = None) -> RichText:
        """Return the characters from `start` to `end` with their styles.

        `spans` are those that may overlap this part, all by default.
        """
        text = self.text[start:end]
        clipped = (
            replace(span, start=max(span.start - start, 0), end=min(span.end, end) - start)
            for span in (self.spans if spans is None else spans)
            if span.start < end and span.end > start
        )
        return RichText(text, tuple(s for s in clipped if not text[s.start : s.end].isspace()))

    def indented(self, indent: str) -> RichText:
        """Return the text with `indent` before every line but the first."""
        if not indent or "\n" not in self.text:
            return self
        breaks = [index for index, character in enumerate(self.text) if character == "\n"]
        width = len(indent)
        spans = (
            replace(
                span,
                start=span.start + width * bisect_left(breaks, span.start),
                end=span.end + width * bisect_left(breaks, span.end),
            )
            for span in self.spans
        )
        return RichText(self.text.replace("\n", f"\n{indent}"), tuple(spans))

    def on_one_line(self) -> RichText:
        """Return the text with spaces in place of line breaks."""
        return replace(self, text=self.text.replace("\n", " "))

    def with_addresses(self) -> str:
        """Return the text with the address behind the label of every link that has another label."""
        pieces, done = [], 0
        for link in (span for span in self.spans if span.style == "link"):
            pieces.append(self.text[done : link.end])
            done = link.end
            if self.text[link.start : link.end] != link.detail:
                pieces.append(f" ({link.detail})")
        return "".join((*pieces, self.text[done:]))


@dataclass(slots=True)
class _Open:
    start: int
    style: Style
    detail: str
    pieces: int


class RichTextBuilder:
    """Builds a text from its beginning to its end."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._spans: list[Span] = []
        self._open: list[_Open] = []
        self._length = 0

    @property
    def length(self) -> int:
        """The number of characters so far."""
        return self._length

    def is_open(self, style: Style) -> bool:
        """Return whether the next characters have this style."""
        return any(opened.style == style for opened in self._open)

    def open(self, style: Style, detail: str = "") -> None:
        """Give the following characters a style, which they must not have yet."""
        self._open.append(_Open(self._length, style, detail, len(self._pieces)))

    def close(self, style: Style) -> None:
        """End an open style, and those that were opened within it."""
        while self._open:
            opened = self._open.pop()
            self._end(opened)
            if opened.style == style:
                break

    def add(self, text: str) -> None:
        """Append text with the open styles."""
        if text:
            self._pieces.append(text)
            self._length += len(text)

    def add_code(self, text: str) -> None:
        """Append inline code without other styles; within a link, append plain text."""
        if self.is_open("link"):
            return self.add(text)
        for opened in self._open:
            self._end(opened)
        start = self._length
        self.add(text)
        self.mark(start, "code")
        for opened in self._open:
            opened.start = self._length
        return None

    def add_rich(self, text: RichText) -> None:
        """Append text with its own styles."""
        at = self._length
        self._spans += (replace(span, start=span.start + at, end=span.end + at) for span in text.spans)
        self.add(text.text)

    def mark(self, start: int, style: Style, detail: str = "") -> None:
        """Give the characters since `start` a style. It must not cut an existing span in two."""
        self._spans.append(Span(start, self._length, style, detail))

    def since(self, pieces: int) -> str:
        """Return the text that was appended after the first `pieces` pieces (see `pieces`)."""
        return "".join(self._pieces[pieces:])

    @property
    def pieces(self) -> int:
        """The number of pieces of text so far."""
        return len(self._pieces)

    def built(self) -> RichText:
        """Return the text."""
        while self._open:
            self._end(self._open.pop())
        spans = [span for span in self._spans if span.start < span.end]
        spans.sort(key=lambda span: (span.start, -span.end, OUTERMOST_FIRST[span.style]))
        return RichText("".join(self._pieces), tuple(spans))

    def _end(self, opened: _Open) -> None:
        self._spans.append(Span(opened.start, self._length, opened.style, opened.detail))
