from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
import time

import httpx
import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clawd_runtime.engine.batching.computer import Opened
from clawd_runtime.engine.http.api import create_app
from clawd_runtime.engine.http.completions import CompletionRequest
from clawd_runtime.engine.http.key import read_key
from clawd_runtime.engine.http.requests import ChatRequest
from clawd_runtime.engine.service import Engine
from clawd_runtime.errors import SettingsError

PROMPT = "<user>hello<assistant>"
HELLO = {"model": "fake", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}


class Running:
    def __init__(self, engine: Engine, model) -> None:
        self.engine, self.model = engine, model
        self.app = create_app(engine)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://engine")

    async def call(self, method: str, path: str, **request) -> httpx.Response:
        async with self.client() as client:
            return await client.request(method, path, **request)

    async def chat(self, **changes) -> httpx.Response:
        return await self.call("POST", "/v1/chat/completions", json=HELLO | changes)


@pytest.fixture
def running(settings, fake_model):
    model = fake_model(parallel=settings.parallel, context_size=settings.context_size)
    engine = Engine(settings, on_fault=lambda fault: None, open_model=lambda _: Opened(model, "none", 1))
    engine.load()
    yield Running(engine, model)
    engine.close()


# The control tokens in the fake template are text for it: the client's text is unchanged.
def expected(answer_of, max_tokens=20):
    return answer_of(PROMPT.encode(), max_tokens)


def events(response: httpx.Response) -> list:
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line[6:] == "[DONE]" else json.loads(line[6:]) for line in lines]


async def test_unstreamed_completion(running, answer_of):
    response = await running.chat()
    assert response.status_code == 200
    body = response.json()
    text = expected(answer_of)
    assert body["object"] == "chat.completion"
    assert body["model"] == "fake"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": text, "refusal": None}
    reason = "length" if len(text) == 20 else "stop"
    assert body["choices"][0]["finish_reason"] == reason
    usage = body["usage"]
    assert usage["prompt_tokens"] == len(PROMPT)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
async def test_users_named_in_requests_take_turns(settings, fake_model, name):
    """The first request of another user is computed before the second one of the first user."""
    model = fake_model(parallel=1, context_size=settings.context_size)
    opened, reached = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        assert opened.wait(10)

    model.before_step = wait
    engine = Engine(
        settings.model_copy(update={"parallel": 1}),
        on_fault=lambda fault: None,
        open_model=lambda _: Opened(model, "none", 1),
    )
    engine.load()
    order = []

    async def ask(running: Running, user: str) -> None:
        await running.chat(**{name: user})
        order.append(user)

    running = Running(engine, model)
    try:
        asking = []
        for waiting, user in enumerate(("a", "a", "b")):
            asking.append(asyncio.create_task(ask(running, user)))
            queued = f"clawd_engine_queue_length {float(waiting)}"
            async with asyncio.timeout(10):
                while not reached.is_set() or queued not in engine.metrics.text().decode():
                    await asyncio.sleep(0)
        opened.set()
        await asyncio.gather(*asking)
    finally:
        opened.set()
        engine.close()
    assert order == ["a", "b", "a"]


