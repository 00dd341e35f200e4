"""The client of the chat protocol, with a scripted transport and over a real Unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.models.completion import ModelClient, retry_after, socket_mounts
from clawd_runtime.bot.models.dialect import ChatMessage
from clawd_runtime.bot.models.failures import (
    ContentFiltered,
    ContextTooLong,
    ModelFailure,
    ModelHung,
    ModelRefused,
    ModelUnavailable,
    RequestRejected,
)
from clawd_runtime.bot.models.separation import End, OutputPiece
from clawd_runtime.bot.settings import ModelEndpoint

REMOTE = ModelEndpoint(endpoint="https://models.example.com/v1/", model="m")
VLLM = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens."
QUESTION = (ChatMessage("system", "be kind"), ChatMessage("user", "hello"))


def chunk(text: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


class Pieces(httpx.AsyncByteStream):
    """A body that arrives in these pieces."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


async def ask(response: httpx.Response | Exception, seen: list[httpx.Request]) -> list[str]:
    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if isinstance(response, Exception):
            raise response
        return response

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        model = ModelClient("default", REMOTE, http, "the-key")
        return await texts_of(model)


async def texts_of(model: ModelClient) -> list[str]:
    pieces = [piece async for piece in model.stream(QUESTION, 64)]
    return [piece.text for piece in pieces if isinstance(piece, OutputPiece) and piece.text]


async def answer(response: httpx.Response | Exception) -> list[str]:
    return await ask(response, [])


async def test_request_body() -> None:
    seen: list[httpx.Request] = []
    await ask(httpx.Response(200, content=chunk("x", "stop") + b"data: [DONE]\n\n"), seen)
    assert str(seen[0].url) == "https://models.example.com/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer the-key"
    assert json.loads(seen[0].content) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}],
        "max_tokens": 64,
        "stream": True,
    }


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
async def test_pieces_are_complete_regardless_of_network_chunks(size: int) -> None:
    body = b": comment\n\n" + chunk("") + chunk("你好 ") + chunk("a\u2028b\x85c") + chunk("😀", "stop")
    body += b"data: [DONE]\r\n\r\n"
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    assert await answer(httpx.Response(200, stream=Pieces(*pieces))) == ["你好 ", "a\u2028b\x85c", "😀"]


@pytest.mark.parametrize(("declared", "sent"), [(None, {}), (0.0, {"temperature": 0.0})])
async def test_temperature_is_sent_only_if_configured(declared: float | None, sent: dict[str, float]) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=Pieces(chunk("hi"), b"data: [DONE]\n\n"))

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        endpoint = ModelEndpoint(endpoint="https://models.example.com/v1", model="m", temperature=declared)
        assert await texts_of(ModelClient("default", endpoint, http)) == ["hi"]
    body = json.loads(seen[0].content)
    assert {name: value for name, value in body.items() if name == "temperature"} == sent


