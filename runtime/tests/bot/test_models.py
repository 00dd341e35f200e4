"""Answers to users for any response of a provider, through the program and its console."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from clawd_runtime.bot.text.messages import EN, ZH, Messages
from tests.bot.program import Program
from tests.bot.provider import HANGS, Provider
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

SECRET = "console-secret-0123456789abcdef-0123456789"
THINKING = "The user wants the capital. "
DASHSCOPE = {
    "code": "InvalidParameter",
    "message": "Range of input length should be [1, 6000]",
    "request_id": "r",
}
RAW = json.dumps({"error": {"message": "Your request exceeded model token limit: 8192"}})


def refusal(value: object, status: int = 400) -> Response:
    return JSONResponse(value, status)


ANSWERS: dict[str, Any] = {
    "plain": (["Pa", "ris"], "stop"),
    "tags": (["<think>", THINKING, "</think>", "\n\nParis"], "stop"),
    "closing": ([THINKING, "</think>", "\n\nParis"], "stop"),
    "field": ([{"reasoning_content": THINKING}, "Paris"], "stop"),
    "parts": (
        [{"content": [{"type": "thinking", "thinking": THINKING}, {"type": "text", "text": "Paris"}]}],
        "stop",
    ),
    "harmony": (
        [
            f"<|channel|>analysis<|message|>{THINKING}<|end|><|start|>assistant<|channel|>final<|message|>",
            "Paris",
        ],
        "stop",
    ),
    "marks": (["Paris", "<|im_end|>", "\n<|im_start|>user\nAnd Rome?"], "stop"),
    "thinks": ([{"reasoning_content": THINKING}], "length"),
    "opens": (["<think>", THINKING], "length"),
    "long": (["Paris is"], "length"),
    "filter": (["Paris is"], "content_filter"),
    "half": (["Paris is"], None),
    "stalls": (["Paris is", HANGS], "stop"),
    "hangs": ([HANGS], "stop"),
    "blank": (["\u200b", "\u2060"], "stop"),
    "tokens": refusal(DASHSCOPE),
    "nested": refusal(
        {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": RAW}}}
    ),
    "refused": PlainTextResponse("something is wrong", 400),
    "html": PlainTextResponse("<html>sign in</html>", 200),
}


class Talk:
    """A bot with a provider."""

    def __init__(self, bot: Program, default: Provider, fallback: Provider | None) -> None:
        self.bot = bot
        self.default = default
        self.fallback = fallback

    def ask(self, text: str, conversation: str = "") -> tuple[str, str]:
        """What was shown while the answer grew, and the answer."""
        token = jwt.encode({"sub": "ada", "exp": time.time() + 60, "jti": uuid.uuid4().hex}, SECRET)
        response = httpx.post(
            f"{self.bot.url}/console/v1/messages",
            json={"text": text, "conversation": conversation or text},
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            verify=NO_TLS,
            timeout=60.0,
        )
        events = [part.partition("\ndata: ") for part in response.text.split("\n\n") if "\ndata: " in part]
        shown = "".join(json.loads(data)["text"] for name, _, data in events if name == "event: delta")
        name, _, data = events[-1]
        assert name == "event: done"
        return shown, json.loads(data)["text"]


@contextmanager
def talking(folder: Path, default: Provider, fallback: Provider | None = None) -> Iterator[Talk]:
    with ExitStack() as stack:
        models = {
            name: {
                "endpoint": f"{stack.enter_context(serving(provider.application))}/v1",
                "model": "m",
                "first_token_seconds": 1,
                "token_gap_seconds": 1,
            }
            for name, provider in (("default", default), ("fallback", fallback))
            if provider
        }
        credentials = {"console-jwt-secret": SECRET}
        bot = stack.enter_context(Program(folder, "", {"console": {}}, credentials, models=models))
        bot.start()
        bot.wait_alive()
        yield Talk(bot, default, fallback)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with talking(tmp_path_factory.mktemp("alone"), Provider(**ANSWERS)) as talk:
        yield talk


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """Yield a bot with a fallback that answers `fine`."""
    with talking(tmp_path_factory.mktemp("helped"), Provider(**ANSWERS), Provider()) as talk:
        yield talk


@pytest.mark.parametrize("name", ["tags", "closing", "field", "parts", "harmony", "marks"])
def test_only_the_answer_is_shown_sent_and_stored(alone: Talk, name: str) -> None:
    for _ in range(2):
        shown, answer = alone.ask(name)
        assert answer == "Paris"
        assert shown == "Paris"
    [_, second] = alone.default.asked(name)
    assert [message["content"] for message in second["messages"]][1:] == [name, "Paris", name]


def test_answer_without_inline_reasoning_is_streamed_from_first_request(helped: Talk) -> None:
    assert [helped.ask("plain") for _ in range(2)] == [("Paris", "Paris")] * 2
    assert [helped.ask("field") for _ in range(2)] == [("Paris", "Paris")] * 2


@pytest.mark.parametrize("name", ["thinks", "opens"])
@pytest.mark.parametrize(("rest", "words"), [("why?", EN), ("为什么？", ZH)])
def test_answer_of_only_reasoning_is_reported_without_retry(
    alone: Talk, name: str, rest: str, words: Messages
) -> None:
    question = f"{name} {rest}"
    shown, answer = alone.ask(question)
    assert (shown, answer) == ("", words.only_reasoning)
    assert len([body for body in alone.default.asked(name) if rest in str(body)]) == 1


@pytest.mark.parametrize(
    ("name", "mark", "requests"),
    [
        ("long", "cut_length", 1),
        ("filter", "cut_filtered", 1),
        ("half", "cut_broken", 2),
        ("stalls", "cut_broken", 1),
    ],
)
def test_cut_answer_has_a_note(alone: Talk, name: str, mark: str, requests: int) -> None:
    for rest, words in (("why?", EN), ("为什么？", ZH)):
        _, answer = alone.ask(f"{name} {rest}", name)
        assert answer == f"Paris is\n\n{getattr(words, mark)}"
    asked = alone.default.asked(name)
    assert len(asked) == 2 * requests
    assert "(My answer" not in str(asked)


@pytest.mark.parametrize(
    ("name", "said"), [("tokens", EN.too_long), ("nested", EN.too_long), ("refused", EN.rejected)]
)
def test_conversation_continues_after_refused_history(alone: Talk, name: str, said: str) -> None:
    for number in range(3):
        alone.ask(f"fine {number}", name)
    assert alone.ask(f"{name} x", name)[1] == said
    lengths = [len(body["messages"]) for body in alone.default.asked(name)]
    assert lengths[0] == 8
    assert lengths[-1] == 2
    assert len(lengths) <= 5
    assert alone.ask("fine again", name)[1] == "fine"


def test_hanging_model_is_asked_once(alone: Talk) -> None:
    _, answer = alone.ask("hangs")
    assert answer == EN.model_failed
    assert len(alone.default.asked("hangs")) == 1


@pytest.mark.parametrize("name", ["hangs", "stalls", "thinks", "tokens", "refused", "half"])
def test_fallback_answers_for_any_default_failure(helped: Talk, name: str) -> None:
    _, answer = helped.ask(name)
    assert answer == "fine"
    assert len(helped.default.asked(name)) <= 2


@pytest.mark.parametrize("name", ["blank", "html"])
def test_fallback_is_asked_when_default_gives_no_answer(helped: Talk, name: str) -> None:
    assert helped.ask(name)[1] == "fine"


def test_reasoning_is_counted_and_unsupported_elements_are_logged(alone: Talk) -> None:
    alone.ask("field")
    metrics = alone.bot.get("/metrics").text
    [counted] = re.findall(
        r'^clawd_model_reasoning_tokens_total\{model="default"\} (\S+)', metrics, re.MULTILINE
    )
    assert float(counted) >= len(THINKING) // 3
    assert THINKING.strip() not in alone.bot.log.read_text()


def test_ready_with_hanging_fallback(helped: Talk) -> None:
    assert helped.fallback is not None
    helped.fallback.models_hang = True
    assert helped.bot.get("/readyz").status_code == 200
    helped.fallback.models_hang = False
