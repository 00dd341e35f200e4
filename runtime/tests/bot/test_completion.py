"""The client of the chat protocol, against a scripted transport and over a real Unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from clawd_runtime.bot.completion import (
    ChatMessage,
    ChatModel,
    ContextTooLong,
    ModelFailure,
    ModelRefused,
    ModelUnavailable,
    retry_after,
    socket_mounts,
)
from clawd_runtime.bot.settings import ModelEndpoint

REMOTE = ModelEndpoint(endpoint="https://models.example.com/v1/", model="m")
VLLM = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens."
QUESTION = (ChatMessage("system", "be kind"), ChatMessage("user", "hello"))


def chunk(text: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


class Pieces(httpx.AsyncByteStream):
    """A body that comes in these pieces, wherever they are cut."""

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
        model = ChatModel("default", REMOTE, http, "the-key")
        return [piece async for piece in model.stream(QUESTION, 64)]


def answer(response: httpx.Response | Exception) -> list[str]:
    return asyncio.run(ask(response, []))


def test_what_is_asked() -> None:
    seen: list[httpx.Request] = []
    asyncio.run(ask(httpx.Response(200, content=chunk("x", "stop") + b"data: [DONE]\n\n"), seen))
    assert str(seen[0].url) == "https://models.example.com/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer the-key"
    assert json.loads(seen[0].content) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}],
        "max_tokens": 64,
        "stream": True,
    }


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_pieces_come_whole_wherever_the_network_cuts(size: int) -> None:
    body = b": comment\n\n" + chunk("") + chunk("你好 ") + chunk("a\u2028b\x85c") + chunk("😀", "stop")
    body += b"data: [DONE]\r\n\r\n"
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    assert answer(httpx.Response(200, stream=Pieces(*pieces))) == ["你好 ", "a\u2028b\x85c", "😀"]


@pytest.mark.parametrize(("declared", "sent"), [(None, {}), (0.0, {"temperature": 0.0})])
def test_freedom_is_the_servers_own_choice_unless_declared(
    declared: float | None, sent: dict[str, float]
) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=Pieces(chunk("hi"), b"data: [DONE]\n\n"))

    async def once() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
            endpoint = ModelEndpoint(
                endpoint="https://models.example.com/v1", model="m", temperature=declared
            )
            assert [piece async for piece in ChatModel("default", endpoint, http).stream(QUESTION, 8)] == [
                "hi"
            ]

    asyncio.run(once())
    body = json.loads(seen[0].content)
    assert {name: value for name, value in body.items() if name == "temperature"} == sent


def test_an_end_without_done_is_an_end() -> None:
    assert answer(httpx.Response(200, content=chunk("x") + chunk(finish="length"))) == ["x"]


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (httpx.ConnectError("refused"), ModelUnavailable),
        (httpx.ReadTimeout("slow"), ModelUnavailable),
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
        (httpx.Response(400, json={"error": {"code": None, "type": "invalid_request_error"}}), ModelRefused),
        (httpx.Response(400, json=["?"]), ModelRefused),
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
        (httpx.Response(400, json={"error": {"code": 400, "message": "unknown field"}}), ModelRefused),
    ],
)
def test_failures(response: httpx.Response | Exception, failure: type[ModelFailure]) -> None:
    with pytest.raises(failure) as caught:
        answer(response)
    assert "hello" not in str(caught.value)
    assert "the-key" not in str(caught.value)


def test_it_says_when_to_come_back() -> None:
    with pytest.raises(ModelUnavailable) as caught:
        answer(httpx.Response(429, headers={"Retry-After": "7"}))
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
def test_retry_after(value: str, least: float, most: float) -> None:
    seconds = retry_after(httpx.Response(429, headers={"Retry-After": value}))
    assert seconds is not None
    assert least <= seconds <= most


@pytest.mark.parametrize("value", ["", "soon", "Fri, 99 Jan"])
def test_no_retry_after(value: str) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": value})) is None


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
        model = ChatModel("default", endpoint, http)
        dead = await model.alive()
        server = await asyncio.start_unix_server(serve, path)
        async with server:
            alive = await model.alive()
            request.clear()
            pieces = [piece async for piece in model.stream(QUESTION, 64)]
    return pieces, alive, dead, bytes(request)


def test_over_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    pieces, alive, dead, request = asyncio.run(_over_a_socket(tmp_path / "engine.sock"))
    assert pieces == ["over ", "a socket"]
    assert alive
    assert not dead
    assert request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


def test_a_socket_needs_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads_them() -> str:
        raise AssertionError("certificates are loaded")

    monkeypatch.setattr("certifi.where", loads_them)
    assert len(socket_mounts((("default", ModelEndpoint(endpoint="unix:/run/a.sock", model="m")),))) == 1
