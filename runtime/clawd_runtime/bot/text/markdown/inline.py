"""Reading of the text of one block: styles, links, formulas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from clawd_runtime.bot.text.markdown.links import is_clickable, with_bare_links
from clawd_runtime.bot.text.markdown.rich_text import RichText, RichTextBuilder, Style

_STYLES: Mapping[str, Style] = {"Emphasis": "italic", "Strong": "bold", "Strikethrough": "strike"}
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ITEM = re.compile(rb"\n[ \t>]*(?:[-+*]|\d{1,9}[.)]|#{1,6})\s")
_NEXT_LINE = re.compile(rb"\n[ \t>]*")
_FORMULA_ENDS = {"(": rb"\)", "[": rb"\]"}
LONGEST_FORMULA = 2000
JOINER = "\ufdd0"
"""A noncharacter, which no text contains; `reading` inserts it into what the parser reads."""


class Inline:
    """The text of one block, built from the parser's events. Positions are bytes of `source`.

    `end` is where its last event ends, `addresses` the targets of its links.
    """

    def __init__(self, source: bytes, start: int, *, is_line: bool = False) -> None:
        self.start = self.end = start
        self.addresses: set[bytes] = set()
        self._source = source
        self._is_line = is_line
        self._builder = RichTextBuilder()
        self._sections: list[RichText | str] = []
        # Open elements of the source: the style that ends with each, None if none does.
        self._styles: list[Style | None] = []
        self._links: list[tuple[str, str, bool, int]] = []
        # The end of a formula in `\(…\)`, whose events are skipped, and where none is found any more.
        self._formula_end = -1
        self._without_end: dict[str, int] = {}

    def open(self, style: Style) -> None:
        """Give the whole text a style."""
        self._builder.open(style)

    def sections(self) -> tuple[RichText | str, ...]:
        """Return the text, or the texts and the displayed formulas (as `str`) between them."""
        self._end_section()
        return tuple(self._sections) or (RichText(""),)

    def text(self) -> RichText:
        """Return the text of a block that cannot contain displayed formulas."""
        return with_bare_links(self._builder.built())

    def begin(self, name: str, data: Any, start: int, end: int) -> None:
        """Handle the start of an element."""
        if name in ("Link", "Image"):
            if start >= self._formula_end:
                self._begin_link(name, data)
            else:
                self._links.append(("", "", False, -1))
        elif (style := _STYLES.get(name)) is not None:
            self._begin_style(style, start)
        self.end = max(self.end, start)

    def finish(self, name: str, start: int, end: int) -> None:
        """Handle the end of an element."""
        if name in ("Link", "Image"):
            self._end_link()
        elif name in _STYLES:
            style = self._styles.pop() if self._styles else None
            if style is not None:
                self._builder.close(style)
            elif self._is_single_tilde(name, start):
                self._builder.add("~")
        self.end = max(self.end, end)

    def add(self, kind: str, value: str, start: int, end: int) -> None:
        """Handle a piece of text."""
        before, self.end = self.end, max(self.end, end)
        if end <= self._formula_end:
            return
        match kind:
            case "Text":
                self._add_text(value, before, start)
            case "Code":
                self._builder.add_code(value)
            case "InlineMath" if self._source[end : end + 1].isdigit():
                self._builder.add(f"${value}$")  # two amounts of money
            case "InlineMath":
                self._add_formula(value, is_displayed=False)
            case "DisplayMath":
                self._add_formula(value, is_displayed=True)
            case "InlineHtml" | "Html":
                self._builder.add("\n" if _LINE_BREAK.fullmatch(value) else value)
            case "FootnoteReference":
                self._builder.add(f"[{value}]")
            case "SoftBreak" | "HardBreak":
                self._builder.add(" " if self._is_line else "\n")

    def _begin_style(self, style: Style, start: int) -> None:
        skipped = start < self._formula_end
        single = style == "strike" and self._source[start : start + 2] != b"~~"
        if single and not skipped:
            self._builder.add("~")
        if skipped or single or self._builder.is_open(style):
            self._styles.append(None)
        else:
            self._builder.open(style)
            self._styles.append(style)

    def _is_single_tilde(self, name: str, start: int) -> bool:
        """Return whether an element is `~3~`, which is usually two numbers "about 3"."""
        is_single = name == "Strikethrough" and self._source[start : start + 2] != b"~~"
        return is_single and start >= self._formula_end

    def _begin_link(self, name: str, data: Mapping[str, str]) -> None:
        address = data["dest_url"]
        if data["link_type"] == "Email":
            address = f"mailto:{address}"
        self.addresses.add(address.encode())
        is_link = is_clickable(address) and not self._builder.is_open("link")
        if is_link:
            self._builder.open("link", address)
        self._links.append((address, data["title"], is_link, self._builder.pieces))

    def _end_link(self) -> None:
        address, title, is_link, pieces = self._links.pop() if self._links else ("", "", False, -1)
        if pieces < 0:
            return
        label = self._builder.since(pieces)
        if not label.strip():
            self._builder.add(address)
        if is_link:
            self._builder.close("link")
        known = {label.strip(), f"mailto:{label.strip()}", ""} | ({address} if is_link else set())
        extra = [text for text in (address, title.strip()) if text not in known and label.strip()]
        if extra:
            self._builder.add(f" ({', '.join(extra)})")

    def _add_text(self, value: str, before: int, start: int) -> None:
        if start < self._formula_end:  # the escaped bracket that ends a formula, and more
            value = value[1:]
        elif value[:1] in _FORMULA_ENDS and self._source[start - 1 : start] == b"\\" and before < start:
            formula = self._formula_at(value[0], start)
            if formula is not None:
                self._add_formula(formula, is_displayed=value[0] == "[")
                return
        self._builder.add(value.replace("\t", " "))

    def _formula_at(self, opening: str, start: int) -> str | None:
        """Return the formula in escaped brackets, after the opening one at `start`; None if there is none."""
        if self._source[start - 2 : start - 1].isalnum() or self._without_end.get(opening, -1) >= start:
            return None
        end = self._source.find(_FORMULA_ENDS[opening], start, start + LONGEST_FORMULA)
        paragraph = self._source.find(b"\n\n", start, start + LONGEST_FORMULA)
        if end < 0 or 0 <= paragraph < end:
            self._without_end[opening] = start + LONGEST_FORMULA - 2 if end < 0 else paragraph
            return None
        written = self._source[start + 1 : end]
        is_short = opening == "(" or self._is_line
        if (is_short and b"\n" in written) or (self._is_line and b"|" in written) or _ITEM.search(written):
            return None  # it ends in another block
        self._formula_end = end + 2
        formula: str = _NEXT_LINE.sub(b"\n", written).decode()
        return formula.replace(JOINER, "")

    def _add_formula(self, formula: str, *, is_displayed: bool) -> None:
        formula = formula.strip()
        if is_displayed and not self._is_line and not self._styles and not self._links:
            self._end_section()
            self._sections.append(formula)
        elif formula:
            self._builder.add_code(" ".join(formula.split()))

    def _end_section(self) -> None:
        text = self._builder.built()
        stripped = text.text.strip()
        if stripped:
            start = text.text.find(stripped)
            self._sections.append(with_bare_links(text.part(start, start + len(stripped))))
        self._builder = RichTextBuilder()