async def test_stream_may_end_without_done() -> None:
    assert await answer(httpx.Response(200, content=chunk("x") + chunk(finish="length"))) == ["x"]


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (httpx.ConnectError("refused"), ModelUnavailable),
        (httpx.ReadTimeout("slow"), ModelHung),
        (httpx.Response(200, content=chunk("half of")), ModelUnavailable),
        (httpx.Response(200, stream=Pieces(chunk("half"), httpx.ReadError("cut"))), ModelUnavailable),
        (httpx.Response(200, content=b'data: {"error": {"message": "boom"}}\n\n'), ModelUnavailable),
        (httpx.Response(200, content=b"data: <html>\n\n"), ModelUnavailable),
        (httpx.Response(200, content=b"data: [1]\n\n"), ModelUnavailable),
        (
            httpx.Response(200, content=b'data: {"choices": [{"delta": {"content": 5}}]}\n\n'),
            ModelUnavailable,
        ),
        (httpx.Response(200, content=b""), ModelUnavailable),
        (httpx.Response(500), ModelUnavailable),
        (httpx.Response(503, headers={"Retry-After": "7"}), ModelUnavailable),
        (httpx.Response(401, json={"error": {"message": "no", "code": "invalid_api_key"}}), ModelRefused),
        (httpx.Response(404), ModelRefused),
        (httpx.Response(400, json={"error": {"code": "context_length_exceeded"}}), ContextTooLong),
        (
            httpx.Response(400, json={"error": {"code": None, "type": "invalid_request_error"}}),
            RequestRejected,
        ),
        (httpx.Response(400, json=["?"]), RequestRejected),
        (httpx.Response(422, json={"detail": "?"}), RequestRejected),
        (httpx.Response(400), RequestRejected),
        (httpx.Response(413), ContextTooLong),
        (httpx.Response(400, json={"error": {"code": "content_filter", "message": "no"}}), ContentFiltered),
        (httpx.Response(400, json={"error": {"message": "Content Exists Risk"}}), ContentFiltered),
        (httpx.Response(403, json={"error": {"message": "Your input was flagged"}}), ContentFiltered),
        (httpx.Response(200, json={"error": {"message": "Content Exists Risk"}}), ContentFiltered),
        (httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "pay"}}), ModelRefused),
        (httpx.Response(429, json={"error": {"message": VLLM}}), ContextTooLong),
        (httpx.Response(500, json={"error": {"message": VLLM}}), ContextTooLong),
        (
            httpx.Response(200, content=b'data: {"error": {"message": "busy", "code": 429}}\n\n'),
            ModelUnavailable,
        ),
        (
            httpx.Response(200, content=b'data: {"error": {"message": "no", "code": 400}}\n\n'),
            RequestRejected,
        ),
        (
            httpx.Response(200, content=b'data: {"error": {"message": "no key", "code": 401}}\n\n'),
            ModelRefused,
        ),
        (
            httpx.Response(
                200,
                text='id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"InvalidParameter","message":'
                '"Range of input length should be [1, 6000]"}\n\n',
            ),
            ContextTooLong,
        ),
        (httpx.Response(200, json={"code": 1210, "msg": "exceeded model token limit: 8192"}), ContextTooLong),
        (httpx.Response(200, json={"error": {"code": "invalid_argument", "message": "?"}}), RequestRejected),
        (httpx.Response(200, json={"error": {"type": "authentication_error", "message": "?"}}), ModelRefused),
        (
            httpx.Response(200, json={"base_resp": {"status_code": 1002, "status_msg": "slow"}}),
            ModelUnavailable,
        ),
        (httpx.Response(200, text="<html>sign in</html>"), ModelUnavailable),
        (httpx.Response(200, json=[]), ModelUnavailable),
        (httpx.Response(200, content=chunk("half", "error")), ModelUnavailable),
        (httpx.Response(200, content=b"data: " + b"[" * 100_000 + b"\n\n"), ModelUnavailable),
        (httpx.Response(200, content=b"data: " + b"9" * 100_000 + b"\n\n"), ModelUnavailable),
        (
            httpx.Response(200, stream=Pieces(b"data: ", *(b"x" * 65_536 for _ in range(40)))),
            ModelUnavailable,
        ),
        (httpx.Response(400, content=b"[" * 1_000_000), RequestRejected),
        (httpx.Response(502, content=b"<html>" * 1_000_000), ModelUnavailable),
        (httpx.Response(400, json={"error": {"code": 400, "message": VLLM}}), ContextTooLong),
        (
            httpx.Response(400, json={"object": "error", "type": "BadRequestError", "message": VLLM}),
            ContextTooLong,
        ),
        (
            httpx.Response(400, json={"error": {"code": 400, "type": "exceed_context_size_error"}}),
            ContextTooLong,
        ),
        (httpx.Response(413, json={"error": "Context window exceeded", "message": VLLM}), ContextTooLong),
        (httpx.Response(401, json={"error": {"message": VLLM}}), ModelRefused),
        (httpx.Response(400, json={"error": {"code": 400, "message": "unknown field"}}), RequestRejected),
    ],
)
async def test_failure_by_status_and_body(
    response: httpx.Response | Exception, failure: type[ModelFailure]
) -> None:
    with pytest.raises(failure) as caught:
        await answer(response)
    assert "hello" not in str(caught.value)
    assert "the-key" not in str(caught.value)


