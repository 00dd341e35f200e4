"""Memory of the bot's process, started as its unit starts it: idle, with many conversations, and afterwards.

`python -m benchmarks.bot_memory [--site-packages FOLDER] [--database URL] [--channels telegram console …]`,
in `runtime/`, prints a line of JSON for each moment: MB resident, MB of the process alone (proportional set
size), MB it alone has written (private dirty), the highest it has been, and its threads. Half of the
conversations come by Telegram's webhook, half by the console, where these are among the channels; all write
at once, round after round. Platforms and model are played by this process. The password of a PostgreSQL is in
`PGPASSWORD`; the database should be empty. With `--site-packages` the bot runs on a release unpacked there,
with nothing else that this Python has; it should be compiled, as it is on hosts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

RUNTIME = Path(__file__).parents[1]
UNIT = RUNTIME.parent / "templates" / "runtime" / "clawd-bot.service"
PIECES = 20
PAUSE = 0.002
CONNECTIONS = 200
DEPTH = re.compile(r"^clawd_(?:inbox|outbox)_depth.* (\S+)$", re.MULTILINE)
CREDENTIALS = {
    "telegram-token": "1234567:benchmark",
    "telegram-secret-token": "benchmark",
    "feishu-app-secret": "benchmark",
    "feishu-encrypt-key": "benchmark",
    "feishu-verification-token": "benchmark",
    "console-jwt-secret": "benchmark" * 4,
    "alerts-token": "benchmark",
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process in megabytes, and its number of threads."""

    resident: float
    proportional: float
    private_dirty: float
    highest: float
    threads: int

    @classmethod
    def of(cls, process: int) -> Memory:
        """Return the current values from the kernel."""
        about = Path(f"/proc/{process}")
        rollup, status = (about / "smaps_rollup").read_text(), (about / "status").read_text()

        def of(name: str, source: str = rollup) -> int:
            found = re.search(rf"^{name}:\s+(\d+)", source, re.MULTILINE)
            assert found, name
            return int(found[1])

        def megabytes(name: str, source: str = rollup) -> float:
            return round(of(name, source) * 1024 / 1e6, 1)

        return cls(
            megabytes("Rss"),
            megabytes("Pss"),
            megabytes("Private_Dirty"),
            megabytes("VmHWM", status),
            of("Threads", status),
        )


def world(port: int) -> Starlette:
    """Return an application with the model and both platforms."""

    async def complete(request: Request) -> Response:
        await request.body()
        return StreamingResponse(_answer(), media_type="text/event-stream")

    async def telegram(request: Request) -> Response:
        results: dict[str, Any] = {
            "getMe": {"id": 1234567, "username": "benchmark_bot"},
            "getWebhookInfo": {"url": f"http://127.0.0.1:{port}/telegram/webhook"},
        }
        return JSONResponse({"ok": True, "result": results.get(request.path_params["method"], _SENT)})

    async def feishu(_: Request) -> Response:
        return JSONResponse(
            {"code": 0, "tenant_access_token": "t", "expire": 7200, "bot": {"open_id": "ou_benchmark"}}
        )

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/health", feishu),
            Route("/bot{token}/{method}", telegram, methods=["POST"]),
            Route("/open-apis/{path:path}", feishu, methods=["GET", "POST"]),
        ]
    )


_SENT = {"message_id": 1}


async def _answer() -> AsyncIterator[str]:
    for number in range(PIECES):
        await asyncio.sleep(PAUSE)
        piece = {"choices": [{"delta": {"content": f"This is piece {number} of the answer. "}}]}
        yield f"data: {json.dumps(piece)}\n\n"
    yield 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


@asynccontextmanager
async def served(application: Starlette, engine: Path) -> AsyncIterator[str]:
    """Serve an application at an address, which is yielded, and also at the socket `engine`."""
    listener, local = socket.socket(), socket.socket(socket.AF_UNIX)
    listener.bind(("127.0.0.1", 0))
    local.bind(str(engine))
    for each in (listener, local):
        each.listen(1024)
    server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener, local]))
    try:
        # A host name, because names are resolved in threads.
        yield f"http://localhost:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


def settings(database: str, place: str, engine: Path, port: int, channels: Sequence[str]) -> dict[str, Any]:
    """Return the path of a new bot.json."""
    parts: dict[str, Any] = {
        "telegram": {"api_base": place},
        "feishu": {"app_id": "cli_benchmark", "api_base": place},
        "console": {},
        "alerts": {"telegram_chat": 1},
    }
    return {
        "listen": {"port": port},
        "database": database,
        "answers_at_once": 5,
        "rate_limit_per_minute": 100_000,
        "models": {"default": {"endpoint": f"unix:{engine}", "model": "played"}},
        "public_url": f"http://127.0.0.1:{port}",
        "channels": {name: parts[name] for name in channels},
    }


