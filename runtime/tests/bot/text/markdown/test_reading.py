"""Blocks of Markdown as models write it."""

from __future__ import annotations

import pytest
from hypothesis import given

from clawd_runtime.bot.text.markdown.blocks import Code, Heading, ItemMarker, Paragraph, Place, Rule, Table
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.text.markdown.rich_text import RichText, Span
from tests.bot.text.markdown.documents import texts


def styles(source: str) -> list[tuple[str, str, str]]:
    """Return style, text and detail of the spans of the only paragraph."""
    (paragraph,) = read_markdown(source)
    assert isinstance(paragraph, Paragraph | Heading)
    text = paragraph.text
    return [(span.style, text.text[span.start : span.end], span.detail) for span in text.spans]


def plain(source: str) -> list[str]:
    return [block.text.text for block in read_markdown(source) if isinstance(block, Paragraph | Heading)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "**a** *b* ~~c~~ `d`",
            [("bold", "a", ""), ("italic", "b", ""), ("strike", "c", ""), ("code", "d", "")],
        ),
        ("**a *b* c**", [("bold", "a b c", ""), ("italic", "b", "")]),
        ("**a `b` c**", [("bold", "a ", ""), ("code", "b", ""), ("bold", " c", "")]),
        ("# a **b**", [("bold", "a b", "")]),
        ("[`a` b](https://example.com)", [("link", "a b", "https://example.com")]),
        ("![a](https://example.com/a.png)", [("link", "a", "https://example.com/a.png")]),
        ("[](https://example.com)", [("link", "https://example.com", "https://example.com")]),
        ("<https://example.com>", [("link", "https://example.com", "https://example.com")]),
        ("(https://example.com/a_b).", [("link", "https://example.com/a_b", "https://example.com/a_b")]),
        ("`https://example.com`", [("code", "https://example.com", "")]),
        ("$x^2$", [("code", "x^2", "")]),
        (r"so \(a_1*b\) is", [("code", "a_1*b", "")]),
        ("**cut", []),
        ("a `cut", []),
        ("[cut](https://exam", [("link", "https://exam", "https://exam")][:0]),
        ("**名称：**值，**注意:**请", [("bold", "名称：", ""), ("bold", "注意:", "")]),
        ("值**“名称”**的**（a）**", [("bold", "“名称”", ""), ("bold", "（a）", "")]),
        ("snake_case_name 2 * 3 * 4", []),
        ("3~5 days, 6~8 days", []),
        ("from $5-$6, $100到$200", []),
        (r"f\(x\)", []),
    ],
)
def test_inline_styles(source: str, expected: list[tuple[str, str, str]]) -> None:
    assert styles(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a\nb  \nc<br>d", ["a\nb\nc\nd"]),
        ("<b>a</b> <at id=all></at>", ["<b>a</b> <at id=all></at>"]),
        ("<div>\n<p>a</p>\n</div>", ["<div>\n<p>a</p>\n</div>"]),
        ("[a](tg://user?id=1)", ["a (tg://user?id=1)"]),
        ('[a](/path "title")', ["a (/path, title)"]),
        ("[a](https://example.com 'title')", ["a (title)"]),
        ("[a](http://localhost:8080/)", ["a (http://localhost:8080/)"]),
        ("a[^1]\n\n[^1]: note", ["a[1]", "[1] note"]),
        ("[a]: https://example.com\n\n[b]: /b", ["[a]: https://example.com\n[b]: /b"]),
        ("[a][]\n\n[a]: https://example.com", ["a"]),
        ("- x\n  [a]: /b\n\n  y", ["x\n[a]: /b", "y"]),
        ("```python main.py\nx\n```", ["main.py"]),
        ("```python", ["python"]),
        ("&amp; &lt;", ["& <"]),
        ("a\x00b\x07c\ud800", ["a\ufffdb c\ufffd"]),
    ],
)
def test_text_without_a_style_is_kept(source: str, expected: list[str]) -> None:
    assert plain(source) == expected


def test_lists_keep_numbers_levels_and_tasks() -> None:
    source = "3. a\n   - b\n     - [x] c\n7. d\n7. e\n\n1) f\n- - g"
    found = [
        (block.text.text, block.place.level, block.place.marker)
        for block in read_markdown(source)
        if isinstance(block, Paragraph)
    ]
    assert found == [
        ("a", 1, ItemMarker("3.")),
        ("b", 2, ItemMarker()),
        ("c", 3, ItemMarker(done=True)),
        ("d", 1, ItemMarker("7.")),
        ("e", 1, ItemMarker("8.")),
        ("f", 1, ItemMarker("1)")),
        ("", 1, ItemMarker()),
        ("g", 2, ItemMarker()),
    ]


def test_blocks_in_an_item_and_in_quotes() -> None:
    found = read_markdown("- a\n\n  ```sh\n  b\n    c\n  ```\n> d\n> > e\n\n> f\n\n---")
    assert found == (
        Paragraph(Place(level=1, marker=ItemMarker()), RichText("a")),
        Code(Place(level=1, gap=True), "b\n  c", "sh"),
        Paragraph(Place(quotes=1, quote=1), RichText("d")),
        Paragraph(Place(quotes=2, quote=1), RichText("e")),
        Paragraph(Place(quotes=1, quote=2, gap=True), RichText("f")),
        Rule(Place(gap=True)),
    )


def test_table_has_cells_for_every_column_and_keeps_superfluous_ones() -> None:
    (table,) = read_markdown("| a | `b\\|c` |\n|---|--:|\n| 1 |\n| 2 | 3<br>4 | 5 |")
    assert isinstance(table, Table)
    assert table.alignments == ("None", "Right")
    assert table.head == (RichText("a"), RichText("b|c", (Span(0, 3, "code"),)))
    assert [[cell.text for cell in row] for row in table.rows] == [["1", ""], ["2", "3\n4 | 5"]]


@pytest.mark.parametrize("source", ["$$\nx^2\n$$", "\\[\nx^2\n\\]", "> \\[\n> x^2\n> \\]"])
def test_displayed_formula_is_a_block_of_code(source: str) -> None:
    (code,) = read_markdown(source)
    assert isinstance(code, Code)
    assert (code.text, code.language) == ("x^2", "latex")


def test_formula_does_not_reach_into_the_next_item() -> None:
    assert plain("- \\(a\n- b\\)") == ["(a", "b)"]


@given(texts)
def test_spans_are_in_order_and_nested(source: str) -> None:
    for block in read_markdown(source):
        texts = [block.text] if isinstance(block, Paragraph | Heading) else []
        if isinstance(block, Table):
            texts += [cell for row in (block.head, *block.rows) for cell in row]
        for text in texts:
            around: list[Span] = []
            assert [(s.start, -s.end) for s in text.spans] == sorted((s.start, -s.end) for s in text.spans)
            for span in text.spans:
                assert 0 <= span.start < span.end <= len(text.text)
                around = [outer for outer in around if outer.end > span.start]
                assert all(
                    outer.end >= span.end and outer.style not in (span.style, "code") for outer in around
                )
                around.append(span)