async def test_failure_has_retry_after() -> None:
    with pytest.raises(ModelUnavailable) as caught:
        await answer(httpx.Response(429, headers={"Retry-After": "7"}))
    assert caught.value.after == 7.0


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("2.5", 2.5, 2.5),
        ("-3", 0.0, 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 1e8, 1e10),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0, 0.0),
    ],
)
def test_retry_after_is_parsed(value: str, least: float, most: float) -> None:
    seconds = retry_after(httpx.Response(429, headers={"Retry-After": value}))
    assert seconds is not None
    assert least <= seconds <= most


@pytest.mark.parametrize("value", ["", "soon", "Fri, 99 Jan"])
def test_invalid_retry_after_is_ignored(value: str) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": value})) is None


FRAGMENTS = st.sampled_from([
    *(b"data: ", b"\n", b"\r\n", b"\n\n", b": c\n", b"event: error\n", b"error: {}\n", b"[DONE]", b"{", b"}"),
    *(chunk("hi"), chunk("<think>"), chunk("</think>x"), chunk(finish="stop"), chunk(finish="length")),
    b'data: {"choices": [{"delta": {"content": [{"type": "thinking"}]}}]}\n',
    b'data: {"error": {"code": 429}}\n',
    b'{"error": {"message": "max_tokens", "param": "temperature"}}',
    b'{"detail": [{"loc": ["body", "stream"]}]}',
])  # fmt: skip


@given(
    st.sampled_from([200, 200, 200, 204, 301, 400, 401, 413, 422, 429, 500, 599]),
    st.sampled_from(["text/event-stream", "application/json; charset=utf-8", "text/html", ""]),
    st.lists(FRAGMENTS | st.binary(max_size=20), max_size=12),
    st.sampled_from(["", "soon", "9" * 400, "-1", "nan", "inf", "Fri, 31 Dec 9999 23:59:59 +2359"]),
)
async def test_any_response_is_an_answer_or_a_failure(
    status: int, kind: str, pieces: list[bytes], after: str
) -> None:
    headers = {"content-type": kind, "retry-after": after}

    def answer(_: object) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=Pieces(*pieces))

    server = Server(answer, temperature=0.5)
    with suppress(ModelFailure):
        [given] = await server.ask()
        assert isinstance(given[-1], End)
        assert all(isinstance(piece, OutputPiece) for piece in given[:-1])
    assert 1 <= len(server.bodies) <= 5


async def _over_a_socket(path: Path) -> tuple[list[str], bool, bool, bytes]:
    request = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request.extend(head)
        body = chunk("over ") + chunk("a socket", "stop") + b"data: [DONE]\n\n"
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    endpoint = ModelEndpoint(endpoint=f"unix:{path}", model="x")
    async with httpx.AsyncClient(mounts=socket_mounts([("default", endpoint)])) as http:
        model = ModelClient("default", endpoint, http)
        dead = await model.alive()
        server = await asyncio.start_unix_server(serve, path)
        async with server:
            alive = await model.alive()
            request.clear()
            pieces = await texts_of(model)
    return pieces, alive, dead, bytes(request)


async def test_request_over_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    pieces, alive, dead, request = await _over_a_socket(tmp_path / "engine.sock")
    assert pieces == ["over ", "a socket"]
    assert alive
    assert not dead
    assert request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


def test_unix_socket_loads_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads_them() -> str:
        raise AssertionError("certificates are loaded")

    monkeypatch.setattr("certifi.where", loads_them)
    assert len(socket_mounts((("default", ModelEndpoint(endpoint="unix:/run/a.sock", model="m")),))) == 1