async def test_streamed_answer_is_the_same(running, answer_of):
    response = await running.chat(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events(response)
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == expected(answer_of)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert all("usage" not in chunk for chunk in chunks)


async def test_stream_ends_with_usage_if_requested(running):
    *chunks, last, _ = events(await running.chat(stream=True, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == len(PROMPT)


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "other"}, 404, "model_not_found", "model"),
        ({"messages": []}, 400, None, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, None, "messages[0].role"),
        ({"temperature": 3}, 400, None, "temperature"),
        ({"max_tokens": 0}, 400, None, "max_tokens"),
        ({"max_tokens": 5000}, 400, "context_length_exceeded", "messages"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, None, "stop"),
        ({"n": 17}, 400, None, "n"),
        ({"n": 6}, 400, None, "n"),
        ({"logit_bias": {"257": 1}}, 400, None, "logit_bias"),
        ({"tools": [{"type": "function"}]}, 400, None, "tools"),
        ({"response_format": {"type": "xml"}}, 400, None, "response_format"),
        ({"top_logprobs": 2}, 400, None, "top_logprobs"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_invalid_requests_get_error_responses(running, change, status, code, param, stream):
    response = await running.chat(**change, stream=stream)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code
    assert error["param"].startswith(param)
    assert error["message"]


async def test_invalid_json_gets_400(running):
    response = await running.call("POST", "/v1/chat/completions", content=b"{")
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_too_large_body_is_refused(running):
    response = await running.chat(messages=[{"role": "user", "content": "x" * 9_000_000}])
    assert response.status_code == 413


async def test_null_and_client_fields_have_no_effect(running):
    plain = (await running.chat(temperature=0)).json()["choices"]
    changes = {"top_p": None, "stop": None, "n": None, "tools": None, "user": "u", "store": False}
    assert (await running.chat(temperature=0, **changes)).json()["choices"] == plain


@pytest.mark.parametrize(
    ("declared", "status"),
    [
        (None, 200),
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=latin-1", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
async def test_only_json_content_type_is_accepted(running, declared, status):
    headers = {} if declared is None else {"Content-Type": declared}
    response = await running.call("POST", "/v1/chat/completions", content=json.dumps(HELLO), headers=headers)
    assert response.status_code == status
    if status != 200:
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_compressed_body_is_refused(running):
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    response = await running.call("POST", "/v1/chat/completions", content=b"\x1f\x8b", headers=headers)
    assert response.status_code == 415


THOUGHTS = "<think>I think.</think>\n\nParis"


@pytest.fixture
def saying(running):
    """Return a function that makes the model without weights answer a text, one character per token."""

    def say(text: str) -> None:
        model, prompt = running.model, len(PROMPT)
        model.draw = lambda seq: model.ready.remove(seq) or len(model.held[seq]) - prompt
        model.ends_answer = lambda token: token >= len(text)
        model.piece = lambda token: text[token : token + 1].encode()

    return say


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_is_separate_from_content(running, saying, stream):
    saying(THOUGHTS)
    response = await running.chat(
        stream=stream, stream_options={"include_usage": True} if stream else None, max_tokens=90
    )
    if stream:
        *chunks, last, _ = events(response)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        message = {
            name: "".join(delta.get(name, "") for delta in deltas)
            for name in ("content", "reasoning_content")
        }
        usage, reason = last["usage"], chunks[-1]["choices"][0]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        message, usage, reason = choice["message"], response.json()["usage"], choice["finish_reason"]
    assert message["content"] == "Paris"
    assert message["reasoning_content"] == "I think."
    assert reason == "stop"
    assert usage["completion_tokens"] == len(THOUGHTS) + 1
    assert usage["completion_tokens_details"]["reasoning_tokens"] == len("<think>I think.</think>") - 6


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_cut_while_reasoning_has_no_content(running, saying, stream):
    saying(THOUGHTS)
    response = await running.chat(stream=stream, max_tokens=14)
    if stream:
        choices = [chunk["choices"][0] for chunk in events(response)[:-1]]
        content = "".join(choice["delta"].get("content", "") for choice in choices)
        assert (content, choices[-1]["finish_reason"]) == ("", "length")
    else:
        choice = response.json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
        assert choice["message"]["reasoning_content"] == "I think"
        assert response.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] == 8


async def test_closing_mark_alone_marks_preceding_text_as_reasoning(running, saying):
    """Only without streaming: a stream cannot withdraw text, and sends the mark."""
    saying("I think.</think>Paris")
    message = (await running.chat(max_tokens=90)).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("I think.", "Paris")
    deltas = [
        chunk["choices"][0]["delta"] for chunk in events(await running.chat(stream=True, max_tokens=90))[:-1]
    ]
    text = "".join(delta.get("content", "") for delta in deltas)
    assert text == "I think.\n</think>\n\nParis"
    assert not any("reasoning_content" in delta for delta in deltas)


async def test_content_may_be_a_list_of_parts(running):
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert (await running.chat(messages=[{"role": "user", "content": parts}])).json()["usage"][
        "prompt_tokens"
    ] == len(PROMPT)


async def test_answer_without_limit_may_fill_context(running):
    response = await running.chat(max_tokens=None)
    assert response.status_code == 200
    assert (
        await running.chat(max_tokens=None, messages=[{"role": "user", "content": "x" * 600}])
    ).status_code == 400


async def test_full_queue_returns_429_with_retry_after(running, settings):
    running.model.before_step = lambda: time.sleep(0.05)
    async with running.client() as client:
        call = [client.post("/v1/chat/completions", json=HELLO) for _ in range(9)]
        responses = await asyncio.gather(*call)
    refused = [response for response in responses if response.status_code == 429]
    assert len(refused) == 9 - settings.parallel - settings.queue
    assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
    assert refused[0].json()["error"]["type"] == "rate_limit_error"


async def test_choices_share_a_prompt(running, answer_of):
    content = "hello " * 20
    prompt = f"<user>{content}<assistant>"
    messages = [{"role": "user", "content": content}]
    body = (await running.chat(n=3, messages=messages)).json()
    choices = body["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    text = answer_of(prompt.encode(), 20)
    assert {choice["message"]["content"] for choice in choices} == {text}
    assert body["usage"]["prompt_tokens"] == len(prompt)
    single = (await running.chat(messages=messages)).json()["usage"]["completion_tokens"]
    assert body["usage"]["completion_tokens"] == 3 * single
    computed = sum(len(feed.tokens) for step in running.model.steps for feed in step if len(feed.tokens) > 1)
    assert computed < 1.3 * len(prompt)


async def test_streamed_choices_are_told_apart_by_index(running, answer_of):
    *chunks, last, done = events(await running.chat(n=2, stream=True, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    for index in (0, 1):
        parts = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert parts[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(part["delta"].get("content", "") for part in parts) == expected(answer_of)
        assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1]["finish_reason"] in ("stop", "length")
    assert last["usage"]["prompt_tokens"] == len(PROMPT)


async def test_too_many_choices_are_all_refused(running, settings):
    running.model.before_step = lambda: time.sleep(0.05)
    async with running.client() as client:
        calls = [client.post("/v1/chat/completions", json=HELLO | {"n": 4}) for _ in range(2)]
        responses = await asyncio.gather(*calls)
    assert sorted(response.status_code for response in responses) == [200, 429]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", [None, "s i"])
async def test_logprobs_belong_to_the_text(running, saying, stream, stop):
    """Reasoning has none, and neither has a stop string that is not shown."""
    saying("<think>x</think>Paris is")
    response = await running.chat(stream=stream, max_tokens=90, logprobs=True, top_logprobs=2, stop=stop)
    if stream:
        choices = [chunk["choices"][0] for chunk in events(response)[:-1]]
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        content = [each for choice in choices for each in (choice["logprobs"] or {"content": []})["content"]]
    else:
        choice = response.json()["choices"][0]
        text, content = choice["message"]["content"], choice["logprobs"]["content"]
    assert text == ("Pari" if stop else "Paris is")
    assert "".join(each["token"] for each in content) == text
    assert all(bytes(each["bytes"]).decode() == each["token"] for each in content)
    assert all(each["logprob"] <= 0 and len(each["top_logprobs"]) == 2 for each in content)


@pytest.fixture
def roomy(settings, fake_model):
    """A context with room for the description of tools."""
    larger = settings.model_copy(update={"context_size": 2048})
    model = fake_model(parallel=settings.parallel, context_size=2048)
    engine = Engine(larger, on_fault=lambda fault: None, open_model=lambda _: Opened(model, "none", 1))
    engine.load()
    yield Running(engine, model)
    engine.close()


TOOLS = [{"type": "function", "function": {"name": "now", "description": "the time"}}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "content", "count"),
    [
        ('Wait.\n<tool_call>{"name": "now", "arguments": {"a": 1}}</tool_call>', "Wait.", 1),
        ('<tool_call>{"name": "now", "arguments": {"a": 1}}</tool_call>' * 2, None, 2),
        ("<tool_call>{</tool_call>", "<tool_call>{</tool_call>", 0),
    ],
)
async def test_calls_of_tools_are_separate_from_content(roomy, stream, answer, content, count):
    running, model = roomy, roomy.model
    prompt_size = (await running.chat(tools=TOOLS, max_tokens=1)).json()["usage"]["prompt_tokens"]
    assert prompt_size > len(PROMPT) + 100, "the tools are in the prompt"
    model.draw = lambda seq: model.ready.remove(seq) or len(model.held[seq]) - prompt_size
    model.ends_answer = lambda token: token >= len(answer)
    model.piece = lambda token: answer[token : token + 1].encode()
    response = await running.chat(tools=TOOLS, stream=stream, max_tokens=200)
    if stream:
        choices = [chunk["choices"][0] for chunk in events(response)[:-1]]
        text = "".join(choice["delta"].get("content", "") for choice in choices) or None
        parts = [part for choice in choices for part in choice["delta"].get("tool_calls", [])]
        calls = [
            {
                "id": part["id"],
                "type": part["type"],
                "function": {"name": part["function"]["name"], "arguments": ""},
            }
            for part in parts
            if "id" in part
        ]
        for part in parts:
            calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
        reason = choices[-1]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        text, calls = choice["message"]["content"], choice["message"].get("tool_calls", [])
        reason = choice["finish_reason"]
    assert text == content
    assert [call["function"] for call in calls] == [{"name": "now", "arguments": '{"a": 1}'}] * count
    assert len({call["id"] for call in calls}) == count
    assert reason == ("tool_calls" if count else "stop")


async def complete(running, **fields) -> httpx.Response:
    body = {"model": "fake", "prompt": "hello", "max_tokens": 8} | fields
    return await running.call("POST", "/v1/completions", json=body)


async def test_completion_continues_text_without_template(running, answer_of):
    body = (await complete(running)).json()
    assert body["object"] == "text_completion"
    (choice,) = body["choices"]
    text = answer_of(b"hello", 8)
    assert (choice["text"], choice["index"]) == (text, 0)
    assert choice["finish_reason"] == ("length" if len(text) == 8 else "stop")
    assert body["usage"]["prompt_tokens"] == 5
    as_tokens = (await complete(running, prompt=list(b"hello"))).json()["choices"][0]["text"]
    assert as_tokens == text


@pytest.mark.parametrize("stream", [False, True])
async def test_completions_of_several_prompts(running, answer_of, stream):
    response = await complete(running, prompt=["one", "two"], n=2, echo=True, stream=stream)
    if stream:
        texts = dict.fromkeys(range(4), "")
        for chunk in events(response)[:-1]:
            texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    else:
        texts = {choice["index"]: choice["text"] for choice in response.json()["choices"]}
        assert response.json()["usage"]["prompt_tokens"] == 6
    prompts = ["one", "one", "two", "two"]
    assert texts == {i: prompt + answer_of(prompt.encode(), 8) for i, prompt in enumerate(prompts)}


async def test_completion_keeps_marks_of_reasoning(running, saying):
    saying("<think>I think.</think>Paris")
    running.model.draw = lambda seq: running.model.ready.remove(seq) or len(running.model.held[seq]) - 5
    assert (await complete(running, max_tokens=90)).json()["choices"][0][
        "text"
    ] == "<think>I think.</think>Paris"


async def test_logprobs_of_completion_are_of_the_older_form(running):
    logprobs = (await complete(running, logprobs=2)).json()["choices"][0]["logprobs"]
    count = len(logprobs["tokens"])
    assert logprobs["text_offset"] == list(range(count))
    assert len(logprobs["token_logprobs"]) == count
    assert all(len(top) == 2 for top in logprobs["top_logprobs"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [999]}, "prompt"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 6}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"prompt": "x" * 600}, "prompt"),
        ({"model": "other"}, "model"),
    ],
)
async def test_invalid_completion_requests_are_refused(running, fields, param):
    response = await complete(running, **fields)
    assert response.status_code == (404 if param == "model" else 400)
    assert response.json()["error"]["param"] == param


async def test_tokenize_and_detokenize(running):
    tokens = (await running.call("POST", "/tokenize", json={"content": "héy"})).json()
    assert tokens == {"tokens": list("héy".encode()), "count": 4}
    pieces = await running.call("POST", "/tokenize", json={"content": "hi", "with_pieces": True})
    assert pieces.json()["tokens"] == [{"id": 104, "piece": "h"}, {"id": 105, "piece": "i"}]
    text = await running.call("POST", "/detokenize", json={"tokens": tokens["tokens"]})
    assert text.json() == {"content": "héy"}
    wrong = await running.call("POST", "/detokenize", json={"tokens": [999]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "tokens")


async def embed(running, **fields) -> httpx.Response:
    return await running.call("POST", "/v1/embeddings", json={"model": "fake", "input": "abc"} | fields)


async def test_embeddings_are_refused_unless_set_up(running):
    response = await embed(running)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported_endpoint"


@pytest.fixture
def embedding(settings, fake_model):
    model = fake_model(parallel=settings.parallel, context_size=settings.context_size)
    engine = Engine(
        settings.model_copy(update={"embeddings": True}),
        on_fault=lambda fault: None,
        open_model=lambda _: Opened(model, "none", 1),
    )
    engine.load()
    yield Running(engine, model)
    engine.close()
    assert model.embedder.closed


async def test_embeddings_as_floats_and_as_base64(embedding):
    body = (await embed(embedding, input=["abc", "d"])).json()
    assert [each["index"] for each in body["data"]] == [0, 1]
    assert body["data"][1]["embedding"] == [1.0, 0.0, 0.0, 0.0]
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    coded = (await embed(embedding, input=[97, 98, 99], encoding_format="base64")).json()["data"][0]
    assert list(struct.unpack("<4f", base64.b64decode(coded["embedding"]))) == body["data"][0]["embedding"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": "x" * 513}, "input"),
        ({"input": [999]}, "input"),
        ({"dimensions": 3}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"other": 1}, "other"),
    ],
)
async def test_invalid_embedding_requests_are_refused(embedding, fields, param):
    response = await embed(embedding, **fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert (await embed(embedding, dimensions=4)).status_code == 200


async def test_queue_of_embeddings_is_limited(embedding, settings):
    embedding.model.embedder.before = lambda: time.sleep(0.1)
    responses = await asyncio.gather(*(embed(embedding) for _ in range(6)))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200] * (settings.queue + 1) + [429] * (6 - settings.queue - 1)


