"""The OpenAPI document of the engine's API, made of the types that parse its requests.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from clawd_runtime.engine.http.completions import (
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from clawd_runtime.engine.http.requests import ChatRequest

Json = dict[str, Any]

_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXT: Json = {"type": "string"}


def _object(required: Json, optional: Json | None = None, *, closed: bool = False) -> Json:
    properties = required | (optional or {})
    schema: Json = {"type": "object", "properties": properties, "required": list(required)}
    return schema | ({"additionalProperties": False} if closed else {})


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_ERROR = _object(
    {
        "error": _object(
            {
                "message": _TEXT,
                "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                "param": _or_null(_TEXT),
                "code": _or_null(_TEXT),
            },
            closed=True,
        )
    },
    closed=True,
)
_USAGE = _object(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _COUNT))
_REASON: Json = {"enum": ["stop", "length", "tool_calls"]}
_CALL = _object(
    {"id": _TEXT, "type": {"const": "function"}, "function": _object({"name": _TEXT, "arguments": _TEXT})}
)
_MESSAGE = _object(
    {"role": {"const": "assistant"}, "content": _or_null(_TEXT), "refusal": {"type": "null"}},
    {"reasoning_content": _TEXT, "tool_calls": _list(_CALL)},
)
_SOME_OBJECT: Json = {"type": "object"}


def _answer(kind: str, choice: Json) -> Json:
    choices = _object(
        {"index": _COUNT, "finish_reason": _REASON, "logprobs": _or_null(_SOME_OBJECT)} | choice
    )
    return _object(
        {
            "id": _TEXT,
            "object": {"const": kind},
            "created": _COUNT,
            "model": _TEXT,
            "choices": _list(choices),
            "usage": _USAGE,
        }
    )


_MODEL = _object(
    {"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT, "context_size": _COUNT}
)
_EMBEDDING = _object(
    {
        "object": {"const": "embedding"},
        "index": _COUNT,
        "embedding": {"anyOf": [_TEXT, _list({"type": "number"})]},
    }
)
_EMBEDDINGS = _object(
    {
        "object": {"const": "list"},
        "data": _list(_EMBEDDING),
        "model": _TEXT,
        "usage": _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT}),
    }
)
_TOKENS = _object(
    {
        "tokens": _list({"anyOf": [_COUNT, _object({"id": _COUNT, "piece": _TEXT}, closed=True)]}),
        "count": _COUNT,
    },
    closed=True,
)
_CHAT = _answer("chat.completion", {"message": _MESSAGE})
_COMPLETION = _answer("text_completion", {"text": _TEXT})
_CONTENT = _object({"content": _TEXT}, closed=True)
_POSTS: tuple[tuple[str, str, type[BaseModel], Json, bool], ...] = (
    ("/v1/chat/completions", "Answer a conversation", ChatRequest, _CHAT, True),
    ("/v1/completions", "Continue texts", CompletionRequest, _COMPLETION, True),
    ("/v1/embeddings", "Embed texts", EmbeddingRequest, _EMBEDDINGS, False),
    ("/tokenize", "Return the tokens of a text", TokenizeRequest, _TOKENS, False),
    ("/detokenize", "Return the text of tokens", DetokenizeRequest, _CONTENT, False),
)
_REFUSALS = {
    400: "The request is invalid or not supported; `param` names the field",
    401: "The API key is missing or wrong",
    404: "There is no such model",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "The queue is full",
    500: "The model failed",
    503: "The model is still loading, or the engine is stopping",
}


def document(model: str, *, with_key: bool) -> Json:
    """Return the document of an engine that serves `model`; `with_key`: it has an API key."""
    schemas: Json = {"Error": _ERROR}
    paths: Json = {}
    for path, summary, kind, answer, streams in _POSTS:
        paths[path] = {"post": _post(summary, _reference(kind, schemas), answer, streams=streams)}
        schemas[kind.__name__]["properties"]["model"] = _model_name(kind, model)
    listed = _object({"object": {"const": "list"}, "data": _list(_MODEL)})
    name = {"name": "id", "in": "path", "required": True, "schema": _TEXT, "example": model}
    paths["/v1/models"] = {"get": _get("List the model that is served", listed)}
    paths["/v1/models/{id}"] = {"get": _get("Describe a model", _MODEL, 404) | {"parameters": [name]}}
    state = _object({"status": _TEXT}, closed=True)
    loading = {"description": "The model is still loading", **_content(state)}
    health = _get("Return whether the model is served", state)
    health["responses"] |= {"503": loading}
    paths["/health"] = {"get": health | {"security": []}}
    text = {"text/plain": {"schema": _TEXT}}
    metrics = {"200": {"description": "Prometheus' text format", "content": text}}
    paths["/metrics"] = {
        "get": {
            "summary": "Return the metrics",
            "operationId": "metrics",
            "responses": metrics,
            "security": [],
        }
    }
    components: Json = {"schemas": schemas}
    security: Json = {}
    if with_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        security = {"security": [{"key": []}]}
    info = {
        "title": "clawd-engine",
        "version": "1",
        "description": "One GGUF model over the OpenAI protocol.",
    }
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components, **security}


def _model_name(kind: type[BaseModel], model: str) -> Json:
    return {"const": model} if kind.model_fields["model"].is_required() else {"enum": [None, model]}


def _reference(kind: type[BaseModel], schemas: Json) -> Json:
    """Add the schema of a request to `schemas` and return a reference to it."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[kind.__name__] = schema
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _post(summary: str, request: Json, answer: Json, *, streams: bool) -> Json:
    content: Json = {"application/json": {"schema": answer}}
    if streams:
        content["text/event-stream"] = {}
    responses = {"200": {"description": "The answer", "content": content}, **_refusals(*_REFUSALS)}
    return {
        "summary": summary,
        "operationId": summary.lower().replace(" ", "-"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": responses,
    }


def _get(summary: str, answer: Json, *refusals: int) -> Json:
    responses = {"200": {"description": "The answer", **_content(answer)}, **_refusals(401, *refusals)}
    return {"summary": summary, "operationId": summary.lower().replace(" ", "-"), "responses": responses}


def _refusals(*statuses: int) -> Json:
    error = {"$ref": "#/components/schemas/Error"}
    return {str(status): {"description": _REFUSALS[status], **_content(error)} for status in statuses}


def _content(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}
