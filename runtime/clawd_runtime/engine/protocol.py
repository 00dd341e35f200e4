"""The OpenAI chat protocol: answers and errors as they are written.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from clawd_runtime.engine.values import FinishReason, Usage
from clawd_runtime.errors import RequestError, RuntimeFault


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all parts of one answer share: its name, time (Unix seconds) and model."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(
        self, text: str, reason: FinishReason, usage: Usage, reasoning: str = ""
    ) -> dict[str, Any]:
        """The whole answer, with `reasoning_content` where the model has reasoned."""
        message = {"role": "assistant", "content": text, "refusal": None}
        if reasoning:
            message["reasoning_content"] = reasoning
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
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
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
