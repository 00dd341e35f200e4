"""Splitting of a text with styles."""

from __future__ import annotations

from clawd_runtime.bot.text.markdown.cutting import MessageLimits, cut
from clawd_runtime.bot.text.markdown.layout import laid_out
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.text.markdown.rich_text import RichText
from clawd_runtime.bot.text.splitting import utf16_units


def parts(source: str, length: int, spans: int = 100) -> tuple[RichText, ...]:
    return cut(laid_out(read_markdown(source)), MessageLimits(length, spans, utf16_units))


def shown(found: tuple[RichText, ...]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    return [
        (part.text, [(s.style, part.text[s.start : s.end], s.detail) for s in part.spans]) for part in found
    ]


def test_long_code_continues_as_code_with_its_indentation() -> None:
    assert shown(parts("```py\nif a:\n    b()\n    c()\n```", 14)) == [
        ("if a:\n    b()", [("pre", "if a:\n    b()", "py")]),
        ("    c()", [("pre", "    c()", "py")]),
    ]


def test_code_that_fits_into_one_message_is_not_split() -> None:
    found = parts("some words before\n```\naaa\nbbb\nccc\n```", 24)
    assert [part.text for part in found] == ["some words before", "aaa\nbbb\nccc"]


def test_link_and_inline_code_are_not_split() -> None:
    assert [part.text for part in parts("aa bb cc `dd ee ff gg` hh", 15)] == ["aa bb cc", "dd ee ff gg hh"]


def test_style_continues_in_next_part() -> None:
    assert shown(parts("**aaaa bbbb cccc**", 10)) == [
        ("aaaa bbbb", [("bold", "aaaa bbbb", "")]),
        ("cccc", [("bold", "cccc", "")]),
    ]


def test_part_has_at_most_so_many_styles() -> None:
    found = parts("*a* " * 10, 4096, spans=4)
    assert [len(part.spans) for part in found] == [4, 4, 2]


def test_surrogate_pairs_count_twice_and_are_not_split() -> None:
    assert [part.text for part in parts("😀" * 5, 5)] == ["😀😀", "😀😀", "😀"]


def test_wide_indentation_does_not_fill_messages() -> None:
    assert [part.text for part in parts("\t" * 50_000 + "a", 100)] == ["a"]
