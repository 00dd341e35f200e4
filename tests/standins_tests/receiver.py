"""A webhook that keeps what it gets and gives scripted answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """`answers` are (status, headers, body) for the next requests; afterwards 200 and nothing."""

    received: list[Received] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    delay: float = 0.0

    @property
    def app(self) -> Starlette:
        """Serve it at /hook."""
        return Starlette(routes=[Route("/hook", self._hook, methods=["POST"])])

    async def _hook(self, request: Request) -> Response:
        self.received.append(Received(dict(request.headers), await request.body(), time.monotonic()))
        await asyncio.sleep(self.delay)
        status, headers, body = self.answers.pop(0) if self.answers else (200, {}, b"")
        return Response(body, status, headers=headers)
