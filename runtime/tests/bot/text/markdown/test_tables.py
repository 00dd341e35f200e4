"""Tables as text."""

from __future__ import annotations

import pytest

from clawd_runtime.bot.text.markdown.blocks import Table
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.text.markdown.tables import aligned, display_width, records


def table(source: str) -> Table:
    (found,) = read_markdown(source)
    assert isinstance(found, Table)
    return found


def test_columns_are_aligned_by_display_width() -> None:
    found = aligned(table("|名称|n|mid|\n|---|--:|:-:|\n|a|1|x|\n|中文字|1000|**y**|"))
    assert found == "名称   |    n | mid\n-------+------+----\na      |    1 |  x\n中文字 | 1000 |  y"
    assert found.splitlines()[1].index("+") == display_width("名称   ")


@pytest.mark.parametrize(
    ("text", "width"), [("ab", 2), ("中", 2), ("é", 1), ("e\u0301", 1), ("😀", 2), ("ｱ", 1)]
)
def test_display_width(text: str, width: int) -> None:
    assert display_width(text) == width


def test_addresses_are_shown_in_an_aligned_table() -> None:
    assert (
        aligned(table("|a|\n|-|\n|[x](https://a.example)|"))
        == "a\n---------------------\nx (https://a.example)"
    )


def test_wide_table_becomes_records_with_links() -> None:
    wide = table(f"|name|text|\n|-|-|\n|one|{'x' * 70}|\n|two|[link](https://a.example)|")
    assert aligned(wide) is None
    found = records(wide)
    assert found.text == f"name: one\ntext: {'x' * 70}\n\nname: two\ntext: link"
    assert [(s.style, found.text[s.start : s.end]) for s in found.spans] == [
        *[("bold", "name:"), ("bold", "text:")] * 2,
        ("link", "link"),
    ]


def test_long_names_of_columns_are_not_repeated() -> None:
    many = table(f"|{'n' * 500}|\n|-|\n" + "|1|\n" * 100)
    assert records(many).text.count("n" * 500) == 1


def test_table_without_rows_shows_its_columns() -> None:
    assert aligned(table("|a|b|\n|-|-|")) == "a | b\n--+--"
    assert records(table("|a|b|\n|-|-|")).text == "a | b"
