"""Answers and errors in the form of the OpenAI protocol.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import time
import uuid
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from clawd_runtime.engine.tools.values import ToolCall
from clawd_runtime.engine.values import Delta, FinishReason, TokenLogprob, Usage
from clawd_runtime.errors import RequestError, RuntimeFault
from clawd_runtime.reasoning.marks import CLOSING_MARK

_LOWEST_LOGPROB = -9999.0  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """One complete answer; `logprobs` is `None` if they were not asked for."""

    text: str
    reason: FinishReason
    usage: Usage
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    calls: tuple[ToolCall, ...] = ()


class Envelope(Protocol):
    """The form of the answers to one request."""

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> dict[str, Any]:
        """Return all answers in one body."""

    def begin(self, index: int) -> dict[str, Any] | None:
        """Return the part that begins a streamed answer, if there is one."""

    def chunks(self, index: int, delta: Delta) -> Iterable[dict[str, Any]]:
        """Return the next parts of a streamed answer."""

    def end(self, index: int, reason: FinishReason) -> dict[str, Any]:
        """Return the last part of a streamed answer."""

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the part that ends a stream if the request has `include_usage`."""


@dataclass(frozen=True, slots=True)
class ChatEnvelope:
    """The form of chat answers, with the fields that all parts share: id, time (Unix seconds), model."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _calls: dict[int, int] = field(default_factory=dict)

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> dict[str, Any]:
        """Return all answers, each with `reasoning_content` if the model has reasoned."""
        choices = [
            {
                "index": index,
                "message": _message(answer),
                "logprobs": None if answer.logprobs is None else _logprobs(answer.logprobs),
                "finish_reason": answer.reason,
            }
            for index, answer in enumerate(answers)
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": usage_body(usage)}

    def begin(self, index: int) -> dict[str, Any]:
        """Return the part that begins a streamed answer."""
        return self._part(index, {"role": "assistant", "content": ""})

    def chunks(self, index: int, delta: Delta) -> Iterable[dict[str, Any]]:
        """Yield the next parts of a streamed answer: text, then each call's name and its arguments."""
        if fields := _fields(delta):
            yield self._part(index, fields, delta.logprobs)
        elif delta.logprobs:
            yield self._part(index, {}, delta.logprobs)
        for call in delta.calls:
            number = self._calls[index] = self._calls.get(index, -1) + 1
            begun = {"index": number, **_call(ToolCall(call.id, call.name, ""))}
            yield self._part(index, {"tool_calls": [begun]})
            arguments = {"index": number, "function": {"arguments": call.arguments}}
            yield self._part(index, {"tool_calls": [arguments]})

    def end(self, index: int, reason: FinishReason) -> dict[str, Any]:
        """Return the last part of a streamed answer."""
        return self._part(index, {}, reason=reason)

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the part that ends a stream if the request has `include_usage`."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_body(usage)}

    def _part(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: tuple[TokenLogprob, ...] = (),
        reason: FinishReason | None = None,
    ) -> dict[str, Any]:
        shown = _logprobs(logprobs) if logprobs else None
        choice = {"index": index, "delta": delta, "logprobs": shown, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _message(answer: WholeAnswer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message |= {"content": answer.text or None, "tool_calls": list(map(_call, answer.calls))}
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _fields(delta: Delta) -> dict[str, str]:
    """Return the delta of a chunk.

    Text that was sent cannot be withdrawn: if the reasoning had no opening mark, send its closing mark.
    """
    if delta.restarts:
        return {"content": f"\n{CLOSING_MARK}\n\n{delta.text}"}
    fields = {"reasoning_content": delta.reasoning, "content": delta.text}
    return {name: text for name, text in fields.items() if text}


@dataclass(frozen=True, slots=True)
class CompletionEnvelope:
    """The form of completions. `echoes` are the prompts' texts if they are to be repeated, one per choice."""

    model: str
    echoes: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> dict[str, Any]:
        """Return all answers."""
        choices = [
            {
                "index": index,
                "text": self._echo(index) + answer.text,
                "logprobs": None if answer.logprobs is None else _legacy_logprobs(answer.logprobs),
                "finish_reason": answer.reason,
            }
            for index, answer in enumerate(answers)
        ]
        return {**self._head(), "choices": choices, "usage": usage_body(usage)}

    def begin(self, index: int) -> dict[str, Any] | None:
        """Return the prompt, if it is to be repeated."""
        return self._part(index, self._echo(index)) if self.echoes else None

    def chunks(self, index: int, delta: Delta) -> Iterable[dict[str, Any]]:
        """Yield the next part of a streamed answer."""
        yield self._part(index, delta.text, delta.logprobs)

    def end(self, index: int, reason: FinishReason) -> dict[str, Any]:
        """Return the last part of a streamed answer."""
        return self._part(index, "", reason=reason)

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the part that ends a stream if the request has `include_usage`."""
        return {**self._head(), "choices": [], "usage": usage_body(usage)}

    def _echo(self, index: int) -> str:
        return self.echoes[index] if self.echoes else ""

    def _part(
        self,
        index: int,
        text: str,
        logprobs: tuple[TokenLogprob, ...] = (),
        reason: FinishReason | None = None,
    ) -> dict[str, Any]:
        shown = _legacy_logprobs(logprobs) if logprobs else None
        choice = {"index": index, "text": text, "logprobs": shown, "finish_reason": reason}
        return {**self._head(), "choices": [choice]}

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}


def _legacy_logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    offsets, at = [], 0
    for each in logprobs:
        offsets.append(at)
        at += len(each.piece.decode(errors="replace"))
    return {
        "tokens": [each.piece.decode(errors="replace") for each in logprobs],
        "token_logprobs": [max(each.logprob, _LOWEST_LOGPROB) for each in logprobs],
        "top_logprobs": [
            {piece.decode(errors="replace"): max(logprob, _LOWEST_LOGPROB) for piece, logprob in each.top}
            for each in logprobs
        ],
        "text_offset": offsets,
    }


def _logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "content": [
            {
                **_logprob(each.piece, each.logprob),
                "top_logprobs": [_logprob(piece, logprob) for piece, logprob in each.top],
            }
            for each in logprobs
        ],
        "refusal": None,
    }


def _logprob(piece: bytes, logprob: float) -> dict[str, Any]:
    return {
        "token": piece.decode(errors="replace"),
        "logprob": max(logprob, _LOWEST_LOGPROB),
        "bytes": list(piece),
    }


def embeddings_body(model: str, arrays: Sequence[Any], tokens: int, *, as_text: bool) -> dict[str, Any]:
    """Return embeddings, arrays of 32-bit floats; `as_text` as base64 of their little-endian bytes."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": b64encode(array.astype("<f4").tobytes()).decode() if as_text else array.tolist(),
        }
        for index, array in enumerate(arrays)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


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
