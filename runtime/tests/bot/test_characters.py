from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.characters import is_blank, whole_characters


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_what_is_whole_stays(text: str) -> None:
    assert whole_characters(text) == text


@given(st.text(st.characters(codec=None)))
def test_everything_can_be_stored(text: str) -> None:
    whole_characters(text).encode()


@pytest.mark.parametrize(
    ("text", "whole"),
    [("a\ud83d\ude00b", "a😀b"), ("a\ud83db", "a\ufffdb"), ("\ude00", "\ufffd"), ("a\0b", "a\ufffdb")],
)
def test_halves_are_joined_or_replaced(text: str, whole: str) -> None:
    assert whole_characters(text) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "\u200b",
        "\u2060\ufeff\u200d",
        "\x07",
        "\u3164",
        "\u2800 ",
        "\ufe0f",
        "\U000e0041",
        "\u202e",
    ],
)
def test_nothing_to_see(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "\u200b.", "😀", "\U0001fae9", "e\u0301", "한", "\ufffd", "\ue000"])
def test_something_to_see_emoji_of_a_later_unicode_included(text: str) -> None:
    assert not is_blank(text)
