from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.policy.answers import AnswerCheck
from clawd_runtime.bot.policy.credentials import REPLACEMENT
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.file import empty_policy
from clawd_runtime.bot.policy.outbound import OutboundCheck
from clawd_runtime.bot.values import ConversationKey, Reply

TOKEN = "123456789:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"
LONG = "".join(f"{number * 7919 % 1_000_003:x}" for number in range(200))
CREDENTIALS = {"telegram-token": TOKEN, "audit-key": LONG, "short": "abc12"}


def answered(text: str) -> str:
    return AnswerCheck(empty_policy(CREDENTIALS)).complete(text).text


@pytest.mark.parametrize(
    "form",
    [
        TOKEN,
        TOKEN.upper(),
        " ".join(TOKEN),
        TOKEN[:20] + "\n" + TOKEN[20:],
        "\u200b".join(TOKEN),
        "`" + TOKEN + "`",
        "x" + TOKEN + "y",
        TOKEN.encode().hex(),
        quote(TOKEN, safe=""),
        base64.b64encode(TOKEN.encode()).decode(),
        base64.b64encode(b"a" + TOKEN.encode() + b"b").decode(),
        base64.b64encode(b"ab" + TOKEN.encode() + b"c").decode(),
    ],
)
def test_no_form_of_a_credential_is_in_an_answer(form: str) -> None:
    answer = answered(f"The token is {form}.")
    assert REPLACEMENT in answer
    assert form not in answer
    assert form[8:-8] not in answer


@given(st.integers(0, len(LONG) - 72))
def test_no_long_part_of_a_long_credential_is_in_an_answer(start: int) -> None:
    assert LONG[start + 24 : start + 48] not in answered(f"see {LONG[start : start + 72]} ok")


def test_short_credential_is_left_to_the_word_lists() -> None:
    assert answered("abc12 is a word") == "abc12 is a word"


def test_hit_of_a_credential_names_it_without_its_value() -> None:
    found = AnswerCheck(empty_policy(CREDENTIALS)).complete(TOKEN)
    assert {(hit.rule, hit.entry) for hit in found.hits} == {("credential telegram-token", "")}


def test_outbound_mask_keeps_lengths_and_structure() -> None:
    check = OutboundCheck(CurrentPolicy(None, CREDENTIALS))
    card = json.dumps({"elements": [{"tag": "markdown", "content": f"**{TOKEN}**"}], "n": 1})
    body = {"receive_id": "oc_1", "content": card, "list": [f"𝒳{TOKEN}"], "number": 5, "none": None}
    cleaned = check.value(body)
    assert TOKEN not in json.dumps(cleaned)
    assert json.loads(cleaned["content"])["elements"][0]["content"] == f"**{'＊' * len(TOKEN)}**"
    assert cleaned["list"] == [f"𝒳{'＊' * len(TOKEN)}"]
    assert (cleaned["receive_id"], cleaned["number"], cleaned["none"]) == ("oc_1", 5, None)


def test_outbound_reply_without_a_hit_is_the_same_value() -> None:
    check = OutboundCheck(CurrentPolicy(None, CREDENTIALS))
    reply = Reply(
        "k", "e", ConversationKey("telegram", "1"), "private", "", "hello", formatting='[{"type": "bold"}]'
    )
    assert check.reply(reply) is reply
