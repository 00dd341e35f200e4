from __future__ import annotations

import shutil
import subprocess
import unicodedata

import pytest

from clawd_runtime.visible import DEFAULT_IGNORABLE, is_blank, is_drawn


@pytest.mark.parametrize(
    "text",
    [
        *("", " \n", "\u200b", "\u2060\ufeff\u200d", "\x07", "\u3164", "\u2800 ", "\ufe0f", "\u202e"),
        *("\U000e0041", "\u2065", "\ufff0", "\U000e0000", "\U000e0fff", "\u034f", "\u115f\u1160\uffa0"),
    ],
)
def test_invisible_text_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize(
    "text",
    [
        *("a", "\u200b.", "😀", "\U0001fae9", "e\u0301", "한", "\ufffd", "\ue000", "\ufff9a", "\U000e1000"),
        *(" \n!", "~", "\u2801"),
    ],
)
def test_visible_text_is_not_blank(text: str) -> None:
    assert not is_blank(text)


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")
def test_ignorable_characters_match_perls_unicode_tables() -> None:
    program = (
        "for my $c (0..0x10FFFF) { next if $c >= 0xD800 && $c <= 0xDFFF;"
        r' print "$c\n" if chr($c) =~ /\p{Default_Ignorable_Code_Point}/ }'
    )
    printed = subprocess.run(["perl", "-e", program], capture_output=True, text=True, check=True).stdout
    expected = [int(line) for line in printed.split()]
    assert len(expected) > 4000
    assert [code for first, last in DEFAULT_IGNORABLE for code in range(first, last + 1)] == expected


def test_letters_digits_punctuation_and_symbols_are_visible_except_known_fillers() -> None:
    fillers = {"\u115f", "\u1160", "\u2800", "\u3164", "\uffa0"}
    drawn = [
        character
        for character in map(chr, range(0x110000))
        if unicodedata.category(character)[0] in "LNPS" and character not in fillers
    ]
    assert len(drawn) > 100_000
    assert all(map(is_drawn, drawn))
