"""A model's server for tests: a name in the question selects an answer that real providers have sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

HANGS = object()
"""Instead of a piece: nothing more is sent."""


class Provider:
    """A server that answers a question `NAME` or `NAME …` with `answers[NAME]`, and records the requests.

    An answer is a response, or the deltas of a stream with its finish reason; with `None` it ends without a
    reason and without `[DONE]`.
    """

    def __init__(self, **answers: Response | tuple[Sequence[Any], str | None]) -> None:
        self.answers = answers
        self.requests: list[dict[str, Any]] = []
        self.application = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
            ]
        )
        self.models_hang = False

    def asked(self, name: str) -> list[dict[str, Any]]:
        """Return the requests whose question has this name."""
        return [body for body in self.requests if _name(body) == name]

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        answer = self.answers.get(_name(body), (["fine"], "stop"))
        if isinstance(answer, Response):
            return answer
        return StreamingResponse(self._events(*answer), media_type="text/event-stream")

    async def _events(self, deltas: Sequence[Any], finish: str | None) -> AsyncIterator[bytes]:
        for delta in deltas:
            if delta is HANGS:
                await asyncio.sleep(3600.0)
            content = delta if isinstance(delta, dict) else {"content": delta}
            yield _event({"choices": [{"index": 0, "delta": content, "finish_reason": None}]})
            await asyncio.sleep(0.01)
        if finish is not None:
            yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
            yield b"data: [DONE]\n\n"

    async def _models(self, _: Request) -> Response:
        if self.models_hang:
            await asyncio.sleep(3600.0)
        return JSONResponse({"data": []})


def _event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _name(body: dict[str, Any]) -> str:
    content: str = body["messages"][-1]["content"]
    return content.rpartition("\n")[2].split()[0]
