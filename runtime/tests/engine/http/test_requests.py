"""Parsing of chat requests: unknown fields are refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawd_runtime.engine.http.requests import ChatRequest, parse_chat_request
from clawd_runtime.engine.jobs import thinking_options
from clawd_runtime.engine.prompt.template import PromptMessage
from clawd_runtime.engine.tools.values import ToolCall
from clawd_runtime.errors import RequestError
from tests.engine import templates
from tests.engine.prompt.test_template import chat

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def parse(**changes: object) -> ChatRequest:
    return parse_chat_request(json.dumps(HELLO | changes).encode())


def refusal(**changes: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(**changes)
    assert caught.value.status == 400
    return caught.value


def called(name: str = "now", arguments: str = "{}") -> dict:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def says(*messages: dict) -> list[dict]:
    return [{"role": "user", "content": "hello"}, *messages]


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("tempreture", 0.5, "did you mean temperature?"),
        ("maxTokens", 5, "did you mean max_tokens?"),
        ("guided_json", {}, ""),
        ("mirostat", 2, ""),
        ("xyzzy", None, ""),
        ("", 1, ""),
        ("a" * 5000, 1, ""),
    ],
)
def test_unknown_field_is_refused_by_name(name, value, hint):
    fault = refusal(**{name: value})
    assert (fault.code, fault.param) == ("unknown_parameter", name[:80])
    assert str(fault).startswith(name[:80])
    assert hint in str(fault)
    assert len(str(fault)) < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("functions", [{}]),
        ("function_call", "auto"),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("prediction", {"type": "content"}),
        ("web_search_options", {"x": 1}),
        ("verbosity", "low"),
        ("service_tier", "priority"),
        ("store", True),
    ],
)
def test_unsupported_field_is_refused_by_name(field, value):
    fault = refusal(**{field: value})
    assert (fault.code, fault.param) == ("unsupported_parameter", field)
    assert str(fault).startswith(f"{field}: ")


def test_unsupported_fields_without_value_are_accepted():
    nothing = {
        "tools": [],
        "tool_choice": "none",
        "n": 1,
        "logprobs": False,
        "top_logprobs": 0,
        "store": False,
    }
    parse(
        **nothing, response_format={"type": "text"}, modalities=["text"], service_tier="auto", functions=None
    )
    parse(
        user="u", metadata={"a": "b"}, safety_identifier="s", prompt_cache_key="k", parallel_tool_calls=False
    )


@pytest.mark.parametrize(
    ("messages", "param", "why"),
    [
        ([], "messages", "at least 1"),
        ("hello", "messages", "list"),
        ([5], "messages[0]", ""),
        ([{"content": "x"}], "messages[0].role", "must be system, developer, user, assistant or tool"),
        ([{"role": "robot", "content": "x"}], "messages[0].role", "must be system"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id", "required"),
        (
            says({"role": "tool", "content": "x", "tool_call_id": "1"}),
            "messages[1].tool_call_id",
            "no earlier",
        ),
        ([{"role": {}, "content": "x"}], "messages[0].role", "must be system"),
        ([{"role": "user"}], "messages[0].content", "required"),
        ([{"role": "user", "content": None}], "messages[0].content", "string or a list"),
        ([{"role": "user", "content": 5}], "messages[0].content", "string or a list"),
        ([{"role": "user", "content": []}], "messages[0].content", "at least 1"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]", ""),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "required"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type", "required"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "url": {}}]}],
            "messages[0].content[1].type",
            "parts of type 'image_url' are not supported: the engine reads text only",
        ),
        ([{"role": "user", "content": "x", "name": "bob"}], "messages[0].name", "unknown field"),
        (says({"role": "assistant", "content": None}), "messages[1].content", "string or a list"),
        (
            says({"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}),
            "messages[1].tool_calls[0].function",
            "required",
        ),
        (says({"role": "assistant", "tool_calls": []}), "messages[1].content", "required"),
        (
            says({"role": "assistant", "tool_calls": [called(arguments="[]")]}),
            "messages[1].tool_calls[0].function.arguments",
            "must be a JSON object",
        ),
        (
            says({"role": "assistant", "tool_calls": [called(arguments='{"a":' * 9000 + "1" + "}" * 9000)]}),
            "messages[1].tool_calls[0].function.arguments",
            "must be a JSON object",
        ),
        (
            says({"role": "assistant", "content": "x", "reasoning_content": 5}),
            "messages[1].reasoning_content",
            "",
        ),
        (
            says({"role": "assistant", "content": "x", "thinking": "x"}),
            "messages[1].thinking",
            "unknown field",
        ),
    ],
)  # fmt: skip
def test_invalid_message_is_refused_with_field(messages, param, why):
    fault = refusal(messages=messages)
    assert fault.param == param
    assert why in str(fault)
    assert str(fault).startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        (["a", "b", "c", "d", "e"], "5 stop strings given, at most 4 allowed"),
        ("", "must not be empty"),
        (["a", ""], "must not be empty"),
        ([1], "must be a string or a list of strings"),
        (5, "must be a string or a list of strings"),
        ({"a": 1}, "must be a string or a list of strings"),
        ("x" * 201, "200 characters"),
    ],
)
def test_invalid_stop_strings_are_refused(stop, why):
    fault = refusal(stop=stop)
    assert fault.param == "stop"
    assert why in str(fault)


NUMBERS = {
    "max_tokens": (1, 2**31 - 1), "max_completion_tokens": (1, 2**31 - 1),
    "temperature": (0, 2), "top_p": (0.01, 1), "top_k": (0, 2**31 - 1),
    "min_p": (0, 1), "typical_p": (0.01, 1), "repeat_penalty": (0.1, 10),
    "repetition_penalty": (0.1, 10), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2),
    "seed": (-(2**63), 2**64 - 1), "n": (1, 16), "top_logprobs": (0, 20),
}  # fmt: skip


@pytest.mark.parametrize("field", NUMBERS)
def test_numbers_out_of_range_are_refused(field):
    least, most = NUMBERS[field]
    parse(**{"logprobs": True, field: least})
    parse(**{"logprobs": True, field: most})
    wrong: Any
    for wrong in (least - 1, most + 1, 10**400, -(10**400), "1", True, [], {}, [1], "NaN"):
        assert refusal(**{field: wrong}).param == field


@pytest.mark.parametrize(
    "literal", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "1" * 400 + ".5", "-" + "9" * 400]
)
@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "seed", "max_tokens", "n", "logit_bias"])
def test_invalid_numbers_are_refused(field, literal):
    body = json.dumps(HELLO)[:-1] + f', "{field}": {literal}}}'
    with pytest.raises(RequestError) as caught:
        parse_chat_request(body.encode())
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "bias",
    [
        {"x": 1},
        {"-1": 1},
        {"5": 101},
        {"5": "1"},
        {"5": None},
        [1],
        {"1.0": 1},
        {str(i): 1 for i in range(2000)},
    ],
)
def test_invalid_logit_bias_is_refused(bias):
    assert (refusal(logit_bias=bias).param or "").startswith("logit_bias")


@pytest.mark.parametrize("key", ["x", "-1", "1.0", "", " 5", "[key]", "a.b"])
def test_invalid_logit_bias_key_is_named_as_sent(key):
    refused = refusal(logit_bias={"7": 1, key: 1})
    assert refused.param == f"logit_bias.{key}"
    assert str(refused) == f"logit_bias.{key}: the key must be the number of a token"


def test_sampling_matches_request():
    asked = parse(
        temperature=0.5, min_p=0.1, repetition_penalty=1.2, logit_bias={"7": -100}, seed=2**40, top_k=3
    )
    (sampling,) = asked.sampling()
    assert (sampling.temperature, sampling.min_p, sampling.repeat_penalty) == (0.5, 0.1, 1.2)
    assert (sampling.logit_bias, sampling.seed, sampling.top_k) == (((7, -100.0),), 2**40, 3)
    assert parse().sampling()[0].seed != parse().sampling()[0].seed


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.2}, "repetition_penalty"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usag": True}}, "stream_options.include_usag"),
        ({"stream": True, "stream_options": True}, "stream_options"),
        ({"stream": "yes"}, "stream"),
        ({"model": None}, "model"),
        ({"chat_template_kwargs": {"other": 1}}, "chat_template_kwargs.other"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 3, "logprobs": False}, "top_logprobs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "x"}}},
            "response_format.json_schema",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}}},
            "response_format.json_schema.schema",
        ),
        ({"grammar": "root ::= x", "response_format": {"type": "json_object"}}, "grammar"),
    ],
)
def test_conflicting_and_misplaced_fields_are_refused(changes, param):
    assert refusal(**changes).param == param


NOW = {"type": "function", "function": {"name": "now"}}


@pytest.mark.parametrize(
    ("changes", "param", "why"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function", "required"),
        ({"tools": [{"type": "custom", "function": {"name": "x"}}]}, "tools[0].type", "function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "pattern"),
        ({"tools": [NOW, NOW]}, "tools", "same name"),
        ({"tools": [NOW] * 129}, "tools", "128"),
        ({"tools": 5}, "tools", "list"),
        ({"tool_choice": "auto"}, "tool_choice", "only allowed with tools"),
        ({"tools": [NOW], "tool_choice": "some"}, "tool_choice", "must be none, auto"),
        ({"tools": [NOW], "tool_choice": 5}, "tool_choice", "must be none, auto"),
        ({"tools": [NOW], "tool_choice": {"type": "function"}}, "tool_choice.function", "required"),
        (
            {"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "then"}}},
            "tool_choice",
            "'then' is not one of the tools",
        ),
        (
            {"tools": [NOW], "response_format": {"type": "json_object"}},
            "response_format",
            "not allowed together",
        ),
        ({"tools": [NOW], "grammar": 'root ::= "a"'}, "grammar", "not allowed together"),
        ({"tools": [NOW], "logprobs": True}, "logprobs", "not supported together"),
    ],
)
def test_invalid_tools_are_refused(changes, param, why):
    fault = refusal(**changes)
    assert fault.param == param
    assert why in str(fault)


def test_tools_that_may_or_must_be_called():
    other = {
        "type": "function",
        "function": {"name": "then", "strict": True, "parameters": {"type": "object"}},
    }
    named = {"type": "function", "function": {"name": "then"}}

    def tools(choice: object) -> tuple[list[str], list[str]]:
        request = parse(tools=[NOW, other], tool_choice=choice, parallel_tool_calls=False)
        return [tool.name for tool in request.callable_tools()], [
            tool.name for tool in request.forced_tools()
        ]

    both = ["now", "then"]
    assert tools(None) == tools("auto") == (both, [])
    assert tools("none") == ([], [])
    assert tools("required") == (both, both)
    assert tools(named) == (both, ["then"])
    parse(tools=[NOW], tool_choice="none", response_format={"type": "json_object"})


def test_calls_and_results_are_read():
    messages = says(
        {"role": "assistant", "content": None, "tool_calls": [called(arguments='{"a": 1}')]},
        {"role": "tool", "content": [{"type": "text", "text": "noon"}], "tool_call_id": "c1"},
    )
    assert parse(messages=messages).conversation()[1:] == [
        PromptMessage("assistant", "", tool_calls=(ToolCall("c1", "now", '{"a": 1}'),)),
        PromptMessage("tool", "noon", call_id="c1", tool_name="now"),
    ]


def test_each_choice_has_next_seed():
    assert [each.seed for each in parse(n=3, seed=7).sampling()] == [7, 8, 9]


def test_same_limit_under_both_names_is_accepted():
    assert parse(max_tokens=5, max_completion_tokens=5).limit() == 5


def test_reasoning_of_earlier_answers_is_separated():
    messages = says(
        {"role": "assistant", "content": "<think>Hm.</think>Yes."},
        {
            "role": "assistant",
            "content": "No.",
            "reasoning_content": "Well.",
            "refusal": None,
            "tool_calls": [],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "So."}], "reasoning": "Ah."},
        {"role": "developer", "content": "Be brief."},
    )
    assert parse(messages=messages).conversation() == [
        PromptMessage("user", "hello"),
        PromptMessage("assistant", "Yes.", "Hm."),
        PromptMessage("assistant", "No.", "Well."),
        PromptMessage("assistant", "So.", "Ah."),
        PromptMessage("system", "Be brief."),
    ]


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        (templates.QWEN_THINKING, {"reasoning_effort": "none"}, {"enable_thinking": False}),
        (
            templates.QWEN_THINKING,
            {"chat_template_kwargs": {"enable_thinking": True}},
            {"enable_thinking": True},
        ),
        (templates.QWEN_THINKING, {"reasoning_effort": "high"}, "reasoning_effort"),
        (templates.HARMONY, {"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        (templates.HARMONY, {"reasoning_effort": "none"}, "reasoning_effort"),
        (templates.SMOLLM, {"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        (templates.SMOLLM, {"reasoning_effort": "low"}, "reasoning_effort"),
        (templates.SMOLLM, {"reasoning_effort": None, "chat_template_kwargs": {}}, {}),
    ],
)
def test_reasoning_options_are_passed_if_template_supports_them(model, asked, expected):
    request = parse(**asked)
    if isinstance(expected, dict):
        assert thinking_options(request, chat(model)) == expected
        return
    with pytest.raises(RequestError) as caught:
        thinking_options(request, chat(model))
    assert (caught.value.param, caught.value.code) == (expected, "unsupported_parameter")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"5", b"[]", b'"x"', b"\xff\xfe", b"{}x", b"\x00",
        b'{"model": "m", "messages": }',
        b"[" * 100_000, b'{"a":' * 100_000, b'{"messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\udc00\\ud800"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b'{"model": "m", "messages": [' + b"5," * 1_000_000 + b"5]}",
        b'{"model": "m", "messages": [{"role": "user", "content": [' + b"5," * 1_000_000 + b"5]}]}",
        b"{" + b",".join(b'"k%d":1' % i for i in range(200_000)) + b"}",
        b'{"model": "m", "messages": [{"role": "user", "content": "x", '
        + b",".join(b'"k%d":1' % i for i in range(200_000)) + b"}]}",
    ],
)  # fmt: skip
def test_invalid_bodies_are_refused(body):
    with pytest.raises(RequestError) as caught:
        parse_chat_request(body)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(ChatRequest.model_fields)), JSON, max_size=5), JSON)
def test_any_json_is_parsed_or_refused(changes, message):
    for request in (HELLO | changes, HELLO | {"messages": [message]} | changes, {"messages": changes}):
        try:
            parsed = parse_chat_request(json.dumps(request).encode("utf-8", "surrogatepass"))
        except RequestError:
            continue
        sampling = parsed.sampling()[0]
        assert not any(map(math.isnan, (sampling.temperature, sampling.top_p)))
        parsed.conversation()
