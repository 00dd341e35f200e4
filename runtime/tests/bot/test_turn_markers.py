"""Turn marks in the answers of models."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.turn_markers import _ENDS, _HINTS, _STARTS, plain_markers, without_turn_markers


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
    assert without_turn_markers(text, growing=True) == text
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


def test_every_mark_contains_a_hint() -> None:
    assert all(any(hint in mark for hint in _HINTS) for mark in (*_ENDS, *_STARTS, "<s>", "</s>"))


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
    without_turn_markers(text * (200_000 // len(text)) + "<", growing=True)
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize(
    "text", ["a <s>b</s>", "<s>a</s> b", "1 < 2", "x[0]", "a <b> [c]", "assistant: hi", ""]
)
def test_text_without_marks_is_unchanged(text: str) -> None:
    assert without_turn_markers(text) == text


@pytest.mark.parametrize("mark", ["<|im_end|>", "<end_of_turn>", "</s>", "<｜end▁of▁sentence｜>"])
def test_incomplete_mark_is_not_shown(mark: str) -> None:
    for size in range(1, len(mark) + 1):
        assert without_turn_markers(f"Paris.{mark[:size]}", growing=True) == "Paris."


@given(
    st.lists(st.sampled_from([*_ENDS, *_STARTS, "</s>", "`", "\n", " ", "user", "a", "<", "|"])).map("".join)
)
def test_plain_markers_leaves_no_mark(text: str) -> None:
    for read in (plain_markers(text), plain_markers(without_turn_markers(text))):
        assert not any(mark in read for mark in _ENDS + _STARTS)
        assert plain_markers(read) == read
