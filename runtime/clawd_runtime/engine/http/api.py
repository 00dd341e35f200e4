"""The HTTP API of the engine: the OpenAI chat protocol, health and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from clawd_runtime.engine.http.protocol import Envelope, error_body
from clawd_runtime.engine.http.requests import parse_chat_request
from clawd_runtime.engine.metrics import CONTENT_TYPE
from clawd_runtime.engine.service import AnswerStream, Engine
from clawd_runtime.engine.values import Delta, Failed, Finished
from clawd_runtime.errors import EngineError, RequestError, RuntimeFault
from clawd_runtime.reasoning.marks import CLOSING_MARK

# A client that takes longer to send its request has stopped, or keeps the connection open on purpose.
BODY_SECONDS = 10.0
LARGEST_BODY = 8 * 1024 * 1024  # bytes; far more text than any context holds

# The status that nginx logs for a client that has disconnected; no client receives it.
_CLIENT_GONE = 499


def create_app(engine: Engine) -> Starlette:
    """Return the ASGI application that serves `engine`."""
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", _chat_completions, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/v1/models/{name:path}", _model),
            Route("/health", _health),
            Route("/metrics", _metrics),
        ],
        exception_handlers={
            RuntimeFault: _fault_response,
            404: _unknown,
            405: _unknown,
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False
    app.state.engine = engine
    return app


async def _chat_completions(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    try:
        _check_content_type(request)
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(request)
        chat = parse_chat_request(body)
        answer = await engine.answer(chat)
    except RequestError:
        engine.metrics.requests.labels("refused").inc()
        raise
    except ClientDisconnect:
        return Response(status_code=_CLIENT_GONE)
    except TimeoutError:
        raise RequestError(f"request body not received within {BODY_SECONDS:g} s", status=408) from None
    envelope = Envelope(engine.settings.model_name)
    if chat.stream:
        return _AnswerStream(answer, envelope, include_usage=chat.include_usage())
    try:
        return await _whole(request, answer, envelope)
    finally:
        answer.cancel()


def _check_content_type(request: Request) -> None:
    """Raise `RequestError` if the request declares anything other than JSON in UTF-8."""
    declared = request.headers.get("content-type", "application/json").lower()
    kind, _, parameters = declared.partition(";")
    name, _, charset = parameters.strip().partition("=")
    if kind.strip() != "application/json" or (
        name == "charset" and charset.strip('"') not in ("utf-8", "utf8")
    ):
        raise RequestError(
            f"unsupported content type {declared[:80]!r}: it must be application/json", status=415
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError("unsupported content-encoding: the body must not be compressed", status=415)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise RequestError(f"request too large: more than {LARGEST_BODY} bytes", status=413)
    return bytes(body)


async def _whole(request: Request, answer: AnswerStream, envelope: Envelope) -> Response:
    """Return the complete answer; stop waiting when the client disconnects."""
    collecting = asyncio.ensure_future(_collect(answer))
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({collecting, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            return Response(status_code=_CLIENT_GONE)
        reasoning, text, end = collecting.result()
        return JSONResponse(envelope.completion(text, end.reason, end.usage, reasoning))
    finally:
        collecting.cancel()
        watching.cancel()


async def _collect(answer: AnswerStream) -> tuple[str, str, Finished]:
    """Return the reasoning, the text and the final event of the answer."""
    reasoning: list[str] = []
    texts: list[str] = []
    async for event in answer:
        match event:
            case Delta(text, thought, restarts):
                reasoning.append(thought)
                if restarts:
                    texts.clear()
                texts.append(text)
            case Finished():
                return "".join(reasoning), "".join(texts), event
            case Failed(fault):
                raise fault
    raise EngineError("the answer ended without a result")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _AnswerStream(StreamingResponse):
    """An answer as server-sent events; computing stops when the client disconnects."""

    def __init__(self, answer: AnswerStream, envelope: Envelope, *, include_usage: bool) -> None:
        super().__init__(
            _stream(answer, envelope, include_usage=include_usage),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not in the generator: it never starts if the client disconnects early.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


async def _stream(answer: AnswerStream, envelope: Envelope, *, include_usage: bool) -> AsyncIterator[bytes]:
    unused = {"usage": None} if include_usage else {}
    yield _event(envelope.chunk({"role": "assistant", "content": ""}) | unused)
    async for event in answer:
        match event:
            case Delta() as delta:
                yield _event(envelope.chunk(_delta(delta)) | unused)
            case Finished(reason, usage):
                yield _event(envelope.chunk({}, reason) | unused)
                if include_usage:
                    yield _event(envelope.usage_chunk(usage))
                yield b"data: [DONE]\n\n"
            case Failed(fault):
                yield _event(error_body(fault))


def _delta(delta: Delta) -> dict[str, str]:
    """Return the delta of a chunk.

    Text that was sent cannot be withdrawn: if the reasoning had no opening mark, send its closing mark.
    """
    if delta.restarts:
        return {"content": f"\n{CLOSING_MARK}\n\n{delta.text}"}
    fields = {"reasoning_content": delta.reasoning, "content": delta.text}
    return {name: text for name, text in fields.items() if text}


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_description(request.app.state.engine)]})


async def _model(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    engine.check_name(request.path_params["name"])
    return JSONResponse(_description(engine))


def _description(engine: Engine) -> dict[str, Any]:
    return {
        "id": engine.settings.model_name,
        "object": "model",
        "created": engine.created,
        "owned_by": "clawd",
        "context_size": engine.settings.context_size,
    }


async def _health(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    if engine.ready:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "loading"}, status_code=503, headers={"Retry-After": "1"})


async def _metrics(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    return Response(engine.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _fault_response(_request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RuntimeFault)
    status = fault.status if isinstance(fault, RequestError) else 500
    after = fault.retry_after if isinstance(fault, RequestError) else None
    headers = {} if after is None else {"Retry-After": str(after)}
    return JSONResponse(error_body(fault), status_code=status, headers=headers)


async def _unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    fault = RequestError(f"unknown endpoint: {request.method} {request.url.path}", status=status)
    return JSONResponse(error_body(fault), status_code=status)


async def _unexpected(_request: Request, _error: Exception) -> Response:
    """Return the response to an internal error, whose traceback the server logs."""
    return JSONResponse(error_body(EngineError("internal error: see the engine's log")), status_code=500)
