"""Responses with the answers of the engine: whole, or streamed as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from clawd_runtime.engine.http.calls import AnswersWithCalls
from clawd_runtime.engine.http.fields import GenerationFields
from clawd_runtime.engine.http.protocol import Envelope, WholeAnswer, error_body
from clawd_runtime.engine.service import AnswerEvents
from clawd_runtime.engine.tools.values import ToolCall
from clawd_runtime.engine.values import Delta, Failed, Finished, TokenLogprob, Usage
from clawd_runtime.errors import EngineError

_Result = TypeVar("_Result")
SomeAnswers = AnswerEvents | AnswersWithCalls

# The status that nginx logs for a client that has disconnected; no client receives it.
CLIENT_GONE = 499


@dataclass(frozen=True, slots=True)
class Form:
    """How a request wants its answers; `choices` of them belong to each prompt."""

    stream: bool
    include_usage: bool
    logprobs: bool
    choices: int

    @classmethod
    def of(cls, request: GenerationFields, logprobs: bool) -> Form:
        """Return the form that `request` asks for."""
        return cls(bool(request.stream), request.include_usage(), logprobs, request.choices())


async def answered(request: Request, answers: SomeAnswers, envelope: Envelope, form: Form) -> Response:
    """Return the response to `request`; computing stops when the client disconnects."""
    if form.stream:
        return _Stream(answers, envelope, form)
    try:
        return await _whole(request, answers, envelope, form)
    finally:
        answers.cancel()


async def _whole(request: Request, answers: SomeAnswers, envelope: Envelope, form: Form) -> Response:
    """Return the complete answers; stop waiting when the client disconnects."""
    whole = await until_gone(request, _collect(answers, form))
    if whole is None:
        return Response(status_code=CLIENT_GONE)
    return JSONResponse(envelope.whole(whole, _total([each.usage for each in whole], form.choices)))


async def until_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Return the result of `work`; cancel it and return `None` when the client disconnects."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        watching.cancel()


class _Collected:
    """The parts of one answer so far."""

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.calls: list[ToolCall] = []

    def add(self, delta: Delta) -> None:
        self.reasoning.append(delta.reasoning)
        if delta.restarts:
            self.texts.clear()
            self.logprobs.clear()
        self.texts.append(delta.text)
        self.logprobs += delta.logprobs
        self.calls += delta.calls

    def whole(self, end: Finished, *, logprobs: bool) -> WholeAnswer:
        return WholeAnswer(
            "".join(self.texts),
            end.reason,
            end.usage,
            "".join(self.reasoning),
            tuple(self.logprobs) if logprobs else None,
            tuple(self.calls),
        )


async def _collect(answers: SomeAnswers, form: Form) -> list[WholeAnswer]:
    """Return the complete answers."""
    parts = [_Collected() for _ in range(len(answers))]
    whole: dict[int, WholeAnswer] = {}
    async for index, event in answers:
        match event:
            case Delta():
                parts[index].add(event)
            case Finished():
                whole[index] = parts[index].whole(event, logprobs=form.logprobs)
            case Failed(fault):
                raise fault
    if len(whole) < len(parts):
        raise EngineError("the answer ended without a result")
    return [whole[index] for index in range(len(parts))]


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """Answers as server-sent events; computing stops when the client disconnects."""

    def __init__(self, answers: SomeAnswers, envelope: Envelope, form: Form) -> None:
        super().__init__(
            _events(answers, envelope, form),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not in the generator: it never starts if the client disconnects early.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.cancel()


async def _events(answers: SomeAnswers, envelope: Envelope, form: Form) -> AsyncIterator[bytes]:
    unused = {"usage": None} if form.include_usage else {}
    usages: dict[int, Usage] = {}
    for index in range(len(answers)):
        if (part := envelope.begin(index)) is not None:
            yield _event(part | unused)
    async for index, event in answers:
        match event:
            case Delta():
                for part in envelope.chunks(index, event):
                    yield _event(part | unused)
            case Finished(reason, usage):
                usages[index] = usage
                yield _event(envelope.end(index, reason) | unused)
            case Failed(fault):
                yield _event(error_body(fault))
                return
    if form.include_usage:
        whole = _total([usages[index] for index in range(len(answers))], form.choices)
        yield _event(envelope.usage_chunk(whole))
    yield b"data: [DONE]\n\n"


def _total(usages: Sequence[Usage], choices: int) -> Usage:
    """Return the usage of all answers, of which `choices` in a row share a prompt, counted once."""
    firsts = usages[::choices]
    return Usage(
        sum(each.prompt for each in firsts),
        sum(each.reused for each in firsts),
        sum(each.completion for each in usages),
        sum(each.reasoning for each in usages),
    )


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
