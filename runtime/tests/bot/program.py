"""The bot's program for tests: a folder with settings and credentials, a process, a scripted model."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.standins.plain_http import NO_TLS

RUNTIME = Path(__file__).parents[2]
START_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def model_server(pause: float = 0.0, fails: Callable[[str], bool] = lambda question: False) -> Starlette:
    """Return a server that answers `re: <question>` in two pieces, `pause` seconds apart."""

    async def complete(request: Request) -> Response:
        question = (await request.json())["messages"][-1]["content"]
        if fails(question):
            return Response(status_code=400)
        return StreamingResponse(_pieces(f"re: {question}"), media_type="text/event-stream")

    async def _pieces(answer: str) -> AsyncIterator[str]:
        half = len(answer) // 2
        for piece in (answer[:half], answer[half:]):
            await asyncio.sleep(pause)
            yield f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n"
        yield 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'

    async def alive(_: Request) -> Response:
        return Response("{}")

    return Starlette(
        routes=[Route("/v1/chat/completions", complete, methods=["POST"]), Route("/v1/models", alive)]
    )


class Program:
    """A bot's folder. Use it as a context manager, which ends the process it started."""

    def __init__(
        self,
        folder: Path,
        model: str,
        channels: Mapping[str, Any],
        credentials: Mapping[str, str],
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"
        self.database = folder / "bot.db"
        self.environment: dict[str, str] = {}
        (folder / "credentials").mkdir()
        for name, value in credentials.items():
            (folder / "credentials" / name).write_text(value)
        config: dict[str, Any] = {
            "listen": {"host": "127.0.0.1", "port": self.port},
            "database": f"sqlite:///{self.database}",
            "rate_limit_per_minute": 100_000,
            "models": {"default": {"endpoint": f"{model}/v1", "model": "scripted"}},
            "channels": channels,
        }
        (folder / "bot.json").write_text(json.dumps(config | settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clawd_runtime.bot", "--config", self.folder / "bot.json"],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(RUNTIME),
                    "CREDENTIALS_DIRECTORY": str(self.folder / "credentials"),
                    **self.environment,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.process

    def wait_alive(self) -> None:
        """Wait until it responds."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.get("/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                assert self.process is not None
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, verify=NO_TLS, timeout=10.0)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Send SIGTERM, as systemd does, and return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(40.0)

    def waiting(self) -> float:
        """Return how many messages and replies are unfinished."""
        metrics = self.get("/metrics").text
        waiting = r'^clawd_(?:inbox_depth|outbox_depth\{state="(?:pending|sending)"\}) (\S+)'
        depths = re.findall(waiting, metrics, re.MULTILINE)
        assert len(depths) == 3
        return sum(map(float, depths))

    def settle(self, seconds: float = 30.0) -> None:
        """Wait until everything is finished."""
        deadline = time.monotonic() + seconds
        while self.waiting():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)
