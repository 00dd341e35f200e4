"""Splitting of a text with styles into messages."""

from __future__ import annotations

from dataclasses import dataclass

from clawd_runtime.bot.text.markdown.rich_text import RichText, Span
from clawd_runtime.bot.text.splitting import TextLength, best_cut, longest_prefix

WIDEST_INDENTATION = 200


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What a message may have: a length by `measure`, which must be additive over characters, and styles."""

    length: int
    spans: int
    measure: TextLength


def cut(text: RichText, limits: MessageLimits) -> tuple[RichText, ...]:
    """Split a text into parts within `limits`, between paragraphs, lines, sentences or words.

    Only white space around the splits is lost; the first line of code in a part keeps its indentation. A
    style that is split continues in the next part. Parts are never empty, so an empty text has none.
    """
    parts, cutter, start = [], _Cutter(text, limits), 0
    while (start := cutter.begin(start)) < len(text.text):
        end = cutter.end(start)
        visible = len(text.text[start:end].rstrip())
        if visible:
            parts.append(text.part(start, start + visible, cutter.overlapping(end)))
        start = end
    return tuple(parts)


class _Cutter:
    """Finds the parts from first to last, in linear time.

    `_active` are the spans that begin at or before the part's start and end after it; `_next` is the index of
    the first span that begins after it.
    """

    def __init__(self, text: RichText, limits: MessageLimits) -> None:
        self._text = text.text
        self._spans = text.spans
        self._limits = limits
        self._active: list[Span] = []
        self._next = 0

    def begin(self, start: int) -> int:
        """Return the start of the part: behind white space, but before the indentation of code."""
        at = start
        while at < len(self._text) and self._text[at].isspace():
            at += 1
        while self._next < len(self._spans) and self._spans[self._next].start <= at:
            self._active.append(self._spans[self._next])
            self._next += 1
        self._active = [span for span in self._active if span.end > at]
        for code in (span for span in self._active if span.style == "pre"):
            first = max(start, code.start)
            line = max(first, self._text.rfind("\n", first, at) + 1)
            return line if at - line <= WIDEST_INDENTATION else at
        return at

    def end(self, start: int) -> int:
        """Return the end of the part, which white space may precede."""
        window = self._text[start : start + self._limits.length + 2]
        longest = longest_prefix(window, self._limits.length, self._limits.measure)
        room = self._limits.spans - len(self._active)
        beyond = self._next + max(room, 0)
        if beyond < len(self._spans):
            longest = max(1, min(longest, self._spans[beyond].start - start))
        if start + longest >= len(self._text):
            return len(self._text)
        return start + self._between_styles(start, best_cut(window, longest), longest)

    def overlapping(self, end: int) -> list[Span]:
        """Return the spans that overlap the part."""
        last = self._next
        while last < len(self._spans) and self._spans[last].start < end:
            last += 1
        return [*self._active, *self._spans[self._next : last]]

    def _between_styles(self, start: int, length: int, longest: int) -> int:
        """Return `length`, or less if it would split code that fits into one part, or a link."""
        for span in self.overlapping(start + length):
            before = span.start - start
            if span.end <= start + length or span.style not in ("pre", "code", "link"):
                continue
            if before >= longest // 4 and self._fits(span):
                return before
        return length

    def _fits(self, span: Span) -> bool:
        if span.end - span.start > self._limits.length:
            return False
        return self._limits.measure(self._text[span.start : span.end]) <= self._limits.length
