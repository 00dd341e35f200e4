from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawd_runtime.bot.policy.folding.characters import FOLDING
from clawd_runtime.bot.policy.stage import WordStage
from clawd_runtime.bot.policy.values import MASK, WordGroup
from clawd_runtime.bot.policy.words import WordLists

CHINESE = ("法轮功", "色情", "口交", "六四", "一夜情", "地下钱庄")
LATIN = ("porn", "badword", "av")
BY_SOUND = ("地下钱庄",)
TRADITIONAL = {"轮": "輪", "钱": "錢", "庄": "莊"}
NUMERALS = {"六": "陆⑥6６", "四": "肆④4４", "一": "壹①1１"}
PINYIN = {"地": "di", "下": "xia", "钱": "qian", "庄": "zhuang"}
HOMOPHONES = {"地": "第弟", "下": "夏吓", "钱": "前潜", "庄": "装桩"}
LOOK_ALIKES = {"a": "аａ𝒶🅐", "o": "оοｏ𝗼", "p": "рｐ𝐩", "v": "ѵｖ", "n": "ｎ𝐧", "b": "ｂ𝓫", "w": "ｗѡ"}
INVISIBLE = ("", "", "\u200b", "\u2060", "\u00ad", "\ufe0f", "\u0336")
SYMBOLS = ("", "*", "**", "-", "_", "~", "·", "🌸", "#", "+")
SPACES = (" ", "\u3000", "\u00a0", "  ")
SEPARATORS = ("，", ".", "\n", "|", "/", "、")
# None of these characters occurs in a word, alone or by its sound.
FILLERS = (
    "今天的天气很好",
    "我们去散步吧",
    "。",
    "\n\n",
    " ",
    "The sky is clear",
    ", and ",
    "请看",
    "！",
    "2 ",
)


def lists(*groups: WordGroup, allowed: Sequence[str] = ()) -> WordLists:
    return WordLists(groups, allowed)


ALL = lists(
    WordGroup("zh", CHINESE),
    WordGroup("en", LATIN),
    WordGroup("sound", BY_SOUND, pinyin=True, homophones=True),
    allowed=("路口交通", "java"),
)


def passed(words: WordLists, pieces: Sequence[str]) -> list[str]:
    """Return what is visible after each piece and at the end."""
    stage, shown, seen = WordStage(words), "", []
    for piece in pieces:
        shown += stage.feed(piece)
        seen.append(shown)
    return [*seen, shown + stage.finish()]


def checked(words: WordLists, text: str) -> str:
    return passed(words, [text])[-1]


@st.composite
def chinese_variant(draw: st.DrawFn) -> str:
    word = draw(st.sampled_from(CHINESE))
    characters = []
    for character in word:
        forms = [character, TRADITIONAL.get(character, character), *NUMERALS.get(character, "")]
        if word in BY_SOUND:
            forms += [PINYIN[character], PINYIN[character].upper(), *HOMOPHONES[character]]
        characters.append(draw(st.sampled_from(forms)) + draw(st.sampled_from(INVISIBLE)))
    if word in BY_SOUND and any(each.isascii() for each in "".join(characters)):
        return "".join(characters)
    if len(word) > 2 and draw(st.booleans()):
        return draw(st.sampled_from(SEPARATORS)).join(characters)
    # Two numbers with a space between them are two numbers.
    numbers = all(FOLDING[part[0]].script == "spaced" for part in characters)
    gaps = [draw(st.sampled_from((*SYMBOLS, *(() if numbers else SPACES)))) for _ in characters[1:]]
    return "".join(part + gap for part, gap in zip(characters, [*gaps, ""], strict=True))


@st.composite
def latin_variant(draw: st.DrawFn) -> str:
    word = draw(st.sampled_from(LATIN))
    characters = [
        draw(st.sampled_from((letter, letter.upper(), *LOOK_ALIKES.get(letter, ""))))
        + draw(st.sampled_from(INVISIBLE))
        for letter in word
    ]
    if len(word) > 2 and draw(st.booleans()):
        return draw(st.sampled_from((*SPACES, *SEPARATORS))).join(characters)
    gaps = [draw(st.sampled_from(SYMBOLS)) for _ in characters[1:]]
    return "".join(part + gap for part, gap in zip(characters, [*gaps, ""], strict=True))


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=len(text))))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_no_variant_of_a_word_is_ever_visible(data: st.DataObject) -> None:
    before, after = data.draw(st.sampled_from(FILLERS)), data.draw(st.sampled_from(FILLERS))
    variant = data.draw(st.one_of(chinese_variant(), latin_variant()))
    if any("a" <= FOLDING[each].units[:1] <= "z" or FOLDING[each].units.isdigit() for each in variant):
        variant = f" {variant} "  # next to letters or digits it would be another word
    text = before + variant + after
    letters = {character for character in variant if character.isalnum() and character not in before + after}
    final = ""
    for final in passed(ALL, data.draw(pieces_of(text))):
        assert not letters & set(final), final
    assert final.startswith(before)
    assert final.endswith(after)
    assert MASK in final


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_division_into_pieces_makes_no_difference(data: st.DataObject) -> None:
    words = st.sampled_from(
        (*CHINESE, *LATIN, *FILLERS, *SEPARATORS, *SYMBOLS, "路口交通", "java", "法", "色", "口")
    )
    text = "".join(data.draw(st.lists(words, max_size=12)))
    whole = checked(ALL, text)
    steps = passed(ALL, data.draw(pieces_of(text)))
    assert steps[-1] == whole
    assert all(whole.startswith(step) for step in steps)


