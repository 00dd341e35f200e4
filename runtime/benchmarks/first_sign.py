"""Seconds until messages of many people at once are taken, shown to have arrived, and answered.

`python -m benchmarks.first_sign [--people 500] [--answer-seconds 1.0]`, in `runtime/`, prints a line of JSON
with the median, the 95th percentile and the maximum of each, and the most calls in a second.
Everybody writes by Telegram's webhook; Telegram and the model, which answers five at once, are played by this
process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from benchmarks.bot_memory import (
    CONNECTIONS,
    DEPTH,
    _by_telegram,
    free_port,
    served,
    settings,
    started,
    until_ready,
)
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

SIGNS = ("sendChatAction", "sendMessage", "sendMessageDraft")


class World:
    """Telegram and a slow model, with the times of the calls."""

    def __init__(self, answer_seconds: float) -> None:
        self._answer_seconds = answer_seconds
        self.first_sign: dict[int, float] = {}
        self.taken: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.calls: Counter[int] = Counter()

    def application(self) -> Starlette:
        """Return the server that the bot calls."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/health", lambda request: Response("{}")),
                Route("/bot{token}/{method}", self._telegram, methods=["POST"]),
            ]
        )

    async def _complete(self, request: Request) -> Response:
        await request.body()
        return StreamingResponse(self._pieces(), media_type="text/event-stream")

    async def _pieces(self) -> AsyncIterator[str]:
        await asyncio.sleep(self._answer_seconds)
        yield f"data: {json.dumps({'choices': [{'delta': {'content': 'ANSWER'}}]})}\n\n"
        yield 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'

    async def _telegram(self, request: Request) -> Response:
        method = request.path_params["method"]
        try:
            given = await request.body()
        except ClientDisconnect:  # the bot gives up what an answer has made superfluous
            return Response()
        now = time.monotonic()
        if method in SIGNS:
            self.calls[int(now)] += 1
            said: dict[str, Any] = json.loads(given)
            self.first_sign.setdefault(said["chat_id"], now)
            if method == "sendMessage" and said["text"] == "ANSWER":
                self.answered[said["chat_id"]] = now
        results: dict[str, Any] = {"getMe": {"id": 1234567, "username": "benchmark_bot"}}
        return JSONResponse({"ok": True, "result": results.get(method, {"message_id": 1})})


async def _write(http: httpx.AsyncClient, world: World, person: int) -> None:
    """Send a message; Telegram executes the call in the response immediately."""
    answer = await _by_telegram(http, person, 1)
    world.taken[person + 1] = time.monotonic()
    if b"sendChatAction" in answer.content:
        world.first_sign.setdefault(person + 1, time.monotonic())


def summary(seconds: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and maximum."""
    ordered = sorted(seconds)
    at_95 = ordered[int(0.95 * (len(ordered) - 1))]
    found = {"median": statistics.median(ordered), "p95": at_95, "max": ordered[-1]}
    return {name: round(value, 1) for name, value in found.items()}


async def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure one run and print the result."""
    world, port = World(options.answer_seconds), free_port()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
    async with (
        served(world.application(), folder / "engine.sock") as place,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=600.0, limits=limits, trust_env=False
        ) as http,
    ):
        about = settings(f"sqlite:///{folder}/bot.db", place, folder / "engine.sock", port, ["telegram"])
        with started(folder, None, about):
            await until_ready(http, ["telegram"])
            while any(map(float, DEPTH.findall((await http.get("/metrics")).text))):
                await asyncio.sleep(0.2)
            started_at = time.monotonic()
            people = range(1, options.people + 1)
            await asyncio.gather(*(_write(http, world, person) for person in people))
            while len(world.answered.keys() - {1}) < options.people:
                await asyncio.sleep(0.2)
    chats = [person + 1 for person in people]
    result = {
        "people": options.people,
        "taken_seconds": summary([world.taken[chat] - started_at for chat in chats]),
        "first_sign_seconds": summary([world.first_sign[chat] - started_at for chat in chats]),
        "answer_seconds": summary([world.answered[chat] - started_at for chat in chats]),
        "most_calls_in_a_second": max(world.calls.values()),
    }
    print(json.dumps(result), flush=True)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--answer-seconds", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
