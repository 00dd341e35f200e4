"""Markdown as HTML: what people see, and that nothing else can get into the page."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given

from clawd_runtime.bot.text.markdown import html
from clawd_runtime.bot.text.markdown.blocks import Code, Heading, Paragraph, Rule, Table
from clawd_runtime.bot.text.markdown.html import html_of
from clawd_runtime.bot.text.markdown.reading import read_markdown
from tests.bot.text.markdown.documents import texts

CODE, PRE = '<figure class="code">', '<pre tabindex="0"><code>'
TABLE, TABLE_END = '<div class="table" tabindex="0"><table><thead>', "</tbody></table></div>"
TH, TD = '<th class="right">', '<td class="right">'
REL = ' target="_blank" rel="noopener noreferrer nofollow"'
VOID = {"br", "hr"}
ALLOWED = {
    "p": {"class"}, "h3": set(), "h4": set(), "h5": set(), "h6": set(), "strong": set(), "em": set(),
    "s": set(), "code": set(), "a": {"href", "target", "rel"}, "br": set(), "hr": set(), "ul": set(),
    "ol": set(), "li": {"value", "class"}, "span": {"class"}, "blockquote": set(), "figure": {"class"},
    "figcaption": set(), "pre": {"tabindex"}, "div": {"class", "tabindex"}, "table": set(), "thead": set(),
    "tbody": set(), "tr": set(), "th": {"class"}, "td": {"class"},
}  # fmt: skip


class Checked(HTMLParser):
    """Fails on any element or attribute that answers do not have, and on wrong nesting; keeps the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= ALLOWED[tag]
        for name, value in attrs:
            assert name != "href" or (value or "").startswith(("https://", "http://"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "figcaption" and "☑" not in data and "☐" not in data:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)


def visible(texts: list[str]) -> str:
    return "".join("".join(text.split()) for text in texts)


def written(markdown: str) -> list[str]:
    """Return the texts of the blocks of a document."""
    found = []
    for block in read_markdown(markdown):
        match block:
            case Paragraph() | Heading():
                found.append(block.text.text)
            case Code():
                found.append(block.text)
            case Table():
                found += [cell.text for row in (block.head, *block.rows) for cell in row]
            case Rule():
                pass
    return [text for text in found if "☑" not in text and "☐" not in text]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# A\n## B", ["<h3>A</h3>", "<h4>B</h4>"]),
        ("a **b *c*** `d`", ["<p>a <strong>b <em>c</em></strong> <code>d</code></p>"]),
        ("a\nb", ["<p>a<br>b</p>"]),
        ("1. a\n2. b", ["<ol><li><p>a</p></li><li><p>b</p></li></ol>"]),
        ("3. a\n4. b", ['<ol><li value="3"><p>a</p></li><li><p>b</p></li></ol>']),
        ("- a\n  - b\n- c", ["<ul><li><p>a</p><ul><li><p>b</p></li></ul></li><li><p>c</p></li></ul>"]),
        ("- a\n\n  b", ["<ul><li><p>a</p><p>b</p></li></ul>"]),
        ("1. a\n\n- b", ["<ol><li><p>a</p></li></ol>", "<ul><li><p>b</p></li></ul>"]),
        ("- [x] a", ['<ul><li class="task"><span class="box">☑</span><p>a</p></li></ul>']),
        ("> a\n> - b", ["<blockquote><p>a</p><ul><li><p>b</p></li></ul></blockquote>"]),
        ("> a\n\n> b", ["<blockquote><p>a</p></blockquote>", "<blockquote><p>b</p></blockquote>"]),
        ("> a\n>> b", ["<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"]),
        ("```py\na < b\n```", [f"{CODE}<figcaption>py</figcaption>{PRE}a &lt; b</code></pre></figure>"]),
        (
            "| a | b |\n|---|--:|\n| 1 | 2 |",
            [f"{TABLE}<tr><th>a</th>{TH}b</th></tr></thead><tbody><tr><td>1</td>{TD}2</td></tr>{TABLE_END}"],
        ),
        ("[a](https://example.com/?b=1&c=2)", [f'<p><a href="https://example.com/?b=1&amp;c=2"{REL}>a</a></p>']),
        ("a\n\n---\n\nb", ["<p>a</p>", "<hr>", "<p>b</p>"]),
    ],
)  # fmt: skip
def test_elements_of_a_document(markdown: str, expected: list[str]) -> None:
    assert list(html_of(markdown)) == expected


@pytest.mark.parametrize(
    "markdown",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        '[a](https://example.com/"onmouseover="alert(1))',
        "![a](data:text/html,<script>alert(1)</script>)",
        "<!-- comment -->",
        "```\"><script>alert(1)</script>\na\n```",
        "| <b> |\n|---|\n| <svg onload=alert(1)> |",
        "[<script>](https://example.com)",
        "&lt;script&gt;",
    ],
)  # fmt: skip
def test_html_and_scripts_of_an_answer_are_shown_as_text(markdown: str) -> None:
    html = "".join(html_of(markdown))
    Checked(html)
    for forbidden in ("<script", "<img", "<svg", "<!--"):
        assert forbidden not in html


@given(texts)
def test_any_markdown_gives_only_known_elements_and_its_whole_text(markdown: str) -> None:
    checked = Checked("".join(html_of(markdown)))
    if visible(written(markdown)):
        assert visible(checked.text) == visible(written(markdown))


@given(texts)
def test_elements_are_whole_by_themselves(markdown: str) -> None:
    for element in html_of(markdown):
        Checked(element)


def test_answer_that_cannot_be_formatted_is_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(markdown: str) -> None:
        raise ValueError(markdown)

    monkeypatch.setattr(html, "read_markdown", fail)
    assert html_of("**a** <b>") == ('<p class="plain">**a** &lt;b&gt;</p>',)


def test_very_long_answer_is_shown_as_text() -> None:
    assert html_of("*a* " * 100_000) == (f'<p class="plain">{"*a* " * 100_000}</p>',)
