"""Parsing of servers' streams into strict values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.models.chat_chunks import (
    DONE,
    LONGEST_EVENT,
    Chunk,
    EventReader,
    MalformedChunk,
    chunk_of,
    read_whole,
    safe_name,
)

HELLO = {"choices": [{"index": 0, "delta": {"content": "hello"}}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KNOWN = st.sampled_from([
    *("choices", "delta", "message", "content", "text", "type", "index", "finish_reason"),
    *("usage", "error", "code", "reasoning", "thinking"),
])  # fmt: skip
CHUNK_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["text", "thinking"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=4),
    max_leaves=30,
)


def read(*pieces: bytes) -> list[Any]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + list(reader.finish())


def data(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "lines",
    [
        [data(HELLO), b""],
        [data(HELLO)],
        [data(HELLO).replace(b"data: ", b"data:"), b""],
        [b": OPENROUTER PROCESSING", b"", data(HELLO), b""],
        [b"event: message", b"id: 7", b"retry: 10", data(HELLO), b""],
        [b"data:", b"", b"data: ", b"", data(HELLO), b""],
        [b"\xef\xbb\xbf" + data(HELLO), b""],
        [json.dumps(HELLO).encode()],
        json.dumps(HELLO, indent=1).encode().splitlines(),
        [b"{", b"", *json.dumps(HELLO, indent=1).encode().splitlines()[1:]],
        [b"data: " + line for line in json.dumps(HELLO, indent=1).encode().splitlines()],
    ],
)
def test_event_is_read_regardless_of_surrounding_lines(lines: list[bytes], end: bytes) -> None:
    body = end.join([*lines, b""])
    assert read(body) == [Chunk("hello")]
    assert read(*(body[at : at + 1] for at in range(len(body)))) == [Chunk("hello")]


def test_event_is_read_at_its_line_end() -> None:
    reader = EventReader()
    assert list(reader.feed(data(HELLO) + b"\n")) == [Chunk("hello")]


def test_events_without_separating_empty_lines() -> None:
    body = b"\n".join((data(HELLO), data(HELLO), b"data: [DONE]"))
    assert read(body) == [Chunk("hello"), Chunk("hello"), DONE]


@pytest.mark.parametrize(
    "body", [b'event: error\ndata: {"message": "m"}\n\n', b'error: {"message": "m"}\n\n']
)
def test_error_event_is_read(body: bytes) -> None:
    [chunk] = read(body)
    assert chunk.error.texts == ("m",)


@pytest.mark.parametrize(
    ("value", "chunk"),
    [
        ({}, Chunk()),
        ({"choices": []}, Chunk()),
        ({"choices": None, "usage": {"total_tokens": 5}}, Chunk()),
        ({"code": 0, "message": "success"}, Chunk()),
        ({"message": "success", "base_resp": {"status_code": 0, "status_msg": "success"}}, Chunk()),
        ({"choices": [{"delta": None}]}, Chunk()),
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}, Chunk()),
        ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, Chunk()),
        ({"choices": [{"delta": {"content": ["a", {"type": "text", "text": "b"}]}}]}, Chunk("ab")),
        ({"choices": [{"delta": {"content": {"type": "text", "text": {"value": "b"}}}}]}, Chunk("b")),
        ({"choices": [{"delta": {"content": [{"text": "b"}]}}]}, Chunk("b")),
        (
            {"choices": [{"delta": {"content": "hm", "extra_content": {"google": {"thought": True}}}}]},
            Chunk(reasoning="hm"),
        ),
        ({"choices": [{"delta": {"content": "hm", "extra_content": {"google": 5}}}]}, Chunk("hm")),
        ({"choices": [{"delta": {"refusal": "I will not"}}]}, Chunk("I will not")),
        (
            {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]},
            Chunk("whole", finish="complete"),
        ),
        ({"choices": [{"text": "older", "finish_reason": None}]}, Chunk("older")),
        ({"choices": [{"delta": {"content": "a", "reasoning": {"effort": 3}}}]}, Chunk("a")),
        (
            {"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]},
            Chunk("a", unknown=("a second choice",)),
        ),
        ({"choices": [{"delta": {"tool_calls": [{}]}}]}, Chunk(unknown=("tool_calls",))),
        (
            {"choices": [{"delta": {"content": [{"type": "redacted_thinking", "data": "x"}]}}]},
            Chunk(reasoning="x"),
        ),
        (
            {"choices": [{"delta": {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}}]},
            Chunk(reasoning="hm"),
        ),
        (
            {"choices": [{"delta": {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}}]},
            Chunk(reasoning="hm"),
        ),
        (
            {"choices": [{"delta": {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}}]},
            Chunk(reasoning="x"),
        ),
        (
            {"choices": [{"delta": {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]}}]},
            Chunk(reasoning="hm"),
        ),
        (
            {"choices": [{"delta": {"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}}]},
            Chunk(reasoning="x"),
        ),
        (
            {
                "choices": [
                    {
                        "delta": {
                            "reasoning": "hm",
                            "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
                        }
                    }
                ]
            },
            Chunk(reasoning="hm"),
        ),
        (
            {"choices": [{"delta": {"reasoning": {"effort": 3}, "thinking_blocks": [{"thinking": "hm"}]}}]},
            Chunk(reasoning="hm"),
        ),
        ({"choices": [], "usage": {"completion_tokens_details": {"reasoning_tokens": -1}}}, Chunk()),
        ({"choices": [], "usage": {"reasoning_tokens": 10**400}}, Chunk()),
        ({"choices": [], "usage": {"reasoning_tokens": 4}}, Chunk(reasoning_tokens=4)),
    ],
)
def test_chunk_of_one_event(value: object, chunk: Chunk) -> None:
    assert chunk_of(value) == chunk


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], [1], "x", 5, True),
        {"choices": {}},
        {"choices": "x"},
        {"choices": [1]},
        {"choices": [None]},
        {"choices": [{"delta": []}]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": 5}}]},
        {"choices": [{"delta": {"content": [[[[[[["deep"]]]]]]]}}]},
        {"choices": [{"delta": {"content": [1.5]}}]},
    ],
)
def test_invalid_chunk_is_malformed(value: object) -> None:
    with pytest.raises(MalformedChunk):
        chunk_of(value)


@pytest.mark.parametrize(
    "value",
    [
        {"error": "boom"},
        {"error": True, "message": "boom"},
        {"error": {"message": "boom"}},
        {"object": "error", "message": "boom"},
        {"code": "InvalidParameter", "message": "boom", "request_id": "r"},
        {"error_code": 17, "error_msg": "boom"},
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "boom"}},
        {"choices": [{"error": {"message": "boom"}, "delta": {}}]},
        {
            "error": {"message": "boom", "metadata": [[]]},
            "choices": [{"delta": {}, "finish_reason": "error"}],
        },
    ],
)
def test_error_within_an_answer(value: object) -> None:
    error = chunk_of(value).error
    assert error is not None
    assert "boom" in error.texts


@pytest.mark.parametrize(
    "body", [data(HELLO) + b"\n\n", json.dumps(HELLO).encode(), json.dumps(HELLO, indent=2).encode()]
)
def test_unstreamed_answer_is_read(body: bytes) -> None:
    assert list(read_whole(body)) == [Chunk("hello")]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * (LONGEST_EVENT + 1)],
        [b"x" * 65_536] * 17,
        [b"data: x\n"] * 200_000 + [b"data: " + b"y" * LONGEST_EVENT + b"\n"],
        [b"data: {\n\n"],
        [b"data: " + b"[" * 100_000 + b"\n\n"],
        [b"data: " + b"9" * 5_000 + b"\n\n"],
    ],
)
def test_endless_or_invalid_event_is_malformed(pieces: Sequence[bytes]) -> None:
    with pytest.raises(MalformedChunk):
        read(*pieces)


@given(
    st.lists(st.sampled_from([data(HELLO), b"data: [DONE]", b": c", b"event: e", b"", b"data:"])), st.data()
)
def test_result_is_independent_of_network_chunks(lines: list[bytes], draw: st.DataObject) -> None:
    ends = [draw.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])) for _ in lines]
    body = b"".join(line + end for line, end in zip(lines, ends, strict=True))
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(body)), max_size=8)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert read(*pieces) == read(body)


@given(JSON | CHUNK_LIKE)
def test_any_json_is_a_chunk_or_malformed(value: object) -> None:
    try:
        chunk = chunk_of(value)
    except MalformedChunk:
        return
    assert isinstance(chunk.text, str)
    assert isinstance(chunk.reasoning, str)
    assert all(isinstance(name, str) and len(name) < 80 for name in chunk.unknown)


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_any_bytes_are_chunks_or_malformed(pieces: list[bytes]) -> None:
    try:
        read(*pieces)
        list(read_whole(b"".join(pieces)))
    except MalformedChunk:
        return


@given(JSON)
def test_foreign_name_in_log_is_short_and_plain(value: object) -> None:
    name = safe_name(value)
    assert len(name) <= 40
    assert name.isascii()
    assert name.isprintable()
