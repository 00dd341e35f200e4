from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.text.splitting import TextLength, shorten, split, utf8_bytes, utf16_units

TEXT = st.text(alphabet=st.sampled_from("ab .,\n\t。，好😀👩🏽\u200d\u0301é!?;"), max_size=400)
MEASURES = st.sampled_from([utf16_units, utf8_bytes])


@given(TEXT, st.integers(8, 60), MEASURES)
def test_parts_fit_and_lose_only_white_space(text: str, limit: int, measure: TextLength) -> None:
    parts = split(text, limit, measure)
    assert all(part.strip() == part != "" for part in parts)
    assert all(measure(part) <= limit for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


@given(st.text(max_size=300), st.integers(8, 60))
def test_any_text_is_split(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(utf16_units(part) <= limit for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


@given(TEXT)
def test_fitting_text_is_unchanged(text: str) -> None:
    assert split(text, 10_000) == ((text.strip(),) if text.strip() else ())


@given(st.text(max_size=200), st.integers(2, 50))
def test_shorten_returns_fitting_prefix(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert text.startswith(short)
    assert utf16_units(short) <= limit
    assert short == text or utf16_units(text[: len(short) + 1]) > limit


@given(st.text(max_size=100))
def test_measures_match_encodings(text: str) -> None:
    assert utf16_units(text) == len(text.encode("utf-16-le", "surrogatepass")) // 2


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("one two\n\nthree four five", 14, ("one two", "three four", "five")),
        ("line one\nline two", 12, ("line one", "line two")),
        ("It is so. And then it ends", 16, ("It is so.", "And then it ends")),
        ("今天天气很好。我们去公园吧", 9, ("今天天气很好。", "我们去公园吧")),
        ("abcdefghij", 4, ("abcd", "efgh", "ij")),
        ("😀😀😀", 4, ("😀😀", "😀")),
        ("aaaaae\u0301b", 6, ("aaaaa", "e\u0301b")),
        ("aaaa👩\u200d🔬", 8, ("aaaa", "👩\u200d🔬")),
        ("3.14159 is about pi", 10, ("3.14159 is", "about pi")),
    ],
)
def test_preferred_split_positions(text: str, limit: int, parts: tuple[str, ...]) -> None:
    assert split(text, limit) == parts


def test_long_answer_has_minimal_number_of_parts() -> None:
    sentence = "An answer of many sentences, and of some length. "
    parts = split(sentence * 4000, 4096)
    sentences_a_part = (4096 + 1) // len(sentence)
    assert len(parts) == -(-4000 // sentences_a_part)
    assert all(part.endswith(".") for part in parts)
