from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.policy.classifier import (
    LONGEST_QUESTION,
    ClassifierUnavailable,
    judged,
    judgement_of,
)
from clawd_runtime.bot.policy.file import ClassifierPart
from clawd_runtime.bot.policy.guard_model import HttpGuardModel

SETTINGS = ClassifierPart(endpoint="https://guard.example.org/v1?api-version=1", model="guard")


def completion(content: Any) -> dict[str, Any]:
    return {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}


def model(answer: httpx.Response | Exception, seen: list[httpx.Request] | None = None) -> HttpGuardModel:
    def respond(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return HttpGuardModel(httpx.AsyncClient(transport=httpx.MockTransport(respond)), "guard-key")


async def test_question_is_asked_by_the_openai_protocol() -> None:
    seen: list[httpx.Request] = []
    guard = model(httpx.Response(200, json=completion("Safety: Unsafe\nCategories: Violent")), seen)
    assert await judged(guard, SETTINGS, "hello") == "unsafe"
    [request] = seen
    assert str(request.url) == "https://guard.example.org/v1/chat/completions?api-version=1"
    assert request.headers["authorization"] == "Bearer guard-key"
    body = json.loads(request.content)
    assert (body["model"], body["messages"], body["stream"]) == (
        "guard",
        [{"role": "user", "content": "hello"}],
        False,
    )


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, content=b"not json"),
        httpx.Response(200, json={"choices": []}),
        httpx.Response(200, json=completion(None)),
        httpx.Response(200, json=completion("")),
        httpx.Response(200, json=completion("x" * 300_000)),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
)
async def test_anything_but_a_judgement_is_unavailable(answer: httpx.Response | Exception) -> None:
    assert await judged(model(answer), SETTINGS, "hello") == "unavailable"


async def test_long_question_is_judged_by_all_of_its_parts() -> None:
    class Parts:
        async def ask(self, settings: ClassifierPart, text: str) -> str:
            return "unsafe" if "bad" in text else "safe"

    assert await judged(Parts(), SETTINGS, "a" * LONGEST_QUESTION + "bad") == "unsafe"
    assert await judged(Parts(), SETTINGS, "a" * (LONGEST_QUESTION + 5)) == "safe"


@pytest.mark.parametrize(
    ("answer", "judgement"),
    [
        ("safe", "safe"),
        ("\n\nunsafe\nS9", "unsafe"),
        ("Safety: Safe\nCategories: None", "safe"),
        ("Safety: Controversial", "safe"),
        ("**Unsafe**", "unsafe"),
    ],
)
def test_answers_of_guard_models_are_read(answer: str, judgement: str) -> None:
    assert judgement_of(answer, ["unsafe"]) == judgement


def test_answer_that_merely_mentions_safety_is_no_judgement() -> None:
    with pytest.raises(ClassifierUnavailable):
        judgement_of("This is unsafe or safe", ["unsafe"])