KEY = "a-key-of-twenty-letters"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {KEY}", 200),
        (KEY, 401),
        (None, 401),
        ("Bearer", 401),
        (f"Bearer {KEY}x", 401),
        ("Bearer \xe9", 401),
    ],
)
async def test_key_is_required_where_there_is_one(running, given, status):
    running.app = create_app(running.engine, KEY)
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    response = await running.call("GET", "/v1/models", headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
        assert KEY not in response.text
    for path in ("/health", "/metrics"):
        assert (await running.call("GET", path)).status_code == 200


@pytest.mark.parametrize("content", ["", "short", "x" * 15, "é" * 20, "a\nb" * 10])
def test_unusable_key_is_refused(tmp_path, content):
    path = tmp_path / "key"
    with pytest.raises(SettingsError, match="cannot read"):
        read_key(path)
    path.write_text(content)
    with pytest.raises(SettingsError, match="unusable") as caught:
        read_key(path)
    assert not content or content not in str(caught.value)
    path.write_text(f"{KEY}\n")
    assert read_key(path) == KEY


async def test_document_describes_every_route(running):
    document = (await running.call("GET", "/openapi.json")).json()
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    routes = {
        (route.path.replace("{name:path}", "{id}"), method)
        for route in running.app.routes
        for method in route.methods - {"HEAD"}
    }
    assert described == routes - {("/openapi.json", "GET")}
    for path, kind in (("/v1/chat/completions", ChatRequest), ("/v1/completions", CompletionRequest)):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
        assert set(schema["properties"]) == set(kind.model_fields)
        assert schema["additionalProperties"] is False
    valid = {"$ref": "#/components/schemas/ChatRequest", "components": document["components"]}
    jsonschema.validate(HELLO | {"stop": "x", "n": 2}, valid)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(HELLO | {"n": 0}, valid)
    assert "security" not in document
    keyed = create_app(running.engine, KEY).state.document
    assert keyed["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


async def test_refused_method_names_allowed_ones(running):
    assert set((await running.call("PUT", "/v1/models")).headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_failed_answer_returns_500(running):
    running.model.fail_next = True
    response = await running.chat()
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"


async def test_failed_stream_ends_with_error_event(running):
    running.model.fail_next = True
    parts = events(await running.chat(stream=True))
    assert "error" in parts[-1]
    assert "[DONE]" not in parts


def _scope_and_body(body: dict) -> tuple[dict, bytes]:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [],
    }
    return scope, json.dumps(body).encode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
async def test_client_disconnect_frees_slot(running, stream, at_once):
    """`at_once`: the client disconnects before the first byte of the answer."""
    began = asyncio.Event()
    running.model.before_step = lambda: time.sleep(0.01)
    running.model.ends_answer = lambda token: False
    running.model.piece = lambda token: b"x"

    scope, body = _scope_and_body(HELLO | {"stream": stream, "max_tokens": 400})
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict:
        if messages:
            return messages.pop(0)
        if not at_once:
            await (began.wait() if stream else asyncio.sleep(0.1))
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        if b"content" in message.get("body", b""):
            began.set()

    await asyncio.wait_for(running.app(scope, receive, send), 10)
    deadline = time.monotonic() + 2
    while running.model.drawing:
        assert time.monotonic() < deadline, "the slot is still in use"
        time.sleep(0.01)
    assert len(running.model.steps) < 300


@pytest.mark.parametrize("sent", [b"", b'{"model": "fa'])
async def test_client_disconnect_while_sending_is_not_an_error(running, caplog, sent):
    scope, _ = _scope_and_body(HELLO)
    messages = [{"type": "http.request", "body": sent, "more_body": True}, {"type": "http.disconnect"}]
    replies = []

    async def receive() -> dict:
        return messages.pop(0)

    async def send(message: dict) -> None:
        replies.append(message)

    await running.app(scope, receive, send)
    assert replies[0]["status"] == 499
    assert not caplog.records
    assert (await running.chat()).status_code == 200


async def test_incomplete_body_times_out(running, monkeypatch):
    monkeypatch.setattr("clawd_runtime.engine.http.api.BODY_SECONDS", 0.05)
    scope, _ = _scope_and_body(HELLO)
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]
    replies = []

    async def receive() -> dict:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    async def send(message: dict) -> None:
        replies.append(message)

    await asyncio.wait_for(running.app(scope, receive, send), 10)
    assert replies[0]["status"] == 408
    assert json.loads(replies[1]["body"])["error"]["type"] == "invalid_request_error"


async def test_health_and_models_endpoints(running, settings):
    assert (await running.call("GET", "/health")).status_code == 200
    models = (await running.call("GET", "/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["fake"]
    assert (await running.call("GET", "/v1/models/fake")).json() == models["data"][0]
    missing = await running.call("GET", "/v1/models/other/model")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_requests_while_model_is_loading(settings, fake_model):
    engine = Engine(
        settings, on_fault=lambda fault: None, open_model=lambda _: Opened(fake_model(), "none", 1)
    )
    running = Running(engine, None)
    health = await running.call("GET", "/health")
    assert (health.status_code, health.json()["status"]) == (503, "loading")
    answer = await running.chat()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert (await running.call("GET", "/metrics")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/", 404),
        ("POST", "/v1/answers", 404),
        ("GET", "/v1/completions", 405),
        ("GET", "/tokenize", 405),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models/fake", 405),
        ("OPTIONS", "/v1/models", 405),
    ],
)
async def test_unknown_paths_and_methods_are_refused(running, method, path, status):
    response = await running.call(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert path in response.json()["error"]["message"]


async def test_metrics_are_counted(running):
    await running.chat()
    await running.chat(n=-3)
    text = (await running.call("GET", "/metrics")).text
    values = {
        (sample.name, sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["clawd_engine_prompt_tokens_total", None] == len(PROMPT)
    assert values["clawd_engine_requests_total", "refused"] == 1
    assert values["clawd_engine_completion_tokens_total", None] > 0
    assert values["clawd_engine_kv_tokens", None] >= len(PROMPT)
    assert values["clawd_engine_kv_capacity_tokens", None] == 3 * 512