class Server:
    """A provider behind a scripted transport: `answer` returns the response to a request's body."""

    def __init__(self, answer: Callable[[dict[str, Any]], httpx.Response], **endpoint: Any) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._answer = answer
        self._endpoint = ModelEndpoint(
            **{"endpoint": "https://models.example.com/v1", "model": "m"} | endpoint
        )

    async def ask(self, times: int = 1) -> list[list[OutputPiece | End]]:
        """Return the answers of one model to this many questions, one after another."""

        def handle(request: httpx.Request) -> httpx.Response:
            self.bodies.append(json.loads(request.content))
            return self._answer(self.bodies[-1])

        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
            model = ModelClient("default", self._endpoint, http)
            return [[piece async for piece in model.stream(QUESTION, 64)] for _ in range(times)]


def spoken(text: str = "hi", finish: str | None = "stop") -> httpx.Response:
    return httpx.Response(200, content=chunk(text) + chunk(finish=finish))


def openai(message: str, param: str | None, code: str = "unsupported_parameter") -> httpx.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return httpx.Response(400, json={"error": error})


MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead."
)
RAW = {"error": {"message": MAX_TOKENS, "param": "max_tokens"}}


@pytest.mark.parametrize(
    "refusal",
    [
        openai(MAX_TOKENS, "max_tokens"),
        openai("no", "max_tokens"),
        httpx.Response(400, text=MAX_TOKENS),
        httpx.Response(400, json={"message": MAX_TOKENS}),
        httpx.Response(
            422, json={"detail": [{"loc": ["body", "max_tokens"], "msg": MAX_TOKENS, "input": 64}]}
        ),
        httpx.Response(
            400,
            json={"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps(RAW)}}},
        ),
        httpx.Response(400, json=[{"error": {"message": f"OpenAIException - {json.dumps(RAW)}"}}]),
    ],
)
async def test_max_tokens_is_renamed_permanently_after_refusal(
    refusal: httpx.Response, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(lambda body: refusal if "max_tokens" in body else spoken())
    for pieces in await server.ask(times=2):
        assert isinstance(pieces[0], OutputPiece)
        assert pieces == [OutputPiece("hi", provisional=pieces[0].provisional), End()]
    assert [body.get("max_tokens") for body in server.bodies] == [64, None, None]
    assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 64, 64]
    assert "model default: does not accept max_tokens" in caplog.text


@pytest.mark.parametrize(
    "refusal",
    [
        openai("Unsupported value: 'temperature' does not support 0.3 with this model.", "temperature"),
        httpx.Response(400, text="temperature is not supported"),
        httpx.Response(422, json={"detail": [{"loc": ["body", "temperature"], "type": "extra_forbidden"}]}),
        httpx.Response(400, json={"error": "`temperature` is deprecated for this model."}),
        httpx.Response(400, json={"error": {"code": "1210", "message": "temperature参数非法。请检查文档。"}}),
        httpx.Response(400, json={"errors": {"temperature": ["is not permitted"]}}),
    ],
)
async def test_refused_parameter_is_omitted(refusal: httpx.Response) -> None:
    server = Server(lambda body: refusal if "temperature" in body else spoken(), temperature=0.3)
    await server.ask(times=2)
    assert ["temperature" in body for body in server.bodies] == [True, False, False]


async def test_max_tokens_is_renamed_after_chinese_refusal() -> None:
    refusal = httpx.Response(400, json={"message": "不支持参数max_tokens，请使用max_completion_tokens"})
    server = Server(lambda body: refusal if "max_tokens" in body else spoken())
    await server.ask()
    assert server.bodies[-1]["max_completion_tokens"] == 64


async def test_several_refused_parameters_are_omitted_in_turn() -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        for name in ("temperature", "max_tokens", "max_completion_tokens", "stream"):
            if name in body:
                return openai(f"Unsupported parameter: '{name}'", name)
        return httpx.Response(
            200, json={"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}
        )

    server = Server(answer, temperature=0.3)
    [first, second] = await server.ask(times=2)
    assert first == [OutputPiece("whole", provisional=True), End()]
    assert second == [OutputPiece("whole"), End()]
    assert len(server.bodies) == 6
    assert set(server.bodies[-1]) == {"model", "messages"}


@pytest.mark.parametrize(
    "message", ["Range of max_tokens should be [1, 32]", "max_tokens必须小于32", "max_tokens参数超出范围"]
)
async def test_max_tokens_is_omitted_when_its_value_is_refused(message: str) -> None:
    refusal = httpx.Response(400, json={"message": message})
    server = Server(lambda body: refusal if "max_tokens" in body else spoken())
    await server.ask()
    assert set(server.bodies[-1]) == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    "refusal",
    [
        openai(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            "messages[0].role",
        ),
        httpx.Response(400, json={"object": "error", "message": "System role not supported"}),
        httpx.Response(
            400, json={"error": {"message": "Developer instruction is not enabled, system not supported"}}
        ),
    ],
)
async def test_system_prompt_moves_to_first_message_without_system_role(refusal: httpx.Response) -> None:
    server = Server(lambda body: refusal if body["messages"][0]["role"] == "system" else spoken())
    await server.ask(times=2)
    assert [len(body["messages"]) for body in server.bodies] == [2, 1, 1]
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "be kind\n\nhello"}]


