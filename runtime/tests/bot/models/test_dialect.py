"""Names of conversations and users in requests."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.models.completion import ModelClient
from clawd_runtime.bot.models.dialect import ChatMessage, RequestOrigin
from clawd_runtime.bot.settings import ModelEndpoint
from clawd_runtime.bot.values import ConversationKey

QUESTION = (ChatMessage("system", "be kind"), ChatMessage("user", "hello"))
ORIGIN = RequestOrigin.of(ConversationKey("telegram", "chat-7"), "user-9")


async def bodies(endpoint: str, *refusals: str) -> list[dict[str, Any]]:
    """Return the bodies of the requests for an answer; the first are refused with these messages."""
    seen: list[dict[str, Any]] = []
    left = list(refusals)

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        if left:
            return httpx.Response(400, json={"error": {"message": left.pop(0)}})
        message = {"role": "assistant", "content": "Hi."}
        return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        model = ModelClient("default", ModelEndpoint(endpoint=endpoint, model="m"), http)
        assert [piece async for piece in model.stream(QUESTION, 64, ORIGIN)]
    return seen


async def test_local_engine_gets_names_of_conversation_and_user():
    (body,) = await bodies("unix:/run/engine.sock")
    assert (body["prompt_cache_key"], body["user"]) == (ORIGIN.conversation, ORIGIN.user)


@pytest.mark.parametrize("endpoint", ["https://models.example.com/v1", "http://127.0.0.1:9000/v1"])
async def test_remote_models_get_no_names(endpoint: str):
    (body,) = await bodies(endpoint)
    assert not {"prompt_cache_key", "user"} & set(body)


async def test_names_are_omitted_where_they_are_refused():
    first, second = await bodies("unix:/run/other.sock", "Unrecognized request argument: prompt_cache_key")
    assert "prompt_cache_key" in first
    assert not {"prompt_cache_key", "user"} & set(second)


def test_names_differ_by_conversation_and_contain_no_id():
    others = [
        RequestOrigin.of(ConversationKey(*key), "user-9")
        for key in (("telegram", "chat-7", "1"), ("feishu", "chat-7"), ("telegram", "chat", "-7"))
    ]
    assert len({ORIGIN.conversation, *(each.conversation for each in others)}) == 4
    assert ORIGIN.user == others[0].user != others[1].user
    assert "chat" not in ORIGIN.conversation
    assert RequestOrigin.of(ConversationKey("telegram", "chat-7"), "user-9") == ORIGIN