def environment_of_the_unit() -> dict[str, str]:
    """Return the environment of the unit, without the folder of the release."""
    found = re.findall(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)
    pairs = (pair.partition("=") for line in found for pair in line.split())
    return {name: value for name, _, value in pairs if name != "PYTHONPATH"}


@contextmanager
def started(folder: Path, packages: Path | None, about: dict[str, Any]) -> Iterator[int]:
    """Start the bot's process and yield its id."""
    (folder / "credentials").mkdir()
    for name, value in CREDENTIALS.items():
        (folder / "credentials" / name).write_text(value)
    if password := os.environ.get("PGPASSWORD"):
        (folder / "credentials" / "database-password").write_text(password)
    (folder / "bot.json").write_text(json.dumps(about))
    alone = (
        ("-S",) if packages else ()
    )  # otherwise packages of this Python that no release contains would be imported
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *alone, "-P", "-m", "clawd_runtime.bot", "--config", folder / "bot.json"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(packages or RUNTIME),
                "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
                **environment_of_the_unit(),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        if process.wait(40.0):
            sys.exit((folder / "log").read_text()[-3000:])


async def until_ready(http: httpx.AsyncClient, conversations: Sequence[str]) -> None:
    """Wait until the bot responds and has its identity from Telegram."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if (await http.get("/readyz")).is_success and (
                "telegram" not in conversations or (await _by_telegram(http, 0, 0)).is_success
            ):
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    sys.exit("the bot does not come up")


async def _by_telegram(http: httpx.AsyncClient, chat: int, turn: int) -> httpx.Response:
    person = {"id": chat + 1, "is_bot": False, "language_code": "en"}
    message = {
        "message_id": turn + 1,
        "from": person,
        "chat": {"id": chat + 1, "type": "private"},
        "text": f"What did we agree on about the release? This is turn {turn}.",
    }
    return await http.post(
        "/telegram/webhook",
        json={"update_id": chat * 10_000 + turn, "message": message},
        headers={"X-Telegram-Bot-Api-Secret-Token": CREDENTIALS["telegram-secret-token"]},
    )


async def _by_console(http: httpx.AsyncClient, chat: int, turn: int) -> httpx.Response:
    claims = {"sub": f"user{chat}", "exp": time.time() + 3600, "jti": f"{chat}.{turn}"}
    token = jwt.encode(claims, CREDENTIALS["console-jwt-secret"], "HS256")
    body = {"text": f"What did we agree on about the release? This is turn {turn}.", "id": f"{turn}"}
    return await http.post("/console/v1/messages", json=body, headers={"Authorization": f"Bearer {token}"})


async def round_of(http: httpx.AsyncClient, conversations: int, channels: Sequence[str], turn: int) -> None:
    """Send a message in every conversation at once, and wait until all are answered."""
    ways = {"telegram": _by_telegram, "console": _by_console}
    used = [ways[name] for name in channels if name in ways]
    asked = (used[chat % len(used)](http, chat, turn) for chat in range(conversations))
    for response in await asyncio.gather(*asked):
        assert response.is_success, response.text
    while any(map(float, DEPTH.findall((await http.get("/metrics")).text))):
        await asyncio.sleep(0.2)


def report(moment: str, memory: Memory) -> None:
    """Print the memory at a moment."""
    print(
        json.dumps(
            {
                "moment": moment,
                "resident_mb": memory.resident,
                "proportional_mb": memory.proportional,
                "private_dirty_mb": memory.private_dirty,
                "highest_mb": memory.highest,
                "threads": memory.threads,
            }
        ),
        flush=True,
    )


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure all moments of one run."""
    port = free_port()
    database = options.database or f"sqlite:///{folder}/bot.db"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
    async with (
        served(world(port), folder / "engine.sock") as place,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=600.0, limits=limits, trust_env=False
        ) as http,
    ):
        about = settings(database, place, folder / "engine.sock", port, options.channels)
        with started(folder, options.site_packages, about) as process:
            await until_ready(http, options.channels)
            report("started", Memory.of(process))
            for turn in range(1, options.rounds + 1):
                await round_of(http, options.conversations, options.channels, turn)
                report(f"round {turn} of {options.conversations} conversations", Memory.of(process))


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--site-packages", type=Path, metavar="FOLDER")
    parser.add_argument("--database", metavar="URL", help="default: a SQLite file")
    parser.add_argument("--channels", nargs="+", default=["telegram", "console"])
    parser.add_argument("--conversations", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