async def test_fruitless_adaptation_is_not_kept_or_retried() -> None:
    sent: list[bool] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        sent.append("temperature" in json.loads(request.content))
        return openai("temperature: no", "temperature")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http:
        endpoint = ModelEndpoint(endpoint="https://m.example.com/v1", model="m", temperature=0.3)
        model = ModelClient("default", endpoint, http)
        for _ in range(2):
            with pytest.raises(RequestRejected):
                await texts_of(model)
    assert sent == [True, False, True]


async def test_too_long_prompt_is_not_treated_as_wrong_parameter() -> None:
    words = f"'max_tokens' or 'max_completion_tokens' is too large: 512. {VLLM}"
    server = Server(lambda body: openai(words, "max_tokens", code="BadRequestError"))
    with pytest.raises(ContextTooLong):
        await server.ask()
    assert len(server.bodies) == 1


# --- ends and contents of answers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("finish", "cut"),
    [
        ("stop", None),
        ("eos", None),
        ("something new", None),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "filtered"),
        ("SAFETY", "filtered"),
        ("token_limit", "length"),
        ("length_limit", "length"),
        ("MaxTokens", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("max-new-tokens", "length"),
        ("context_window_limit", "length"),
        ("truncated", "length"),
        ("FINISH_REASON_CENSORED", "filtered"),
        ("moderation_blocked", "filtered"),
        ("time_limit", "broken"),
        ("engine_error", "broken"),
        ("stop_token", None),
        ("natural_end", None),
        ("sensitive", "filtered"),
    ],
)
async def test_end_by_finish_reason(finish: str, cut: str | None) -> None:
    if cut == "broken":
        with pytest.raises(ModelUnavailable, match="ended prematurely"):
            await Server(lambda body: spoken("hi", finish)).ask()
    else:
        [pieces] = await Server(lambda body: spoken("hi", finish)).ask()
        assert pieces[-1] == End(cut)  # type: ignore[arg-type]


async def test_unsupported_element_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "hologram", "data": "secret"}, {"type": 5}]
    body = {"choices": [{"index": 0, "delta": {"content": parts}, "finish_reason": "x\ny"}]}
    content = f"data: {json.dumps(body)}\n\n".encode()
    answers = await Server(lambda _: httpx.Response(200, content=content)).ask(times=3)
    assert [piece.text for pieces in answers for piece in pieces if isinstance(piece, OutputPiece)] == [
        "a"
    ] * 3
    assert caplog.text.count("a part of type hologram") == 1
    assert caplog.text.count("a part of type (int)") == 1
    assert caplog.text.count("finish_reason (str)") == 1
    assert "secret" not in caplog.text


THINKING = "Paris is the capital. "


