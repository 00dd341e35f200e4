from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.text.unicode import whole_characters


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_whole_characters_are_unchanged(text: str) -> None:
    assert whole_characters(text) == text


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_stored(text: str) -> None:
    whole_characters(text).encode()


@pytest.mark.parametrize(
    ("text", "whole"),
    [("a\ud83d\ude00b", "a😀b"), ("a\ud83db", "a\ufffdb"), ("\ude00", "\ufffd"), ("a\0b", "a\ufffdb")],
)
def test_surrogates_are_joined_or_replaced(text: str, whole: str) -> None:
    assert whole_characters(text) == whole
