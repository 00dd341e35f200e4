"""The separation of reasoning and answer, in the forms that models and providers really send."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clawd_runtime import reasoning
from clawd_runtime.reasoning import TAGS, ReasoningSplitter, marks_in, separate


def in_pieces(pieces, prompt_end: str = "") -> tuple[str, str]:
    """What a client has at the end who takes the pieces as they come."""
    splitter = ReasoningSplitter(prompt_end)
    thoughts, answer = "", ""
    for split in (*map(splitter.feed, pieces), splitter.finish()):
        thoughts = (thoughts + split.reasoning).removesuffix(split.returned)
        answer = split.answer if split.restarts else answer + split.answer
    return thoughts, answer


@pytest.mark.parametrize(("opening", "closing"), TAGS.items())
def test_tags_of_each_kind_enclose_reasoning(opening, closing):
    text = f"{opening}\nFirst, France.\n{closing}\n\nParis."
    assert separate(text) == ("First, France.", "Paris.")
    assert separate(f"\n {text}") == ("First, France.", "Paris.")
    assert in_pieces(text) == ("First, France.", "Paris.")


@pytest.mark.parametrize("closing", TAGS.values())
def test_a_closing_tag_alone_makes_reasoning_of_what_came_before(closing):
    text = f"First, France.\n{closing}\n\nParis."
    assert separate(text) == ("First, France.", "Paris.")
    assert in_pieces(text) == ("First, France.", "Paris.")


@pytest.mark.parametrize(
    ("prompt_end", "text", "expected"),
    [
        ("<|im_end|>\n<|im_start|>assistant\n<think>\n", "Hm.</think>Paris.", ("Hm.", "Paris.")),
        ("<|im_start|>assistant\n<think>\n", "never closed", ("never closed", "")),
        ("<|im_start|>assistant\n<think>\n", "<think>\nHm.</think>Paris.", ("Hm.", "Paris.")),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "Paris.", ("", "Paris.")),
        ("[/INST]", "[THINK]Hm.[/THINK]Paris.", ("Hm.", "Paris.")),
        ("<|end|><|start|>assistant", "<|channel|>final<|message|>Paris.", ("", "Paris.")),
        ("<|end|><|start|>assistant", "Paris.", ("", "Paris.")),
        ("<|end|><|start|>assistant", "Paris. " * 60, ("", "Paris. " * 60)),
        ("<|start|>assistant<|channel|>analysis<|message|>", "Hm.<|end|>", ("Hm.", "")),
    ],
)
def test_what_the_prompt_ends_with_decides_how_the_answer_begins(prompt_end, text, expected):
    assert separate(text, prompt_end) == expected
    assert in_pieces(text, prompt_end) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # gpt-oss, whole, without the tokens that some servers drop, and with a preamble for the user.
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Paris.<|return|>",
            ("Hm.", "Paris."),
        ),
        (
            "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>assistant<|channel|>final<|message|>Paris.",
            ("Hm.", "Paris."),
        ),
        ("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Paris.", ("Hm.", "Paris.")),
        ("<|channel|>analysis<|message|>cut by lengt", ("cut by lengt", "")),
        ("<|channel|>commentary<|message|>I look.<|end|>", ("", "I look.")),
        (
            "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
            ("{}", ""),
        ),
        ("<|start|>assistant<|message|>Paris.", ("", "Paris.")),
        ("<|channel|>final <|constrain|>JSON<|message|>{}", ("", "{}")),
        ("<|channel|>ana", ("", "")),
        ("analysisWe need a capital.assistantfinalParis.", ("We need a capital.", "Paris.")),
        ("We need a capital.assistantfinalParis.", ("We need a capital.", "Paris.")),
        ("The total is 42<|return|>", ("", "The total is 42")),
        ("analysis", ("", "analysis")),
        ("analysis of France", ("", "analysis of France")),
        # Other real forms.
        ("Here is my thought process:\nHm.\nHere is my response:\nParis.", ("Hm.", "Paris.")),
        ("<think>Hm.</think>\n<answer>Paris.</answer>", ("Hm.", "Paris.")),
        ("<think>Hm.</think><response>\nParis.</response>", ("Hm.", "Paris.")),
        (
            "<|begin_of_thought|>Hm.<|end_of_thought|>\n\n<|begin_of_solution|>Paris.<|end_of_solution|>",
            ("Hm.", "Paris."),
        ),
        (
            "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Paris.<|END_RESPONSE|>",
            ("Hm.", "Paris."),
        ),
        ("<THINK>Hm.</Think>Paris.", ("Hm.", "Paris.")),
        ("<think>a</think>\n<think>b</think>Two.", ("a\n\nb", "Two.")),
        ("<think>a</think>One.<think>b</think>Two.", ("a", "One.<think>b</think>Two.")),
        ("<think>a <think> b</think>c</think>Paris.", ("a <think> b\n\nc", "Paris.")),
        ("<think>a</think>Paris.</think>\n", ("a", "Paris.")),
        ("<think></think>Paris.", ("", "Paris.")),
        ("<think>only reasoning", ("only reasoning", "")),
        ("<think>cut in the tag</thi", ("cut in the tag</thi", "")),
        ("</think>Paris.", ("", "Paris.")),
        ("Use <|channel|> " + "so. " * 80, ("", "Use <|channel|> " + "so. " * 80)),
        ("<|start|>" + "x" * 300 + "<|message|>y", ("", "<|start|>" + "x" * 300 + "y")),
        ("<|channel|>" * 100, ("", "<|channel|>" * 76)),
        ("<|channel|>analysis<|message|>Hm." + "<|end|>" + "Paris. " * 50, ("Hm.", "Paris. " * 50)),
    ],
)
def test_forms_of_reasoning_that_models_write(text, expected):
    assert separate(text) == expected
    assert in_pieces(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Paris.",
        "  \n leading and trailing space \n",
        "",
        " ",
        "1 < 2, a <thin line, and <think",
        "The tag `<think>` begins it, and `</think>` ends it.",
        'They write "<think>" and "</think>".",',
        "An example:\n```\n<think>\nHm.\n</think>\n```\nThat is all.",
        "~~~xml <think>\n</think>\n~~~",
        "Here is my response: no.",
        "They thought: Here is my thought process: none.",
        "<answer>without reasoning</answer>",
        "他想了想：是巴黎。",
        # Prose about the marks.
        "Der Begriff <thought> ist Teil von XML.\nMehr Text.\n\nEnde. ",
        "Two tags exist:\n<think>\n  opens it, <think> again.",
        "A tag <reasoning>",
        "Use <think> and </think>",
        "Use <think> and </think>.",
        "Sure. <think>b</think> Paris.",
        "Wrap it:\n<think>\nthe reasoning\n</think>\nthe answer",
        "用<think>和</think>标记思考过程。",
        "There are <think>, </think>, [THINK] and [/THINK]; a second <think></think> is empty.",
        "The end is </think>. The beginning is <think>.",
        "(closed by </think>)",
        "To close it write </think> at the end. Then more.",
        "写上 </think> 来结束。",
        "Either [/THINK] or </think> ends it, and </seed:think> too.",
        "analysisResult is a variable",
        " \n analysisResult is a variable",
        "The class assistantfinalizer calls assistantFinalAnswer and assistantfinal_2.",
    ],
)
def test_an_answer_without_reasoning_comes_out_as_it_went_in(text):
    assert separate(text) == ("", text)
    assert in_pieces(text) == ("", text)


@pytest.mark.parametrize(
    "text",
    [
        "Hm. Yes. </think> Paris.",
        "It is Paris </think> Paris.",
        "It is Paris </think>\n\nparis.",
        "It is Paris\n</think> paris.",
        "It is Paris </think>",
        "It is Paris </think> ",
        "It is Paris</think> paris.",
    ],
)
def test_a_closing_tag_that_stands_on_its_own_ends_reasoning(text):
    before, _, after = text.partition("</think>")
    assert separate(text) == (before.strip(), after.strip())
    assert in_pieces(text) == (before.strip(), after.strip())


@pytest.mark.parametrize("text", ["<think>Hm, a long", "analysisWe need a", "\n<think>\nHm "])
def test_what_a_cut_answer_opened_stays_reasoning(text):
    splitter = ReasoningSplitter()
    answer = splitter.feed(text).answer + splitter.finish(complete=False).answer
    assert not answer.strip()


@pytest.mark.parametrize("prompt_end", ["", "<|im_start|>assistant\n<think>\n"])
@pytest.mark.parametrize(
    "answer",
    [
        "Use <think>b",
        "Use <think> and </think> around it.",
        "The tags:\n<think>\nb\n</think>\nThat is all.",
        "用<think>和</think>标记。",
    ],
)
def test_tags_that_an_answer_explains_after_its_reasoning_stay_in_the_answer(prompt_end, answer):
    text = f"Hm.</think>{answer}" if prompt_end else f"<think>Hm.</think>{answer}"
    assert separate(text, prompt_end) == ("Hm.", answer)
    assert in_pieces(text, prompt_end) == ("Hm.", answer)


MARKS = sorted([*TAGS, *TAGS.values(), *reasoning._HARMONY, *reasoning._WRAPPERS])
PARTS = st.one_of(
    st.sampled_from(MARKS),
    st.sampled_from(
        ["analysis", "assistant", "final", "assistantfinal", "commentary to=f", "W", "`", "\n```", "a ", " a"]
    ),
    st.sampled_from(MARKS).flatmap(lambda mark: st.integers(1, len(mark)).map(lambda size: mark[:size])),
    st.text("ab <>|\n `", max_size=6),
    st.sampled_from(["x" * 100, "x" * 260]),
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(PARTS, max_size=9).map("".join),
    st.lists(st.integers(0, 99)),
    st.sampled_from(["", "<think>\n", "<|start|>assistant"]),
)
@example("<think>a</think>b</think>c", [3], "")
def test_the_result_does_not_depend_on_how_the_text_is_cut(text, cuts, prompt_end):
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    whole = separate(text, prompt_end)
    assert in_pieces(pieces, prompt_end) == whole
    assert in_pieces(text, prompt_end) == whole


@settings(max_examples=300, deadline=None)
@given(st.text("ab \n.", max_size=30), st.text("ab \n.", max_size=30), st.sampled_from(sorted(TAGS.items())))
def test_reasoning_never_reaches_the_answer(thoughts, answer, tags):
    opening, closing = tags
    expected = (thoughts.strip(), answer.lstrip())
    assert separate(f"{opening}{thoughts}{closing}{answer}") == expected


LONG = [
    *"<`\n ",
    "<|",
    "`<think>",
    "<think>",
    "</think>",
    "</think>x",
    "<think></think>x",
    "a </think> a",
    "a <think> ",
    "assistantfinal",
    "<|channel|>",
    "<|end|>",
]
LONG += ["<|start|>x", "<|channel|>a<|message|>x<|end|>", "analysis", "Here is my thought process:", "```\n"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", LONG)
def test_the_work_grows_with_the_text_only(piece):
    """A message may have megabytes; twice the text takes about twice the time."""
    seconds = []
    for size in (100_000, 400_000):
        text = piece * (size // len(piece))
        began = time.process_time()
        separate(text)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 12 * seconds[0] + 0.2
    assert seconds[1] < 5


def test_text_is_given_as_soon_as_it_is_certain():
    splitter = ReasoningSplitter()
    assert splitter.feed("<think>Fir").reasoning == "Fir"
    assert splitter.reasoning
    assert splitter.feed("st.</thi").reasoning == "st."
    assert splitter.feed("nk>\n\nPo").answer == "Po"
    assert not splitter.reasoning
    assert splitter.feed("int <").answer == "int "
    assert splitter.feed(" 3").answer == "< 3"


def test_an_answer_is_taken_back_once_when_the_opening_tag_was_missing():
    splitter = ReasoningSplitter()
    assert splitter.feed("Hm. ").answer == "Hm. "
    split = splitter.feed("Yes.</think>Paris")
    assert (split.restarts, split.reasoning, split.answer) == (True, "Hm. Yes.", "Paris")
    assert not splitter.feed(".").restarts


def test_no_mark_is_the_beginning_of_another():
    """Or the first one found would depend on how the text is cut."""
    for markers in (reasoning._AT_START, reasoning._IN_CHANNEL):
        for one in markers.texts:
            assert not [other for other in markers.texts if other != one and other.startswith(one)]


def test_the_marks_of_a_template_are_found():
    assert marks_in("{{ content.split('</think>')[-1] }}<think>") == {"<think>", "</think>"}
    assert marks_in("<|channel|>analysis<|message|>") == {"<|channel|>", "<|message|>"}
    assert marks_in("<|user|>x<|end|>") == frozenset()
