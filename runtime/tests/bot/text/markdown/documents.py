"""Markdown for tests: documents whose words are known, arbitrary mixtures of marks, and hostile texts."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

# What can begin, end or continue a construct. No entity references: they name characters by letters.
_MARKS = (
    r"* ** _ __ ~~ ~ ` `` ``` | [ ]( ) ]: [^1] <b> </b> <!-- \( \) \[ \] $ $$ \ a b word 中文 😀 é ![ ***"
)
_BEGINNINGS = ("- ", "+ ", "1. ", "2) ", "> ", "# ", "###### ", " ", "    ", "\t", "- [ ] ", "[^1]: ")
_LINES = (
    "\n",
    "\n\n",
    "```\n",
    "~~~\n",
    "|-|-|\n",
    "| a | b |\n",
    "|---|:-:|\n",
    "<div>\n",
    "---\n",
    "===\n",
    "\r\n",
)
_OTHERS = (
    "3~5",
    ":OK:",
    "http://example.com/a",
    "https://example.org/(q)_r",
    "x" * 60,
    "<at id=all></at>",
    "tg://user?id=1",
)
_INVISIBLE = ("\u200b", "\ufeff", "\u2028", "\x07")
PIECES = (*_MARKS.split(), *_BEGINNINGS, *_LINES, *_OTHERS, *_INVISIBLE)
soups = st.lists(st.sampled_from(PIECES), max_size=120).map("".join)
"""Marks in any order."""
texts = st.one_of(soups, st.text(max_size=300))

HOSTILE: Mapping[str, str] = {
    "nested quotes": "> " * 50_000 + "x",
    "nested lists": "- " * 50_000 + "x",
    "emphasis": "*a _b " * 16_000,
    "alternating emphasis": "*_" * 50_000,
    "brackets": "[" * 100_000,
    "images": "![" * 50_000,
    "unfinished links": "[a](" * 25_000,
    "backticks": "".join("`" * number + " " for number in range(440)),
    "formulas": "\\(" * 50_000,
    "codes in bold": "**" + "`a` " * 25_000 + "**",
    "italics in bold": "**a\n" + "*b*\n" * 20_000 + "**",
    "lazy quote": ">>>> a\n" + "b\n" * 49_000,
    "wide row": "|a|" + "x" * 50_000 + "|\n|-|-|\n" + "|a|b|\n" * 8_000,
    "empty rows": "|" + "a" * 300 + "|b" * 300 + "|\n" + "|-" * 301 + "|\n" + "|\n" * 30_000,
    "headings": "# a\n" * 25_000,
    "addresses": "http://example.com/( " * 4_000,
    "spaces": "    " + " " * 99_000 + "a",
    "tabs": "\t" * 100_000 + "a",
    "definitions": "[a]: b\n" * 14_000,
    "emoji": "😀" * 100_000,
    "combining": "a" + "\u0301" * 99_999,
    "html": "<a " * 33_000,
}


def calls(work: Callable[[], object]) -> int:
    """Return the number of calls of functions that `work` makes: its time, but independent of the machine."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def letters(text: str) -> str:
    """Return the letters of a text: what formatting must keep, in order, apart from the names of marks."""
    return "".join(character for character in text if character.isalpha())


_word = st.text(st.sampled_from("abcdefghijklmnop中文字éß"), min_size=1, max_size=8)
_inline = st.recursive(
    _word,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(" ".join),
        inner.map(lambda text: f"**{text}**"),
        inner.map(lambda text: text if "~" in text else f"~~{text}~~"),
        _word.map(lambda text: f"`{text}`"),
        _word.map(lambda text: f"[{text}](https://example.com/)"),
    ),
    max_leaves=8,
)
_lines = st.lists(_inline, min_size=1, max_size=3).map("\n".join)


def _list_of(items: list[str], *, numbered: bool) -> str:
    shown = (f"{number}. " if numbered else "- " for number in range(1, len(items) + 1))
    return "\n".join(mark + item.replace("\n", "\n   ") for mark, item in zip(shown, items, strict=True))


def _table_of(cells: list[str]) -> str:
    return "\n".join(f"| {cells[row]} | **{cells[row + 1]}** |" for row in (0, 2)).replace(
        "\n", "\n|---|--:|\n"
    )


_block: SearchStrategy[str] = st.recursive(
    st.one_of(
        _lines,
        _inline.map(lambda text: f"## {text}"),
        st.lists(_word, min_size=1, max_size=4).map(lambda lines: "```\n" + "\n  ".join(lines) + "\n```"),
        st.lists(_word, min_size=4, max_size=4).map(
            _table_of
        ),  # narrow enough to keep the order of the cells
        st.just("---"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda items: _list_of(items, numbered=False)),
        st.lists(inner, min_size=1, max_size=4).map(lambda items: _list_of(items, numbered=True)),
        inner.map(lambda text: "> " + text.replace("\n", "\n> ")),
        st.lists(inner, min_size=1, max_size=3).map("\n\n".join),
    ),
    max_leaves=10,
)
documents = st.lists(_block, min_size=1, max_size=6).map("\n\n".join)
"""Well-formed documents."""


def words(document: str) -> list[str]:
    """Return the words of a document of `documents`, in order, without addresses."""
    return re.findall(r"[^\W\d_]+", document.replace("(https://example.com/)", ""))
