"""Turn marks in the answers of models."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.text.turn_markers import (
    _ENDS,
    _STARTS,
    GrowingTurn,
    plain_markers,
    without_turn_markers,
)


@pytest.mark.parametrize("mark", _ENDS)
def test_end_of_turn_mark_ends_answer(mark: str) -> None:
    assert without_turn_markers(f"Paris.{mark}") == "Paris."
    assert without_turn_markers(f"Paris.{mark}\nuser: and Rome?") == "Paris."


@pytest.mark.parametrize("mark", _STARTS)
def test_invented_turn_is_removed(mark: str) -> None:
    assert without_turn_markers(f"Paris.\n{mark}user\nAnd Rome?") == "Paris.\n"
    assert without_turn_markers(f"{mark}assistant\nParis.") == "Paris."


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Paris.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nRome?", "Paris."),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nParis.", "Paris."),
        ("<|assistant|>\n你好<|user|>\n再见", "你好"),
        ("Paris.</s>", "Paris."),
        ("<s> Paris.</s>", "Paris."),
        ("Paris.\n[INST] and Rome? [/INST] Rome.", "Paris.\n"),
        ("<|im_end|>", ""),
        ("Paris.<|im_end|>\nWhat about Rome?", "Paris."),
        ("Paris.\n<|user|>\nWhat about Rome?", "Paris.\n"),
        ("Paris. <|im_end|>\n<|im_start|>user\nRome?", "Paris. "),
        ("Here it is:\n<|im_end|>\n<|im_start|>user\nRome?", "Here it is:\n"),
        ("The format is:\n<|begin_of_text|>\nHi<|eot_id|>", "The format is:\n<|begin_of_text|>\nHi"),
        ("<|assistant|>\nassistant professors teach", "assistant professors teach"),
    ],
)
def test_answer_without_its_marks(text: str, answer: str) -> None:
    assert without_turn_markers(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "Write `<|im_end|>` after each turn.",
        "Write <|im_end|> after each turn.",
        'The mark "<|im_end|>" ends it.',
        "```\n<|im_start|>user\nhello<|im_end|>\n```\nThat is ChatML.",
        "~~~\n<|im_end|>\n~~~",
        "Llama:\n<|begin_of_text|>\n<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\nDone.",
        "ChatML looks like this: <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\ncomes next.",
        "格式如下：\n\n<|im_start|>user\n你好<|im_end|>\n就这样。",
        "A text begins with\n<|begin_of_text|>\nand goes on.",
        "The marks:\n- <|im_start|>\n- <|im_end|>\nThat is all.",
        "It ends with <|im_end|>\nand then the next turn begins.",
        "Put <|im_start|>user or <|im_start|> assistant before each message.",
    ],
)
def test_answer_that_explains_marks_is_unchanged(text: str) -> None:
    assert without_turn_markers(text) == text
    assert GrowingTurn().of(text) == text
    read = plain_markers(text)
    assert "<|im_" not in read
    assert read.replace("\u2060", "") == text


@pytest.mark.parametrize(
    "mark",
    [
        *("</s>", "<s>", "<|channel|>", "<|message|>", "<|developer|>", "<|tool|>", "[TOOL_CALLS]"),
        *("[TOOL_RESULTS]", "[AVAILABLE_TOOLS]", "<|constrain|>", "<|python_tag|>", "<|of_a_new_model|>"),
        *("<tool_call>", "<｜tool▁calls▁begin｜>", "[gMASK]", "<sop>", "<|channel>", "<channel|>"),
    ],
)
def test_marks_in_text_for_models_are_neutralised(mark: str) -> None:
    read = plain_markers(f"a {mark}user\nb{mark}")
    assert mark not in read
    assert read.replace("\u2060", "") == f"a {mark}user\nb{mark}"
    assert plain_markers(read) == read


@pytest.mark.parametrize("text", ["f <| x |> g", "a <b> c </b>", "x[ARG]", "1 <|> 2", "[TODO] <pre>"])
def test_text_without_marks_is_unchanged_for_models(text: str) -> None:
    assert plain_markers(text) == text


@pytest.mark.parametrize("mark", ["", *_ENDS, *_STARTS, "</s>"])
def test_growing_answer_is_shown_without_marks_and_soon(mark: str) -> None:
    turn, shown = GrowingTurn(), ""
    text = "word " * 100 + mark
    for size in range(1, len(text) + 1):
        grown = turn.of(text[:size])
        if grown is not None:
            shown = grown
        assert "word " * 100 + mark[:1] not in shown or not mark
        assert size - len(shown) <= len(mark) + size // 32 + 1
    assert without_turn_markers(text) == "word " * 100


@pytest.mark.parametrize(
    "line",
    [
        '<p class="note">text</p>\n',
        "items |> Enum.map(&work/1)\n",
        "The mark `<|im_end|>` ends a turn.\n",
        "Use <s>this</s> that.\n",
        "a[~b] `<|x",
    ],
)
def test_growing_answer_takes_linear_time(line: str) -> None:
    text = line * (30_000 // len(line))
    turn, begun = GrowingTurn(), time.process_time()
    for size in range(3, len(text), 3):
        turn.of(text[:size])
    assert time.process_time() - begun < 2.0


@pytest.mark.parametrize(
    "text",
    [
        "<s>",
        "<|im_end|> ",
        "`",
        "``` `\n",
        " ",
        "<",
        "[INST]\n",
        "</s>",
        "a<|user|>b",
        "`<|user|> `\n",
        ": <|user|>\n",
    ],
)
def test_repetitive_text_is_processed_quickly(text: str) -> None:
    begun = time.process_time()
    GrowingTurn().of(text * (200_000 // len(text)) + "<")
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize(
    "text", ["a <s>b</s>", "<s>a</s> b", "1 < 2", "x[0]", "a <b> [c]", "assistant: hi", ""]
)
def test_text_without_marks_is_unchanged(text: str) -> None:
    assert without_turn_markers(text) == text


@pytest.mark.parametrize("mark", ["<|im_end|>", "<end_of_turn>", "</s>", "<｜end▁of▁sentence｜>"])
def test_incomplete_mark_is_not_shown(mark: str) -> None:
    for size in range(1, len(mark) + 1):
        assert GrowingTurn().of(f"Paris.{mark[:size]}") == "Paris."


@given(
    st.lists(st.sampled_from([*_ENDS, *_STARTS, "</s>", "`", "\n", " ", "user", "a", "<", "|"])).map("".join)
)
def test_plain_markers_leaves_no_mark(text: str) -> None:
    for read in (plain_markers(text), plain_markers(without_turn_markers(text))):
        assert not any(mark in read for mark in _ENDS + _STARTS)
        assert plain_markers(read) == read
