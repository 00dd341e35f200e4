"""Separation of reasoning and answer, in forms that real models and providers send."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clawd_runtime.reasoning.marks import AT_START, HARMONY, IN_CHANNEL, TAGS, WRAPPERS, marks_in
from clawd_runtime.reasoning.splitter import ReasoningSplitter, separate


def in_pieces(pieces, prompt_end: str = "") -> tuple[str, str]:
    """Return the final result of a client that processes the pieces as they arrive."""
    splitter = ReasoningSplitter(prompt_end)
    thoughts, answer = "", ""
    for split in (*map(splitter.feed, pieces), splitter.finish()):
        thoughts = thoughts.removesuffix(split.returned) + split.reasoning
        answer = split.answer if split.restarts else answer + split.answer
    return thoughts, answer


@pytest.mark.parametrize(("opening", "closing"), TAGS.items())
def test_each_pair_of_tags_encloses_reasoning(opening, closing):
    text = f"{opening}\nFirst, France.\n{closing}\n\nParis."
    assert separate(text) == ("First, France.", "Paris.")
    assert separate(f"\n {text}") == ("First, France.", "Paris.")
    assert in_pieces(text) == ("First, France.", "Paris.")


@pytest.mark.parametrize("closing", TAGS.values())
def test_closing_tag_alone_marks_preceding_text_as_reasoning(closing):
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
def test_prompt_end_may_open_reasoning(prompt_end, text, expected):
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
        ("<think>a</think>One.<think>b</think>Two.", ("a\n\nb", "One.Two.")),
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
def test_forms_of_reasoning_are_separated(text, expected):
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
        "思考以</think>结束。答案是42。",
        "请在</think>之后写答案。",
        "结束标记是</think>，之后是答案。",
        "The end tag is </think>",
        "The end tag is </think>\nIt has no attributes.",
        "The reasoning ends with </think>",
        "if s.endswith(</think>): pass",
        "Each message starts with <|start|> followed by the role.",
        "Each message starts with <|start|>.",
        "The header <|start|>assistant is short.",
        "The header <|start|>assistant is followed by <|message|> and the text.",
        "After <|channel|> comes a name, then <|message|>.",
        "The token <|end|> ends a message, and <|return|> ends the answer.",
        "The output contains the text assistantfinal. You should strip it.",
        "The output contains assistantfinal and more.",
    ],
)
def test_answer_without_reasoning_is_unchanged(text):
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
        "答案是巴黎</think>巴黎。",
        "嗯，用户问首都。</think>巴黎。",
        "The end tag is known. " * 30 + "The end tag is </think>\n\nParis.",
        "I will name the tag.\n</think>\nParis.",
        "用户问的是\n</think>\n\n巴黎。",
    ],
)
def test_closing_tag_on_its_own_line_ends_reasoning(text):
    before, _, after = text.partition("</think>")
    assert separate(text) == (before.strip(), after.strip())
    assert in_pieces(text) == (before.strip(), after.strip())


@pytest.mark.parametrize("text", ["<think>Hm, a long", "analysisWe need a", "\n<think>\nHm "])
def test_unclosed_reasoning_of_cut_answer_stays_reasoning(text):
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
def test_explained_tags_after_reasoning_stay_in_answer(prompt_end, answer):
    text = f"Hm.</think>{answer}" if prompt_end else f"<think>Hm.</think>{answer}"
    assert separate(text, prompt_end) == ("Hm.", answer)
    assert in_pieces(text, prompt_end) == ("Hm.", answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # On lines of its own, after visible text.
        ("Sure.\n\n<think>\nsecret plan\n</think>\n\nHi", "Sure.\n\nHi"),
        ("Sure.\n<think>secret</think>\nHi", "Sure.\nHi"),
        ("Sure.\n\n<think>secret</think>Hi", "Sure.\n\nHi"),
        ("Sure.\n\n<think>\nsecret\n</think> Hi there", "Sure.\n\nHi there"),
        ("Sure.\n\n**<think>**\nsecret\n</think>\n\nHi", "Sure.\n\n**\n\nHi"),
        ("Sure.\n\n\u200b<think>\nsecret\n</think>\n\nHi", "Sure.\n\n\u200b\n\nHi"),
        ("好的。\n\n<think>\nsecret\n</think>\n\n你好", "好的。\n\n你好"),
        ("Let me think:\n\n<think>\nsecret\n</think>\n\nHi", "Let me think:\n\nHi"),
        ("**Thinking:**\n<think>\nsecret\n</think>\nHi", "**Thinking:**\nHi"),
        ("让我先思考一下：\n<think>\nsecret\n</think>\n你好", "让我先思考一下：\n你好"),
        ("```\ncode\n```\n<think>\nsecret\n</think>\nHi", "```\ncode\n```\nHi"),
        ("```a```\n\n<think>\nsecret\n</think>\nHi", "```a```\n\nHi"),
        # After earlier reasoning.
        ("<think>a</think>One.\n\n<think>secret</think>\n\nTwo.", "One.\n\nTwo."),
        ("<think>a</think>One. <think>secret</think> Two.", "One. Two."),
        ("<think>a</think>One.<think>secret</think>\n\nTwo.", "One.\n\nTwo."),
        ("<think>a</think>One<think>secret</think>Two.", "OneTwo."),
        ("<think>a</think>一。<think>secret</think>二。", "一。二。"),
        # After what is no text.
        ("Assistant: <think>secret</think>Hi", "Assistant: Hi"),
        ("**Assistant**: <think>secret</think>Hi", "**Assistant**: Hi"),
        ("[AI] <think>secret</think>Hi", "[AI] Hi"),
        ("助手：<think>secret</think>你好", "助手：你好"),
        ("**<think>secret</think>Hi", "**Hi"),
        ("> <think>secret</think>Hi", "> Hi"),
        ("## Thinking\n<think>secret</think>Hi", "## Thinking\nHi"),
        ("🤔 <think>secret</think>Hi", "🤔 Hi"),
        ("<b>Assistant:</b> <think>secret</think>Hi", "<b>Assistant:</b> Hi"),
        ("<p><think>secret</think>Hi", "<p>Hi"),
        ("<|assistant|><think>secret</think>Hi", "<|assistant|>Hi"),
        ("<|im_start|>assistant <think>secret</think>Hi", "<|im_start|>assistant Hi"),
        ("[/INST] <think>secret</think>Hi", "[/INST] Hi"),
        ("<start_of_turn>model <think>secret</think>Hi", "<start_of_turn>model Hi"),
        ("Qwen: <think>secret</think>Hi", "Qwen: Hi"),
        ("[Assistant]: <think>secret</think>Hi", "[Assistant]: Hi"),
        ("Sure!\n\n<reflection>secret</reflection>\n\nHi", "Sure!\n\nHi"),
        ("Sure!\n\n<scratchpad>\nsecret\n</scratchpad>\n\nHi", "Sure!\n\nHi"),
        ("[THINKING]secret[/THINKING]Hi", "Hi"),
        ("Hi.\n<think>\nsecret\n</think>", "Hi.\n"),
        ("\u200b<think>secret</think>Hi", "\u200bHi"),
        ("\ufeff<think>secret</think>Hi", "\ufeffHi"),
        ("\u2060 \n<think>secret</think>Hi", "Hi"),
        # Closed by another tag's mark.
        ("<think>secret</thinking>Hi", "Hi"),
        ("<thinking>secret</think>Hi", "Hi"),
        ("<thought>secret</thoughts>Hi", "Hi"),
        ("<|thinking|>secret<|end_thinking|>Hi", "Hi"),
        ("<think>secret about </thinking> and more</think>Hi", "Hi"),
        ("<think>secret <thinking>inner</thinking> more</think>Hi", "Hi"),
        # Only closed, in a code block that is not.
        ("Let me write:\n```python\nx=1\n</think>\nHi", "Hi"),
        ("Let me write secret:\n```python\nx=1</think>Hi", "Hi"),
        ("secret:\n~~~\nx\n</think>\n\nHi:\n```python\ny\n```\nDone", "Hi:\n```python\ny\n```\nDone"),
        ("secret:\n```python\nx\n</think>\nHi:\n```python\ny\n```\nDone", "Hi:\n```python\ny\n```\nDone"),
        ("<think>a</think>secret:\n```\nx\n</think>\nHi", "Hi"),
    ],
)
def test_reasoning_is_hidden_at_any_position(text, answer):
    found = separate(text)
    assert found[1].replace("\u2060 \n", "") == answer
    assert "secret" not in found[1]
    assert in_pieces(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Use `<think>` and `</think>` around it",
        "Use `<think>` and `</think>` around it.\n\n<think>\nlike this\n</think>\n\nThat is all.",
        "The model writes <think> first, then </think>.",
        "It opens with <think>; it closes with </think>, always.",
        "Two tags exist.\n\n<think> opens the reasoning.\n</think> closes it.",
        "Two tags exist.\n\n<think> opens it, and </think> closes it.",
        "Sure, wrap it like this:\n\n<think>\nreasoning\n</think>\n\nThen the answer.",
        "格式如下：\n\n<think>\n思考\n</think>\n\n回答",
        "**Format:**\n<think>\nreasoning\n</think>\nanswer",
        "An example.\n\n    <think>\n    Hm.\n    </think>\n\nThat is all.",
        "An example.\n\n```xml\n<think>\nHm.\n</think>\n```\n",
        "An example.\n\n```python\nsplit(text)\n</think>\n```\nThat is all.",
        "````md\n```python\n</think>\n```\n````\nThat is all.",
        "An example, cut off:\n```xml\n<think>\nHm.\n</think>\n",
        "- <think> opens\n- </think> closes",
        "1. <think> opens\n2. </think> closes",
        "# <think>\nopens\n# </think>\ncloses",
        "| <think> | opens |\n| </think> | closes |",
        "<think> and </think> are tags.",
        "<think>…</think> encloses it.",
        "<think>和</think>是标签。",
        'He said "<think>" and "</think>" aloud.',
        "“<think>”表示开始，“</think>”表示结束。",
        "See (<think>) and (</think>).",
        "Example: <think>reasoning</think>answer",
        "=" * 100 + " Use <think> and </think> around it.",
        "Tag: <think>",
        "Use <b> or <think> and </think>.",
        "A List<Thought> and a Map<Reasoning, Reflection> hold them.",
        "Sure.\n<think>\nnever closed, so it was none",
        "The tags <reflection>, <scratchpad> and [THINKING] exist, as does <|thinking|>.",
    ],
)
@pytest.mark.parametrize("before", ["", "<think>Hm.</think>"])
def test_text_that_explains_marks_is_not_lost(text, before):
    if before and text.startswith(("<", "-", "#", "1")):
        before = ""
    assert separate(before + text) == ("Hm." if before else "", text)
    assert in_pieces(before + text) == ("Hm." if before else "", text)


SENTENCES = (
    "Paris is large.",
    "See below!",
    "Is it? Yes",
    "一座城市。",
    "A list: one, two",
    "`code` here",
    "*so*",
)
AROUND = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=3).map("\n".join)
SECRET = st.text("ab .,\n", max_size=20).map(lambda text: f"secret {text}")


@settings(max_examples=500, deadline=None)
@given(AROUND, SECRET, AROUND, st.sampled_from(sorted(TAGS.items())), st.sampled_from(["\n", "\n\n"]))
def test_tags_on_separate_lines_hide_only_their_content(before, secret, after, tags, space):
    opening, closing = tags
    thoughts, answer = separate(f"{before}{space}{opening}\n{secret}\n{closing}{space}{after}")
    assert answer == f"{before}{space}{after}"
    assert thoughts == secret.strip()


WORDS = st.sampled_from(["word", "the tag", "用", "and", "it is", "List of"])
MENTIONED = st.sampled_from(sorted({*TAGS, *TAGS.values()})).flatmap(
    lambda mark: st.sampled_from([f"`{mark}`", f'"{mark}"', f"“{mark}”", f"```\n{mark}\n```\n"])
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.tuples(WORDS, MENTIONED), max_size=5).map(
        lambda pairs: "".join(
            f"{word} {mark}\n" if "```" not in mark else f"{word}\n{mark}" for word, mark in pairs
        )
    ),
    st.booleans(),
)
def test_quoted_marks_remove_nothing_from_answer(text, reasons):
    before = "<think>Hm.</think>" if reasons and text else ""
    assert separate(before + text) == ("Hm." if before else "", text)


MARKS = sorted([*TAGS, *TAGS.values(), *HARMONY, *WRAPPERS])
PARTS = st.one_of(
    st.sampled_from(MARKS),
    st.sampled_from(
        [
            *("analysis", "assistant", "final", "assistantfinal", "commentary to=f", "W", "`", "a ", " a"),
            *("\n```", "\n```py\n", "\n", "and", "。", "\u200b", "- ", ":\n", "    ", ". ", ": "),
            *("<think>", "</think>"),
        ]
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
@example("A.\n<think> a </think> a\n<think>b</think> C", [3], "")
@example("A.\n<think>b</think>c\n```\n</think>d", [14], "")
def test_result_is_independent_of_pieces(text, cuts, prompt_end):
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    whole = separate(text, prompt_end)
    assert in_pieces(pieces, prompt_end) == whole
    assert in_pieces(text, prompt_end) == whole


@settings(max_examples=300, deadline=None)
@given(st.text("ab \n.", max_size=30), st.text("ab \n.", max_size=30), st.sampled_from(sorted(TAGS.items())))
def test_reasoning_is_never_in_answer(thoughts, answer, tags):
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
LONG += ["A.\n<think>", "A.\n<think>x</think> a\n", "A.\n<think> x</think> a\n", "```\n</think>\n", "a:\n"]
LONG += ["\u200b", "<think> and </think> a", "<think><thinking>", "```\n</think>\n```py\n"]
LONG += ["<|start|>x", "<|channel|>a<|message|>x<|end|>", "analysis", "Here is my thought process:", "```\n"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", LONG)
def test_run_time_is_linear_in_text_length(piece):
    """A message may have megabytes: twice the text takes about twice the time."""
    seconds = []
    for size in (50_000, 200_000):
        text = piece * (size // len(piece))
        began = time.process_time()
        separate(text)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 12 * seconds[0] + 0.1
    assert seconds[1] < 2.5


def test_text_is_returned_as_soon_as_certain():
    splitter = ReasoningSplitter()
    assert splitter.feed("<think>Fir").reasoning == "Fir"
    assert splitter.reasoning
    assert splitter.feed("st.</thi").reasoning == "st."
    assert splitter.feed("nk>\n\nPo").answer == "Po"
    assert not splitter.reasoning
    assert splitter.feed("int <").answer == "int "
    assert splitter.feed(" 3").answer == "< 3"


def test_answer_restarts_once_without_opening_tag():
    splitter = ReasoningSplitter()
    assert splitter.feed("Hm. ").answer == "Hm. "
    split = splitter.feed("Yes.</think>Paris")
    assert (split.restarts, split.reasoning, split.answer) == (True, "Hm. Yes.", "Paris")
    assert not splitter.feed(".").restarts


def test_no_mark_is_a_prefix_of_another():
    """Otherwise the first mark found would depend on the pieces."""
    for markers in (AT_START, IN_CHANNEL):
        for one in markers.texts:
            assert not [other for other in markers.texts if other != one and other.startswith(one)]


def test_marks_of_template_are_found():
    assert marks_in("{{ content.split('</think>')[-1] }}<think>") == {"<think>", "</think>"}
    assert marks_in("<|channel|>analysis<|message|>") == {"<|channel|>", "<|message|>"}
    assert marks_in("<|user|>x<|end|>") == frozenset()
