"""Strict parsing of JSON from other programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from clawd_runtime.bot.foreign_json import (
    Foreign,
    ForeignJsonError,
    ForeignText,
    Identifier,
    Int64,
    read_as,
    read_json,
)


class Sample(Foreign):
    id: Identifier
    number: Int64 = 0
    text: ForeignText = ""
    flag: bool = False
    inner: Sample | None = None
    many: list[Int64] = Field(default_factory=list, max_length=3, fail_fast=True)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"\xff", b"\xed\xa0\xbd", b"{} x"),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000),
    ],
)
def test_invalid_json_is_unreadable(raw: bytes) -> None:
    with pytest.raises(ForeignJsonError):
        read_json(raw)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"number": 2**63}, {"number": -(2**63) - 1}, {"number": True}, {"number": "1"}, {"number": 1.0}),
        *({"flag": 1}, {"flag": "true"}, {"text": 7}, {"text": []}, {"text": "x" * 200_001}),
        *({"id": ""}, {"id": "a b"}, {"id": "a\n"}, {"id": "ü"}, {"id": "x" * 129}, {"id": None}),
        *(
            {"inner": []},
            {"inner": {"id": 1}},
            {"many": {}},
            {"many": [1] * 100_000},
            {"many": ["x"] * 100_000},
        ),
    ],
)
def test_value_of_wrong_type_or_range_is_unreadable(wrong: dict[str, Any]) -> None:
    with pytest.raises(ForeignJsonError) as problem:
        read_as(Sample, {"id": "a"} | wrong)
    assert next(iter(wrong)) in str(problem.value)
    assert len(str(problem.value)) < 500


def test_deeply_nested_value_is_unreadable() -> None:
    deep: dict[str, Any] = {"id": "a"}
    for _ in range(5000):
        deep = {"id": "a", "inner": deep}
    with pytest.raises(ForeignJsonError):
        read_as(Sample, deep)


def test_unknown_fields_are_ignored() -> None:
    assert read_as(Sample, {"id": "a", "new": {"field": 1}}) == Sample(id="a")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(Sample.model_fields, JSON)))
def test_any_parsed_text_can_be_stored_and_sent(value: dict[str, Any]) -> None:
    try:
        found = read_as(Sample, read_json(json.dumps(value)))
    except ForeignJsonError:
        return
    assert found.id.isascii()
    assert -(2**63) <= found.number < 2**63
    assert "\0" not in found.text
    found.text.encode()
