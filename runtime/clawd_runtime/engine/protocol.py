"""The OpenAI chat protocol: requests as they are checked, and answers as they are written.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.engine.template import Message, Role
from clawd_runtime.engine.values import FinishReason, Sampling, Usage
from clawd_runtime.errors import RequestError, RuntimeFault

MOST_STOP_STRINGS = 4


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TextPart(_Part):
    """A piece of a message's content. The engine reads text only."""

    type: Literal["text"]
    text: str


class ChatMessage(_Part):
    """One message of a request. `developer` is the newer name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    def message(self) -> Message:
        """The platform-neutral message."""
        role: Role = "system" if self.role == "developer" else self.role
        if self.content is None or isinstance(self.content, str):
            return Message(role, self.content or "")
        return Message(role, "".join(part.text for part in self.content))


class StreamOptions(_Part):
    """How a stream ends."""

    include_usage: bool = False


class ResponseFormat(_Part):
    """What the answer is to be."""

    type: str = "text"


StopString = Annotated[str, Field(min_length=1, max_length=200)]


class ChatRequest(_Part):
    """A chat request. A field that is absent or null has its default; unknown fields change nothing.

    `top_k` is no field of OpenAI's: only that many likeliest tokens are considered, 0 for all.
    """

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=MOST_STOP_STRINGS)] | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None

    def sampling(self) -> Sampling:
        """How tokens are drawn; without a seed, another one each time."""
        plain = Sampling()
        return Sampling(
            temperature=_or(self.temperature, plain.temperature),
            top_p=_or(self.top_p, plain.top_p),
            top_k=plain.top_k if self.top_k is None else self.top_k,
            frequency_penalty=_or(self.frequency_penalty, plain.frequency_penalty),
            presence_penalty=_or(self.presence_penalty, plain.presence_penalty),
            seed=secrets.randbits(31) if self.seed is None else self.seed,
        )

    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def limit(self) -> int | None:
        """Tokens of the answer at most; `None` for as many as fit."""
        return self.max_completion_tokens or self.max_tokens

    def include_usage(self) -> bool:
        """Whether a stream ends with the number of tokens used."""
        return self.stream_options is not None and self.stream_options.include_usage


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def parse_chat_request(body: bytes) -> ChatRequest:
    """The request in the JSON `body`.

    Raises:
        RequestError: status 400; it is no chat request, or asks for something this engine cannot do.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in mistake["loc"])
        raise RequestError(f"{where or 'body'}: {mistake['msg']}", param=where or None) from error
    refused = {
        "n": request.n not in (None, 1),
        "tools": bool(request.tools),
        "functions": bool(request.functions),
        "logprobs": bool(request.logprobs),
        "logit_bias": bool(request.logit_bias),
        "response_format": request.response_format is not None and request.response_format.type != "text",
    }
    for name, asked in refused.items():
        if asked:
            raise RequestError(
                f"{name}: this engine does not support it", code="unsupported_parameter", param=name
            )
    return request


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all parts of one answer share: its name, time (Unix seconds) and model."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, text: str, reason: FinishReason, usage: Usage) -> dict[str, Any]:
        """The whole answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage_body(usage)}

    def chunk(self, delta: dict[str, str], reason: FinishReason | None = None) -> dict[str, Any]:
        """A part of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The last part of a streamed answer, when it was asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_body(usage)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage_body(usage: Usage) -> dict[str, Any]:
    """The number of tokens used, as the protocol writes it."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.reused},
    }


def error_body(fault: RuntimeFault) -> dict[str, Any]:
    """An error, as the protocol writes it."""
    status = fault.status if isinstance(fault, RequestError) else 500
    kind = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}.get(status)
    return {
        "error": {
            "message": str(fault),
            "type": kind or "invalid_request_error",
            "param": getattr(fault, "param", None),
            "code": getattr(fault, "code", None),
        }
    }
