"""The HTTP API of the engine: the OpenAI chat protocol, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clawd_runtime.engine.http.answering import CLIENT_GONE, Form, answered, until_gone
from clawd_runtime.engine.http.calls import AnswersWithCalls
from clawd_runtime.engine.http.completions import (
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from clawd_runtime.engine.http.key import KeyCheck
from clawd_runtime.engine.http.openapi import document
from clawd_runtime.engine.http.parsing import parse_request
from clawd_runtime.engine.http.protocol import ChatEnvelope, CompletionEnvelope, embeddings_body, error_body
from clawd_runtime.engine.http.requests import parse_chat_request
from clawd_runtime.engine.metrics import CONTENT_TYPE
from clawd_runtime.engine.service import Engine
from clawd_runtime.errors import EngineError, RequestError, RuntimeFault

# A client that takes longer to send its request has stopped, or keeps the connection open on purpose.
BODY_SECONDS = 10.0
LARGEST_BODY = 8 * 1024 * 1024  # bytes; far more text than any context holds


def create_app(engine: Engine, key: str | None = None) -> Starlette:
    """Return the ASGI application that serves `engine`; with `key`, requests must carry it."""
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", _chat_completions, methods=["POST"]),
            Route("/v1/completions", _completions, methods=["POST"]),
            Route("/v1/embeddings", _embeddings, methods=["POST"]),
            Route("/tokenize", _tokenize, methods=["POST"]),
            Route("/detokenize", _detokenize, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/v1/models/{name:path}", _model),
            Route("/openapi.json", _document),
            Route("/health", _health),
            Route("/metrics", _metrics),
        ],
        exception_handlers={
            RuntimeFault: _fault_response,
            404: _unknown,
            405: _unknown,
            ClientDisconnect: _client_gone,
            Exception: _unexpected,
        },
        middleware=[] if key is None else [Middleware(KeyCheck, key=key)],
    )
    app.state.document = document(engine.settings.model_name, with_key=key is not None)
    app.router.redirect_slashes = False
    app.state.engine = engine
    return app


async def _chat_completions(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    with _refusals_counted(engine):
        chat = parse_chat_request(await _json_body(request))
        answers = await engine.answer(chat)
    envelope = ChatEnvelope(engine.settings.model_name)
    form = Form.of(chat, chat.reported_logprobs() is not None)
    if tools := chat.callable_tools():
        with_calls = AnswersWithCalls(answers, [tool.name for tool in tools])
        return await answered(request, with_calls, envelope, form)
    return await answered(request, answers, envelope, form)


async def _completions(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    with _refusals_counted(engine):
        completion = parse_request(await _json_body(request), CompletionRequest, "a completion request")
        answers = await engine.complete(completion)
    echoes: tuple[str, ...] = ()
    if completion.echo:
        texts = [engine.prompt_text(prompt) for prompt in completion.prompt]
        echoes = tuple(text for text in texts for _ in range(completion.choices()))
    envelope = CompletionEnvelope(engine.settings.model_name, echoes)
    return await answered(request, answers, envelope, Form.of(completion, completion.logprobs is not None))


async def _embeddings(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    asked = parse_request(await _json_body(request), EmbeddingRequest, "an embedding request")
    found = await until_gone(request, engine.embed(asked))
    if found is None:
        return Response(status_code=CLIENT_GONE)
    arrays, tokens = found
    as_text = asked.encoding_format == "base64"
    return JSONResponse(embeddings_body(engine.settings.model_name, arrays, tokens, as_text=as_text))


async def _tokenize(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    asked = parse_request(await _json_body(request), TokenizeRequest, "a tokenize request")
    tokens = await engine.tokens(asked)
    if not asked.with_pieces:
        return JSONResponse({"tokens": [token for token, _ in tokens], "count": len(tokens)})
    pieces = [{"id": token, "piece": piece.decode(errors="replace")} for token, piece in tokens]
    return JSONResponse({"tokens": pieces, "count": len(tokens)})


async def _detokenize(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    asked = parse_request(await _json_body(request), DetokenizeRequest, "a detokenize request")
    return JSONResponse({"content": await engine.text(asked)})


@contextmanager
def _refusals_counted(engine: Engine) -> Iterator[None]:
    try:
        yield
    except RequestError:
        engine.metrics.requests.labels("refused").inc()
        raise


async def _json_body(request: Request) -> bytes:
    """Return the body of a request, which must be JSON and arrive in time."""
    _check_content_type(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _body(request)
    except TimeoutError:
        raise RequestError(f"request body not received within {BODY_SECONDS:g} s", status=408) from None


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


async def _document(request: Request) -> Response:
    return JSONResponse(request.app.state.document)


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
    return JSONResponse(error_body(fault), status_code=status, headers=getattr(error, "headers", None))


async def _client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _unexpected(_request: Request, _error: Exception) -> Response:
    """Return the response to an internal error, whose traceback the server logs."""
    return JSONResponse(error_body(EngineError("internal error: see the engine's log")), status_code=500)
