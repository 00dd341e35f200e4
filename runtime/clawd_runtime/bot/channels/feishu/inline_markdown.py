"""Text with styles in the Markdown of Feishu's cards.

That Markdown is CommonMark with tables and strikethrough, but without blocks of HTML. Tags (`<at>`, `<font>`)
and emoji (`:OK:`) have effects; special characters are written as numeric references. Source:
https://open.feishu.cn/document/feishu-cards/card-json-v2-components/content-components/rich-text
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clawd_runtime.bot.text.markdown.rich_text import RichText, Span, Style

MARKS: dict[Style, str] = {"bold": "**", "italic": "*", "strike": "~~"}
# A reference counts as punctuation, so that marks are recognised within words and next to other punctuation.
SEPARATOR = "&#8203;"
_SPECIAL = re.compile(
    r"[\\`<|]|&(?=#|[A-Za-z])|(?<=\S)\*|\*(?=\S)|(?<![^\W_])_|_(?![^\W_])|(?<=\S)~|~(?=\S)|\](?=[(\[:])"
    r"|:(?=[A-Za-z0-9_+-]+:)|#(?=\s*\Z)"
)
_AT_LINE_START = re.compile(r"(?m)^[^\S\n]*(?:([#>+=\-:\[*])|\d{1,9}([.)]))")
_EMPTY_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_LINE_START = re.compile(r"\n[^\S\n]+")
_BACKTICKS = re.compile(r"`+")
_ADDRESS = str.maketrans({"(": "%28", ")": "%29", "|": "%7C", "*": "%2A", "_": "%5F", "~": "%7E"})


def inline_markdown(text: RichText, *, is_cell: bool = False) -> str:
    """Return the Markdown of a text that begins a line, or that is a cell of a table."""
    written = _Writer(text, is_cell=is_cell).written().strip()
    written = _EMPTY_LINES.sub("<br><br>", _LINE_START.sub("\n", written))
    return written.replace("\n", "<br>") if is_cell else written


def _edges(spans: Sequence[Span]) -> frozenset[int]:
    inner = {edge for span in spans if span.style not in MARKS for edge in (span.start, span.end)}
    return frozenset(inner | ({span.start for span in spans} & {span.end for span in spans}))


def _escaped(text: str) -> list[str]:
    """Return the characters of a text, those that could have an effect as references."""
    shown = list(text)
    positions = [found.start() for found in _SPECIAL.finditer(text)]
    positions += [found.start(found.lastindex or 0) for found in _AT_LINE_START.finditer(text)]
    for position in positions:
        shown[position] = f"&#{ord(text[position])};"
    return shown


class _Writer:
    def __init__(self, text: RichText, *, is_cell: bool) -> None:
        self._text = text.text
        self._spans = text.spans
        self._is_cell = is_cell
        self._characters = _escaped(text.text)
        self._pieces: list[str] = []
        self._open: list[Span] = []
        self._done = 0
        # Where code and links begin or end, and where one style follows another.
        self._edges = _edges(text.spans)

    def written(self) -> str:
        """Return the text with marks."""
        for span in filter(None, map(self._trimmed, self._spans)):
            while self._open and self._open[-1].end <= span.start:
                self._close()
            self._copy(span.start)
            if span.style == "code":
                if self._ends_with("`"):
                    self._pieces.append(SEPARATOR)
                self._pieces.append(self._code(self._text[span.start : span.end]))
                self._done = span.end
            else:
                self._begin(span)
        while self._open:
            self._close()
        self._copy(len(self._text))
        return "".join(self._pieces)

    def _trimmed(self, span: Span) -> Span | None:
        """Return the span without white space at its ends, where marks have no effect."""
        if span.style not in MARKS:
            return span
        text = self._text[span.start : span.end]
        start = span.start + len(text) - len(text.lstrip())
        end = span.start + len(text.rstrip())
        return Span(start, end, span.style) if start < end else None

    def _copy(self, end: int) -> None:
        if end <= self._done:
            return
        shown = "".join(self._characters[self._done : end])
        if any(span.style == "link" for span in self._open):
            shown = shown.replace("[", "&#91;").replace("]", "&#93;")
        self._pieces.append(shown)
        self._done = end

    def _begin(self, span: Span) -> None:
        if span.style == "link":
            self._pieces.append("[")
        else:
            before = self._text[span.start - 1 : span.start] if span.start else ""
            is_apart = not before or before.isspace() or self._ends_with(SEPARATOR, *MARKS.values())
            within_word = (
                before.isalnum() and self._text[span.start].isalnum() and span.start not in self._edges
            )
            apart = is_apart or within_word
            self._pieces.append(MARKS[span.style] if apart else SEPARATOR + MARKS[span.style])
        self._open.append(span)

    def _close(self) -> None:
        span = self._open[-1]
        self._copy(span.end)
        self._open.pop()
        if span.style == "link":
            self._pieces.append(f"]({span.detail.translate(_ADDRESS)})")
            return
        after = self._text[span.end : span.end + 1]
        ends_with_outer = bool(self._open) and self._open[-1].end == span.end
        within_word = self._text[span.end - 1].isalnum() and span.end not in self._edges
        is_apart = not after or after.isspace() or ends_with_outer or within_word
        self._pieces.append(MARKS[span.style] if is_apart else MARKS[span.style] + SEPARATOR)

    def _ends_with(self, *ends: str) -> bool:
        return bool(self._pieces) and self._pieces[-1].endswith(ends)

    def _code(self, text: str) -> str:
        text = text.replace("\n", " ")
        fence = "`" * (1 + max((len(run) for run in _BACKTICKS.findall(text)), default=0))
        needs_space = text[0] in " `" or text[-1] in " `"
        if self._is_cell:
            text = text.replace("|", "\\|")
        return f"{fence} {text} {fence}" if needs_space else f"{fence}{text}{fence}"
