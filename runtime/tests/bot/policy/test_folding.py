from __future__ import annotations

import pytest
from generator.folding_tables import tables

from clawd_runtime.bot.policy.folding.characters import FOLDER, FOLDING, Gap
from clawd_runtime.bot.policy.folding.text import BREAK, LONGEST_GAP, FoldedText


def test_tables_are_those_of_the_generator() -> None:
    for name, content in tables().items():
        assert (FOLDER / name).read_text("utf-8") == content, (
            f"run runtime/generator/folding_tables.py for {name}"
        )


@pytest.mark.parametrize(
    ("characters", "units"),
    [
        ("AaＡａ𝐀ⓐàАа🅐🇦", "a"),
        ("輪轮", "轮"),
        ("一壹①１1㈠", "1"),
        ("〇零0０", "0"),
        ("カｶガ", "カ"),
    ],
)
def test_characters_that_read_the_same_fold_to_one_unit(characters: str, units: str) -> None:
    assert {FOLDING[character].units for character in characters} == {units}


@pytest.mark.parametrize("character", "\u200b\u2060\ufeff\u00ad\u0301\ufe0f\u202e\U000e0041\x07")
def test_invisible_characters_and_decorations_are_ignored(character: str) -> None:
    assert FOLDING[character] == ("", "unspaced", Gap.NONE)


@pytest.mark.parametrize(
    ("character", "gap"),
    [
        ("*", Gap.SYMBOL),
        ("🌸", Gap.SYMBOL),
        ("\u3000", Gap.SPACE),
        ("，", Gap.SEPARATOR),
        ("\n", Gap.SEPARATOR),
    ],
)
def test_other_characters_are_gaps(character: str, gap: Gap) -> None:
    assert FOLDING[character].gap is gap


def test_units_have_the_places_of_their_characters() -> None:
    text = FoldedText("x\u200b")
    text.append("㎏，法")
    assert text.units == "xkg法"
    assert list(zip(text.starts, text.ends, strict=True)) == [(0, 1), (2, 3), (2, 3), (4, 5)]
    assert text.gaps == [Gap.NONE, Gap.NONE, Gap.NONE, Gap.SEPARATOR]


def test_long_gap_is_a_break_however_it_is_divided() -> None:
    gap = "-" * LONGEST_GAP
    whole, divided = FoldedText(f"a{gap}b"), FoldedText("a")
    for character in f"{gap}b":
        divided.append(character)
    assert whole.units == divided.units == f"a{BREAK}b"
