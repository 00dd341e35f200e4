"""The bot's process: start, notifications to systemd, log, and shutdown."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import jwt
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clawd_runtime.bot.service import process
from clawd_runtime.bot.service.app import BotService
from clawd_runtime.bot.service.process import BoundSocket, listen_on, serve
from clawd_runtime.bot.settings import Listen
from tests.bot.program import Program, model_server
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

JWT_SECRET = "console-secret-0123456789abcdef-0123456789"
TOKEN = "1000:telegram-token-telegram-token"
SECRET_TOKEN = "webhook-secret-token"
CREDENTIALS = {
    "console-jwt-secret": JWT_SECRET,
    "telegram-token": TOKEN,
    "telegram-secret-token": SECRET_TOKEN,
    "model-default-api-key": "the-key-of-the-model",
}
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[(INFO|WARNING|ERROR)\] \S.*$")


@contextmanager
def program(folder: Path, pause: float = 0.0, **more: Any) -> Iterator[Program]:
    def fails(question: str) -> bool:
        return "unanswerable" in question

    channels = {
        # No server listens there, so that the log contains failed calls.
        "telegram": {"mode": "webhook", "api_base": "http://127.0.0.1:9"},
        "console": {},
    }
    with (
        serving(model_server(pause, fails)) as model,
        Program(folder, model, channels, CREDENTIALS, public_url="https://bot.example.com", **more) as made,
    ):
        yield made


def ask(program: Program, text: str, id: str = "1") -> str:
    token = jwt.encode({"sub": "ada", "exp": time.time() + 60, "jti": uuid.uuid4().hex}, JWT_SECRET)
    response = httpx.post(
        f"{program.url}/console/v1/messages",
        json={"text": text, "id": id},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        verify=NO_TLS,
        timeout=30.0,
    )
    return response.text


def eventually(check: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_systemd_notifications_from_start_to_stop(tmp_path: Path) -> None:
    notified: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, program(tmp_path, pause=0.4) as bot:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.2)
        bot.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        bot.start()
        bot.wait_alive()

        def hear(word: str) -> bool:
            try:
                notified.append(manager.recv(4096).decode())
            except TimeoutError:
                return False
            return word in notified[-1]

        eventually(lambda: hear("READY=1"))
        eventually(lambda: hear("WATCHDOG=1"))
        assert bot.get("/readyz").json() == {"database": True, "engine": True}
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(ask(bot, "finish this")))
        asking.start()
        eventually(bot.waiting)
        assert bot.terminate() == 0
        asking.join(10.0)
        eventually(lambda: hear("STOPPING=1"))
    assert '"re: finish this"' in answers[0]


class SlowToStart:
    """A bot that takes a while to queue the unfinished work of an earlier run."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.store = self

    def http_application(self) -> Starlette:
        async def asked(_: Request) -> Response:
            self.happened.append("asked")
            return Response()

        return Starlette(routes=[Route("/", asked)])

    async def start(self) -> None:
        await asyncio.sleep(0.3)
        self.happened.append("started")

    async def stop(self) -> None:
        self.happened.append("stopped")

    async def close(self) -> None:
        self.happened.append("closed")


async def _asked_while_starting() -> list[str]:
    bot = SlowToStart()
    with listen_on(Listen(port=0)) as listener:
        serving = asyncio.create_task(serve(cast(BotService, bot), [BoundSocket(listener)]))
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
            await http.get(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=10.0)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    return bot.happened


async def test_unfinished_messages_are_queued_before_new_ones() -> None:
    assert await _asked_while_starting() == ["started", "asked", "stopped", "closed"]


async def test_idle_timeout_is_longer_than_nginx_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[uvicorn.Config] = []

    class Noted(process._Server):
        def __init__(self, config: uvicorn.Config) -> None:
            configured.append(config)
            super().__init__(config)

    monkeypatch.setattr(process, "_Server", Noted)
    await _asked_while_starting()
    assert [config.timeout_keep_alive > 60 for config in configured] == [True]