@pytest.mark.parametrize(
    "text",
    [
        "路口交通信号灯",
        "Learn java and javascript",
        "红色，情绪稳定",
        "颜色。情况如下",
        "颜色 | 情况",
        "the avenue",
        "pornography is one word",
        "1/2 and 3.4",
        "",
    ],
)
def test_ordinary_text_passes_unchanged(text: str) -> None:
    assert checked(ALL, text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("在口交通", "在＊＊通"),
        ("路口交", "路＊＊"),
        ("很色情的", "很＊＊的"),
        ("ok av.", "ok ＊＊."),
        ("看av片", "看＊＊片"),
        ("p.o.r.n!", "＊＊＊＊＊＊＊!"),
        ("第下潜装", "＊＊＊＊"),
        ("di xia qian zhuang", "＊" * 15),
        ("六 四", "＊＊"),
        ("法⓪", "法⓪"),
    ],
)
def test_word_is_masked_and_its_surroundings_are_not(text: str, expected: str) -> None:
    found = checked(ALL, text)
    assert found.replace(MASK, "") == expected.replace(MASK, "")
    assert (MASK in found) == (MASK in expected)


def test_only_what_may_become_a_word_is_held_back() -> None:
    words = lists(WordGroup("w", ("abcd", "法轮功")))
    assert passed(words, ["我", "信", "法", "轮", "椅", "的"]) == [
        "我",
        "我信",
        "我信",
        "我信",
        "我信法轮椅",
        "我信法轮椅的",
        "我信法轮椅的",
    ]


def test_longest_word_decides_the_replacement() -> None:
    words = lists(
        WordGroup("short", ("孔雀",), action="replace", replacement="[鸟]"),
        WordGroup("long", ("孔雀开屏",), action="replace", replacement="[景]"),
    )
    assert passed(words, ["孔雀", "开", "屏了"])[-1] == "[景]了"
    assert checked(words, "孔雀开门") == "[鸟]开门"


def test_block_shows_nothing_from_the_word_on() -> None:
    words = lists(WordGroup("w", ("炸弹制作",), action="block"))
    stage = WordStage(words)
    shown = stage.feed("关于炸弹") + stage.feed("制作的") + stage.feed("方法") + stage.finish()
    assert shown == "关于"
    assert stage.blocked is not None
    assert stage.blocked.entry == "炸弹制作"


def test_block_within_a_longer_masked_word_blocks() -> None:
    words = lists(WordGroup("m", ("大炸弹制作",)), WordGroup("b", ("炸弹",), action="block"))
    stage = WordStage(words)
    stage.feed("大炸弹制作")
    stage.finish()
    assert stage.blocked is not None


@pytest.mark.parametrize("group", [{"shadow": True, "action": "block"}, {"action": "warn"}])
def test_shadow_and_warn_only_record(group: dict[str, Any]) -> None:
    stage = WordStage(lists(WordGroup("w", ("法轮功",), **group)))
    assert stage.feed("我信法輪功。") + stage.finish() == "我信法輪功。"
    assert [(hit.rule, hit.entry, hit.start, hit.end) for hit in stage.hits] == [("w", "法轮功", 2, 5)]


def test_stronger_list_wins_for_the_same_word() -> None:
    words = lists(
        WordGroup("a", ("法轮功",)), WordGroup("b", ("法輪功",), action="block"), WordGroup("c", ("法轮功",))
    )
    stage = WordStage(words)
    stage.feed("法轮功")
    stage.finish()
    assert stage.blocked is not None


@pytest.mark.parametrize("word", ["", "+++", "c++", "a" * 49, "a" + "-" * 30 + "b"])
def test_word_that_cannot_be_matched_is_a_problem(word: str) -> None:
    assert [problem.word for problem in lists(WordGroup("w", ("ok", word))).problems] == [word]


def test_many_symbols_end_a_word_instead_of_being_held_back() -> None:
    words = lists(WordGroup("w", ("法轮功",)))
    assert passed(words, ["法", "-" * 40])[1] == "法" + "-" * 40


def test_invisible_characters_never_end_a_word() -> None:
    words = lists(WordGroup("w", ("法轮功",)))
    assert not set("法轮功") & set(checked(words, ("\u200b" * 100).join("法轮功")))


def test_held_text_stays_bounded() -> None:
    words = lists(WordGroup("w", ("法法",)))
    stage, released = WordStage(words), ""
    for _ in range(200):
        released += stage.feed("法")
    assert len(released) >= 198
