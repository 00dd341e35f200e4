"""Recognition of calls in answers: valid ones become calls, and no text is lost."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.engine.tools.parser import ToolCallParser


def parsed(*pieces: str) -> tuple[str, list[tuple[str, str]]]:
    parser = ToolCallParser(["weather", "now"])
    parts = [*map(parser.feed, pieces), parser.finish()]
    calls = [(call.name, call.arguments) for part in parts for call in part.calls]
    assert parser.called == bool(calls)
    return "".join(part.text for part in parts), calls


NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
CALLED = [("now", "{}")]


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (NOW, "", CALLED),
        (f"\n{NOW}\n", "", CALLED),
        (f"I look.\n\n{NOW}", "I look.", CALLED),
        (f"{NOW}\n{NOW}", "", CALLED * 2),
        (f"{NOW}\n\nDone. ", "Done.", CALLED),
        ('<tool_call>{"name": "now", "arguments": {}}', "", CALLED),
        ('<tool_call>{"name": "now"}<tool_call>{"name": "now"}', "", CALLED * 2),
        (
            '<tool_call>{"name": "weather", "arguments": "{\\"a\\": 1}"}</tool_call>',
            "",
            [("weather", '{"a": 1}')],
        ),
        ('[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "now"}]', "", CALLED * 2),
        ('[TOOL_CALLS] [{"name": "now"}]', "", CALLED),
        ('{"name": "weather", "parameters": {"a": "漢"}}', "", [("weather", '{"a": "漢"}')]),
        ('<|python_tag|>{"name": "now", "parameters": {}}', "", CALLED),
    ],
)  # fmt: skip
def test_calls_are_recognised(answer, text, calls):
    assert parsed(answer) == (text, calls)
    assert parsed(*answer) == (text, calls)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " ",
        "\n Hello <b>world</b> \n",
        "<tool_call>",
        "a <tool_call> is a mark",
        "<tool_call>{</tool_call>",
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "now", "arguments": 5}</tool_call>',
        '<tool_call>{"name": "now", "arguments": "x"}</tool_call>',
        '<tool_call>{"name": ["now"]}</tool_call>',
        '{"name": "now", "arguments": {}} is how',
        '{"city": "Paris"}',
        'Answer: {"name": "now", "arguments": {}}',
        '[TOOL_CALLS][{"name": "now"}, 5]',
        "[TOOL_CALLS]",
        "[TOOL",
        "<tool_call>" + "[" * 100_000,
        "[]",
    ],
)
def test_anything_else_stays_text(answer):
    assert parsed(answer) == (answer, [])
    if len(answer) < 1000:
        assert parsed(*answer) == (answer, [])


PIECES = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    '{"name": "now"}',
    "[",
    "]",
    " ",
    "\n",
    "text",
    "<",
    "{",
    "}",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.lists(st.integers(0, 80), max_size=6))
def test_splitting_changes_nothing_and_no_text_is_lost(pieces, cuts):
    answer = "".join(pieces)
    places = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    split = [answer[start:end] for start, end in pairwise(places)]
    whole = parsed(answer)
    assert parsed(*split) == whole
    text, calls = whole
    words = answer.count("text")
    assert text.count("text") == words
    assert text.count('"now"') + len(calls) == answer.count('"now"')
    assert all(json.loads(arguments) == {} for _, arguments in calls)