@pytest.mark.parametrize(
    "deltas",
    [
        [{"reasoning_content": THINKING}, {"content": "Paris"}],
        [{"reasoning": THINKING}, {"content": "Paris"}],
        [{"thinking": THINKING, "content": ""}, {"content": "Paris"}],
        [{"content": "", "reasoning_content": THINKING}, {"content": "Paris", "reasoning_content": None}],
        [{"content": f"<think>{THINKING}</think>Paris"}],
        [{"content": "<thi"}, {"content": f"nk>{THINKING}</th"}, {"content": "ink>\n\nParis"}],
        [{"content": f"{THINKING}</think>\n\nParis"}],
        [{"content": [{"type": "thinking", "thinking": THINKING}, {"type": "text", "text": "Paris"}]}],
        [
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THINKING}]}]},
            {"content": "Paris"},
        ],
        [{"content": [{"type": "reasoning", "text": THINKING}, "Paris"]}],
        [{"content": [{"text": THINKING, "thought": True}, {"text": "Paris"}]}],
        [
            {"content": f"<|channel|>analysis<|message|>{THINKING}<|end|><|start|>assistant"},
            {"content": "<|channel|>final<|message|>Paris<|return|>"},
        ],
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_reasoning_is_separated_in_all_forms(deltas: list[dict[str, Any]], streamed: bool) -> None:
    def answer(_: object) -> httpx.Response:
        if streamed:
            events: list[Any] = [{"choices": [{"delta": delta}]} for delta in deltas]
            events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            return httpx.Response(200, content="".join(f"data: {json.dumps(each)}\n\n" for each in events))
        content: list[Any] = []
        message: dict[str, Any] = {}
        for delta in deltas:
            part = delta.get("content")
            content.extend(part if isinstance(part, list) else [part] if part else [])
            message |= {name: value for name, value in delta.items() if name != "content" and value}
        message["content"] = "".join(content) if all(isinstance(each, str) for each in content) else content
        return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

    for pieces in await Server(answer).ask(times=2):
        text = reasoning = shown = ""
        for piece in pieces:
            assert not isinstance(piece, End) or piece.cut is None
            if isinstance(piece, OutputPiece):
                text = piece.text if piece.restarts else text + piece.text
                reasoning += piece.reasoning
                shown += "" if piece.provisional else piece.text
        assert text.strip() == "Paris"
        assert reasoning.strip() == THINKING.strip()
        assert THINKING.strip() not in shown


async def test_model_without_opening_tag_may_skip_reasoning() -> None:
    texts = iter([f"{THINKING}</think>Paris", "Paris", f"{THINKING}</think>Rome"])
    answers = await Server(lambda _: spoken(next(texts))).ask(times=3)
    final = []
    for pieces in answers:
        text = ""
        for piece in pieces:
            if isinstance(piece, OutputPiece):
                text = piece.text if piece.restarts else text + piece.text
        final.append(text)
    assert final == ["Paris", "Paris", "Rome"]


async def test_answer_that_explains_a_mark_is_complete() -> None:
    text = "Der Begriff <thought> ist Teil von XML.\nMehr Text."
    answers = await Server(lambda _: spoken(text)).ask(times=2)
    for pieces in answers:
        assert "".join(piece.text for piece in pieces if isinstance(piece, OutputPiece)) == text
    assert not any(piece.provisional for piece in answers[1] if isinstance(piece, OutputPiece))


async def test_reasoning_tokens_from_usage() -> None:
    usage = {"choices": [], "usage": {"completion_tokens_details": {"reasoning_tokens": 7}}}
    content = chunk("hi", "stop") + f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode()
    [pieces] = await Server(lambda _: httpx.Response(200, content=content)).ask()
    assert pieces[-1] == End(None, 7)


async def test_turn_marks_are_neutralised_for_remote_servers() -> None:
    server = Server(lambda _: spoken())

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(seen)) as http:
            model = ModelClient("default", REMOTE, http)
            prompt = (ChatMessage("user", "hi<|im_end|>"), ChatMessage("assistant", "[INST]"))
            assert [piece async for piece in model.stream(prompt, 8)]

    bodies: list[Any] = []

    def seen(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return server._answer({})

    await ask()
    assert [message["content"] for message in bodies[0]["messages"]] == ["hi<\u2060|im_end|>", "[\u2060INST]"]
