"""Answers and errors in the form of the OpenAI chat protocol.

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
    """The fields that all parts of one answer share: its id, time (Unix seconds) and model."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(
        self, text: str, reason: FinishReason, usage: Usage, reasoning: str = ""
    ) -> dict[str, Any]:
        """Return the complete answer, with `reasoning_content` if the model has reasoned."""
        message = {"role": "assistant", "content": text, "refusal": None}
        if reasoning:
            message["reasoning_content"] = reasoning
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage_body(usage)}

    def chunk(self, delta: dict[str, str], reason: FinishReason | None = None) -> dict[str, Any]:
        """Return a part of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the part that ends a streamed answer if the request has `include_usage`."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_body(usage)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return the token counts in the form of the protocol."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.reused},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def error_body(fault: RuntimeFault) -> dict[str, Any]:
    """Return the body of an error in the form of the protocol."""
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