def test_log_has_events_and_no_secrets(tmp_path: Path) -> None:
    with program(tmp_path) as bot:
        bot.start()
        bot.wait_alive()
        assert "re: my private words" in ask(bot, "my private words")
        assert "Sorry, the model rejected" in ask(bot, "unanswerable private words", "2")
        headers = {"X-Telegram-Bot-Api-Secret-Token": SECRET_TOKEN}
        for body in (b'{"update_id": "private words"', b'{"message": "private words"}'):
            httpx.post(
                f"{bot.url}/telegram/webhook", content=body, headers=headers, trust_env=False, verify=NO_TLS
            )
        with sqlite3.connect(bot.database) as database:
            database.execute("DROP TABLE turns")
        unanswered = threading.Thread(target=lambda: _ignoring(lambda: ask(bot, "private words", "3")))
        unanswered.start()
        eventually(lambda: "no such table" in bot.log.read_text())
        bot.kill()
        unanswered.join(10.0)
    log = bot.log.read_text()
    for secret in (*CREDENTIALS.values(), TOKEN.partition(":")[2], "private words"):
        assert secret not in log
    assert all(LINE.match(line) for line in log.splitlines()), log
    assert "console message 1: answered" in log
    assert "model default: HTTP 400" in log
    assert "Telegram getMe: ConnectError" in log


def _ignoring(act: Callable[[], object]) -> None:
    try:
        act()
    except httpx.HTTPError:
        return


def test_missing_secrets_prevent_start(tmp_path: Path) -> None:
    with program(tmp_path) as bot:
        (tmp_path / "credentials" / "telegram-secret-token").unlink()
        (tmp_path / "credentials" / "console-jwt-secret").write_text("")
        assert bot.start().wait(20.0) == 2
    log = bot.log.read_text()
    assert "telegram-secret-token: No such file" in log
    assert "console-jwt-secret: empty" in log
    assert "Traceback" not in log


def test_invalid_settings_are_reported(tmp_path: Path) -> None:
    with program(tmp_path, language="klingon") as bot:
        assert bot.start().wait(20.0) == 2
    assert f"{tmp_path}/bot.json: language:" in bot.log.read_text()


def test_unusable_database_exits_with_1(tmp_path: Path) -> None:
    with program(tmp_path, database=f"sqlite:///{tmp_path}/no/such/folder/bot.db") as bot:
        assert bot.start().wait(20.0) == 1
    assert "no/such/folder" in bot.log.read_text()


def test_port_in_use_exits_with_2(tmp_path: Path) -> None:
    with program(tmp_path) as bot, socket.socket() as other:
        other.bind(("127.0.0.1", bot.port))
        other.listen()
        assert bot.start().wait(20.0) == 2
    assert f"cannot listen on 127.0.0.1:{bot.port}: Address already in use" in bot.log.read_text()


@pytest.mark.parametrize("arguments", [[], ["--config"]])
def test_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    from clawd_runtime.bot.service.main import main

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_invalid_http_is_logged_once_a_minute(tmp_path: Path) -> None:
    with program(tmp_path) as started:
        started.start()
        started.wait_alive()
        for number in range(20):
            with socket.create_connection(("127.0.0.1", started.port), timeout=10) as stranger:
                stranger.sendall(b"nonsense %d\r\n\r\n" % number)
                stranger.recv(1000)
        started.terminate()
        assert started.log.read_text().count("Invalid HTTP request") == 1


def test_early_disconnects_are_not_errors(tmp_path: Path) -> None:
    token = jwt.encode({"sub": "ada", "exp": time.time() + 60, "jti": uuid.uuid4().hex}, JWT_SECRET)
    head = (
        "POST /console/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        f"Authorization: Bearer {token}\r\n"
    )
    with program(tmp_path) as started:
        started.start()
        started.wait_alive()
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", started.port), timeout=10) as stranger:
                stranger.sendall(f"{head}\r\n{{".encode())
        eventually(lambda: "client disconnected" in started.log.read_text())
        started.terminate()
        log = started.log.read_text()
        assert "Traceback" not in log
        assert log.count("client disconnected") == 1
